package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gantryd/gantryd/internal/agent"
	"github.com/gantryd/gantryd/internal/version"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
)

// checkInEvery is how often -m says that it is still there.
const checkInEvery = 30 * time.Second

const gantryLong = `gantry runs the components of a project file on this machine: it starts a new container
beside the old one, waits until it is ready, moves new connections to it, and lets the
old one finish its own. No etcd is needed.

Actions: start, update, list, drain, stop, kill. The proxies and drains live in a background
agent, which the first command starts ('gantry agent' runs it in the foreground).`

const gantryExample = `  gantry gantryd.json start web
  gantry gantryd.json update web
  gantry gantryd.json update web --setconfig tag=v2 -m
  gantry gantryd.json list web
  gantry gantryd.json drain web --watch
  gantry gantryd.json stop web`

// gantry is what its commands share.
type gantry struct {
	env       Env
	argv      []string // as given
	monitor   bool
	overrides []string
	stateDir  string
	keepAgent bool
	form      string
	follow    bool
}

// actions are what gantry does to a component.
func actions() []string { return []string{"start", "update", "list", "drain", "stop", "kill"} }

// Gantry runs the command gantry and returns its exit code.
func Gantry(ctx context.Context, argv []string, env Env) int {
	g := &gantry{env: env, argv: argv}
	root := g.root()
	root.SetArgs(argv)
	return finish(env, "gantry", usage(root.ExecuteContext(ctx)))
}

func (g *gantry) root() *cobra.Command {
	root := &cobra.Command{
		Use: "gantry CONFIGFILE ACTION COMPONENT [-m] [--setconfig OVERRIDE]...", Short: "Zero-downtime container updates on one machine",
		Long: gantryLong, Example: gantryExample,
		SilenceUsage: true, SilenceErrors: true, Version: version.Get().String(),
		Args:              args(cobra.ExactArgs(3)),
		RunE:              func(cmd *cobra.Command, a []string) error { return g.act(cmd.Context(), a[0], a[1], a[2]) },
		ValidArgsFunction: g.complete,
	}
	root.SetIn(g.env.In)
	root.SetOut(g.env.Out)
	root.SetErr(g.env.Err)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().StringVar(&g.stateDir, "state-dir", "", "directory of the agent (GANTRY_STATE_DIR; default /var/lib/gantry, or in the home directory)")
	fs := root.Flags()
	fs.BoolVarP(&g.monitor, "monitor", "m", false, "after start or update: stay and tell how the component is")
	fs.StringArrayVar(&g.overrides, "setconfig", nil, "change a field for this command: tag=v2, command=-v, ports.8080.kind=http")
	fs.BoolVar(&g.keepAgent, "keep-agent", g.env.Getenv("GANTRY_KEEP_AGENT") != "", "leave an agent of an older version as it is, do not upgrade it (GANTRY_KEEP_AGENT)")
	fs.StringVarP(&g.form, "output", "o", formTable, "form of list and drain: table, json or yaml")
	fs.BoolVarP(&g.follow, "watch", "w", false, "with drain: go on until nobody is left")
	root.AddCommand(g.agentCmd(), g.upgradeCmd(), validateCmd(g.env), schemaCmd(), versionCmd(), holdCmd(g.env))
	return root
}

func (g *gantry) act(ctx context.Context, path, action, name string) error {
	if !slices.Contains(actions(), action) {
		return fail(exitUsage, "unknown action %q: start, update, list, drain, stop or kill", action)
	}
	if err := knownForm(g.form); err != nil {
		return err
	}
	p, err := readProject(g.env, path)
	if err != nil {
		return err
	}
	if p, err = override(p, name, g.overrides); err != nil {
		return err
	}
	dir, err := g.dir()
	if err != nil {
		return err
	}
	if _, err := agent.Socket(dir); err != nil {
		return fail(exitUsage, "%w", err).withHint("name a shorter one with --state-dir or GANTRY_STATE_DIR")
	}
	c, err := agent.Ensure(ctx, dir, append(slices.Clone(g.env.Self), "agent", "--state-dir", dir))
	if err != nil {
		return err
	}
	g.renew(ctx, c, dir)
	switch action {
	case "list":
		return g.list(ctx, c, name)
	case "drain":
		return g.drain(ctx, c, name)
	}
	req := agent.Request{Action: agent.Action(action), Component: name, Project: p, By: person(g.env.Getenv)}
	if err := c.Do(ctx, req, g.story); err != nil {
		return explain(err)
	}
	if g.monitor && (action == "start" || action == "update") {
		return g.watch(ctx, c, name)
	}
	return nil
}

// renew upgrades an agent that is older than this command. Of two versions that cannot be ordered neither replaces
// the other, or commands of both would do so in turn. The command goes on with whatever agent there is.
func (g *gantry) renew(ctx context.Context, c *agent.Client, dir string) {
	info, err := c.Ping(ctx)
	mine := version.Get().String()
	if err != nil || g.keepAgent || info.Version == mine || version.Older(mine, info.Version) {
		return
	}
	if !version.Older(info.Version, mine) {
		fmt.Fprintf(g.env.Err, "note: the agent is of version %s, this command of %s; 'gantry upgrade' replaces the agent\n", info.Version, mine)
		return
	}
	s, err := askUpgrade(ctx, dir, g.env.Self[0], upgradeWithin)
	if err != nil {
		fmt.Fprintf(g.env.Err, "warning: the agent is still of version %s: %v\n", info.Version, err)
		return
	}
	fmt.Fprintf(g.env.Err, "The agent was upgraded from %s to %s\n", info.Version, s.Version)
}

// explain adds the container's last words to the error.
func explain(err error) error {
	var e *agent.Error
	if errors.As(err, &e) && len(e.Log) > 0 {
		return fmt.Errorf("%w\nlast log lines of the container:\n  %s", err, strings.Join(e.Log, "\n  "))
	}
	return err
}

