package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/engine"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// updateOptions are the flags of update.
type updateOptions struct {
	all         bool
	together    []string
	wait        bool
	timeout     time.Duration
	pull        string
	reason      string
	restart     bool
	policy      policyFlags
	ifRevision  int64
	conditional bool
}

func (g *gantryd) updateCmd() *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use: "update PROJECT -c COMPONENT...", Short: "Roll the current image and configuration of components out",
		Long: `Reads the image of each component's repo:tag from this machine's Docker Engine (it is
pulled when absent), and makes it what all hosts are to run, pinned by content. The
hosts follow one after another. A host that cannot get the new container ready halts
the rollout: the others keep what they run. A new update is a new try.

With --all, the components that change follow one another, those that export links before
those that import them; the first failure stops those that have not begun. With --together
they are one release as well: when one fails, all go back. All of it is stored at once: no
command has to stay for it.`,
		Example: "  gantryd update shop -c web --wait\n  gantryd update shop -c web worker\n  gantryd update shop --all --pull always\n  gantryd update shop --together api,web --wait",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.conditional = cmd.Flags().Changed("if-revision")
			if err := g.wanted(o).Check(); err != nil {
				return err
			}
			if _, err := pullPolicy(o.pull); err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.update(cmd.Context(), c, args[0], o) })
		},
	}
	g.addComponents(cmd, "components to update")
	fs := cmd.Flags()
	g.addTogether(cmd, &o)
	fs.BoolVar(&o.wait, "wait", false, "follow the rollout to its end; the exit code tells how it ended")
	fs.DurationVar(&o.timeout, "timeout", 10*time.Minute, "longest wait, with --wait; the rollout goes on after it")
	fs.StringVar(&o.pull, "pull", "missing", "when to pull the image here first: missing, always or never")
	fs.StringVar(&o.reason, "reason", "", "why, for those who read the state later")
	fs.Int64Var(&o.ifRevision, "if-revision", 0, "update only when this generation is what is asked for still (0: nothing is yet); 'plan' tells it")
	o.policy.add(cmd)
	fs.BoolVar(&o.restart, "restart", false, "new containers even when image and configuration are the same")
	return cmd
}

func (g *gantryd) update(ctx context.Context, c *etcdstate.Client, name string, o updateOptions) error {
	p, err := g.project(ctx, c, name)
	if err != nil {
		return err
	}
	u := g.wanted(o)
	rs, same, err := g.resolve(ctx, name, p, u, o.pull)
	if err != nil {
		return err
	}
	for _, n := range same {
		fmt.Fprintf(g.env.Out, "Component %s: nothing to do\n", n)
	}
	if len(rs) == 0 {
		return nil
	}
	fmt.Fprintln(g.env.Out, "Updating the image IDs on components")
	err = operator.Write(ctx, c, name, u, rs, func(r operator.Release) {
		fmt.Fprintf(g.env.Out, "Component %s -> %s\n", r.Name, component.Short(r.Desired.ImageID))
	})
	if err != nil {
		return err
	}
	if !o.wait {
		return nil
	}
	return g.follow(ctx, c, name, rs, o.timeout)
}

// addTogether adds what names several components at once.
func (g *gantryd) addTogether(cmd *cobra.Command, o *updateOptions) {
	cmd.Flags().BoolVar(&o.all, "all", false, "all components of the project, one after another in the order of their links")
	cmd.Flags().StringSliceVar(&o.together, "together", nil, "these components as one release, such as api,web: when one fails, all go back")
	_ = cmd.RegisterFlagCompletionFunc("together", g.completeComponent) // fails for an unknown flag only
}

// named makes sure that the components are named, or that all of them are meant.
func (g *gantryd) named(all bool) error {
	if all == (len(g.components) > 0) {
		return fail(exitUsage, "name the components with -c, or give --all")
	}
	return nil
}

// wanted is the update that the flags ask for.
func (g *gantryd) wanted(o updateOptions) operator.Update {
	u := operator.Update{
		Components: g.components, All: o.all, Together: o.together, Reason: o.reason, Restart: o.restart, Policy: o.policy.overrides(),
	}
	if o.conditional {
		u.IfGeneration = &o.ifRevision
	}
	return u
}

// who is the person who gives the command.
func (g *gantryd) who() operator.Who {
	return operator.Who{By: person(g.env.Getenv), From: workplace()}
}

// resolve pins the image of each component by its content. Nothing is stored before all of them are
// known.
func (g *gantryd) resolve(ctx context.Context, project string, p etcdstate.Project, u operator.Update, pull string) ([]operator.Release, []string, error) {
	policy, err := pullPolicy(pull)
	if err != nil {
		return nil, nil, err
	}
	who := g.who()
	e, err := engine.New(engine.Options{Project: project, Host: who.By, Log: g.log(), Getenv: g.env.Getenv})
	if err != nil {
		return nil, nil, fail(exitUnreachable, "%w", err)
	}
	defer e.Close()
	return operator.Resolve(ctx, p, u, who, func(ctx context.Context, ref string) (component.Image, string, error) {
		return e.Resolve(ctx, ref, policy, func(text string) { fmt.Fprintln(g.env.Err, text) })
	})
}

func pullPolicy(s string) (engine.PullPolicy, error) {
	switch s {
	case "missing":
		return engine.PullMissing, nil
	case "always":
		return engine.PullAlways, nil
	case "never":
		return engine.PullNever, nil
	}
	return "", fail(exitUsage, "--pull %q: missing, always or never", s)
}

func (g *gantryd) endCmd(action string, status component.Status, short string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: action + " PROJECT -c COMPONENT...", Short: short,
		Long:    short + ".\n\nThe components stay down, also on hosts that start later, until the next update.",
		Example: "  gantryd " + action + " shop -c web",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := g.named(all); err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.end(cmd.Context(), c, args[0], action, status) })
		},
	}
	g.addComponents(cmd, "components to "+action)
	cmd.Flags().BoolVar(&all, "all", false, "all components of the project")
	return cmd
}

func (g *gantryd) end(ctx context.Context, c *etcdstate.Client, name, action string, status component.Status) error {
	p, err := g.project(ctx, c, name)
	if err != nil {
		return err
	}
	which, err := operator.Pick(operator.Names(p), g.components)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.env.Out, "Marking components as %s\n", status)
	for _, n := range which {
		if _, err := operator.End(ctx, c, name, n, status, action, g.who()); err != nil {
			return err
		}
		fmt.Fprintf(g.env.Err, "Marking component %s as %s\n", n, status)
	}
	return nil
}