// override applies --setconfig to a component, which must be there, and validates the result.
func override(p component.Project, name string, overrides []string) (component.Project, error) {
	i := slices.IndexFunc(p.Components, func(c component.Spec) bool { return c.Name == name })
	if i < 0 {
		return p, fail(exitNotFound, "Unknown component: %s", name)
	}
	if len(overrides) == 0 {
		return p, nil
	}
	s, err := config.Override(p.Components[i], overrides)
	if err != nil {
		return p, fail(exitUsage, "%w", err)
	}
	p.Components = slices.Clone(p.Components)
	p.Components[i] = s
	if err := config.Validate(p); err != nil {
		return p, fail(exitUsage, "%w", err)
	}
	return p, nil
}

func (g *gantry) dir() (string, error) {
	dir := g.stateDir
	if dir == "" {
		dir = g.env.Getenv("GANTRY_STATE_DIR")
	}
	if dir != "" {
		return filepath.Abs(dir)
	}
	return stateHome(g.env, "gantry")
}

// story prints an event of an action, but for the failure that ends it: the error says that one.
func (g *gantry) story(e component.Event) {
	if e.Kind != component.EventFailed {
		g.print(e)
	}
}

func (g *gantry) print(e component.Event) {
	w := g.env.Out
	if e.Kind == component.EventPull {
		w = g.env.Err // progress
	}
	text := e.Text
	if e.Detail != "" && (e.Kind == component.EventCheckFailed || e.Kind == component.EventWaiting || e.Kind == component.EventCrashed) {
		text += ": " + e.Detail
	}
	fmt.Fprintln(w, clean(text))
}

func (g *gantry) list(ctx context.Context, c *agent.Client, name string) error {
	st, err := c.Status(ctx, name)
	if err != nil {
		return err
	}
	rows := slices.DeleteFunc(slices.Clone(st.Containers), func(c component.ContainerStatus) bool { return c.Stage == component.Stopped })
	if len(rows) == 0 && g.form == formTable {
		return fail(exitRefused, "Component %s is not running", name) // as stop says it
	}
	if st.RouteErr != "" {
		fmt.Fprintf(g.env.Err, "warning: %s\n", clean(st.RouteErr))
	}
	slices.SortStableFunc(rows, func(a, b component.ContainerStatus) int { return b.Created.Compare(a.Created) })
	return printData(g.env.Out, g.form, st, func() {
		row(g.env.Out, "CONTAINER ID", "UPTIME", "IMAGE ID", "STATUS")
		for _, c := range rows {
			row(g.env.Out, component.Short(c.ID), c.Status, imageName(c), word(c))
		}
	})
}

// askEvery is how often drain --watch asks the agent.
const askEvery = time.Second

// drain shows whose connections keep the component's old containers.
func (g *gantry) drain(ctx context.Context, c *agent.Client, name string) error {
	v := newDrainView(g.env.Out, g.form)
	if !g.follow {
		st, err := c.Status(ctx, name)
		if err != nil {
			return err
		}
		return v.print(drains(name, st))
	}
	return v.watch(ctx, func(ctx context.Context, show func([]draining)) error {
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		for {
			st, err := c.Status(ctx, name)
			if err != nil {
				return err
			}
			show(drains(name, st))
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// complete gives a shell the file, the action, and the components of the file.
func (g *gantry) complete(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var found []string
	switch len(args) {
	case 0:
		return nil, cobra.ShellCompDirectiveDefault
	case 1:
		found = actions()
	case 2:
		p, err := readProject(g.env, args[0])
		if err != nil {
			break // nothing to complete
		}
		for _, s := range p.Components {
			found = append(found, s.Name)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// imageName is the image as Docker names it, or its short ID when nothing names it.
func imageName(c component.ContainerStatus) string {
	if c.Image == "" || strings.HasPrefix(c.Image, "sha256:") || strings.Contains(c.Image, "@sha256:") {
		return component.Short(c.ImageID)
	}
	return c.Image
}

// word is the stage in the original's words.
func word(c component.ContainerStatus) string {
	switch c.Stage {
	case component.Starting:
		return "starting"
	case component.Serving:
		return "running"
	case component.Draining:
		return "draining"
	case component.Stopped:
		return "shutting-down"
	}
	return "unknown"
}

// watch tells how the component is until Ctrl-C. The agent does the work.
func (g *gantry) watch(ctx context.Context, c *agent.Client, name string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprintf(g.env.Out, "Starting monitoring of component: %s\n", name)
	eg, both := errgroup.WithContext(ctx)
	eg.Go(func() error {
		return c.Follow(both, name, func(e component.Event) {
			if e.Kind == component.EventUnhealthy || e.Kind == component.EventCrashed {
				e.Text = "Component " + name + " is not healthy. Killing and restarting"
			}
			g.print(e)
		})
	})
	eg.Go(func() error { return g.checkIn(both, c, name) })
	err := eg.Wait()
	if ctx.Err() != nil {
		fmt.Fprintf(g.env.Out, "Terminating monitoring of component: %s\n", name)
		return nil
	}
	return err
}

// checkIn says every now and then how the component is.
func (g *gantry) checkIn(ctx context.Context, c *agent.Client, name string) error {
	tick := time.NewTicker(checkInEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		fmt.Fprintf(g.env.Out, "Checking in on component %s\n", name)
		st, err := c.Status(ctx, name)
		if err != nil {
			return err
		}
		for _, cs := range st.Containers {
			if cs.Primary && cs.Health == component.Unhealthy {
				fmt.Fprintf(g.env.Out, "Component %s is not healthy: %s\n", name, clean(cs.Problem))
			}
		}
	}
}
