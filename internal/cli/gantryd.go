package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/internal/version"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// gantryd is what its commands share.
type gantryd struct {
	env        Env
	argv       []string // as given
	etcd       etcdFlags
	components []string
}

const gantrydLong = `gantryd rolls new releases of containers out over the hosts of a project, one after
another, without losing a connection.

A project's components are described in a file (JSON or YAML) that setconfig stores in
etcd. 'update' says which image to run; each host's daemon ('run') starts the new
container beside the old one, waits until it is ready, moves new connections to it,
and lets the old one finish its own.`

const gantrydExample = `  gantryd setconfig shop gantryd.json       # store the project's configuration
  gantryd run shop                          # on each host: run its components
  gantryd update shop -c web --wait         # roll the image of web:tag out
  gantryd status shop                       # what every host is doing
  gantryd stop shop -c web                  # drain and stop`

// Gantryd runs the command gantryd and returns its exit code.
func Gantryd(ctx context.Context, args []string, env Env) int {
	g := &gantryd{env: env, argv: args}
	root := g.root()
	root.SetArgs(gantrydArgs(args))
	return finish(env, "gantryd", usage(root.ExecuteContext(ctx)))
}

func (g *gantryd) root() *cobra.Command {
	root := &cobra.Command{
		Use: "gantryd ACTION PROJECT [CONFIGFILE] [-c COMPONENT...]", Short: "Zero-downtime container rollouts for fleets",
		Long: gantrydLong, Example: gantrydExample,
		SilenceUsage: true, SilenceErrors: true, Version: version.Get().String(),
	}
	root.SetIn(g.env.In)
	root.SetOut(g.env.Out)
	root.SetErr(g.env.Err)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	g.etcd.add(root)
	root.AddCommand(
		g.setconfigCmd(), g.getconfigCmd(), validateCmd(g.env), schemaCmd(),
		g.updateCmd(), g.runCmd(), g.upgradeCmd(), g.listCmd(), g.statusCmd(), g.drainCmd(),
		g.endCmd("stop", component.StatusStopped, "Drain and stop components on all hosts"),
		g.endCmd("kill", component.StatusKilled, "Kill components on all hosts, without a drain"),
		g.planCmd(), g.historyCmd(), g.diffCmd(), g.rollbackCmd(), g.hostsCmd(), g.hostCmd(), g.forgetCmd(), g.whyCmd(), g.eventsCmd(),
		g.apiCmd(), g.tokenCmd(), g.etcdCmd(), g.adoptCmd(), g.proxyCmd(), versionCmd(), holdCmd(g.env),
	)
	root.AddCommand(g.steerCmds()...)
	for _, cmd := range root.Commands() {
		if words := strings.Fields(cmd.Use); len(words) > 1 && words[1] == "PROJECT" {
			cmd.ValidArgsFunction = g.completeProject
		}
	}
	return root
}

// usage marks an unknown command, the one mistake that the flag library reports in its own way.
func usage(err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) || !strings.HasPrefix(err.Error(), "unknown command") {
		return err
	}
	return fail(exitUsage, "%w", err).withHint("see --help")
}

// args makes a wrong number of arguments a mistake of usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return fail(exitUsage, "%w", err).withHint("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// flagError makes a wrong flag a mistake of usage.
func flagError(cmd *cobra.Command, err error) error {
	return fail(exitUsage, "%w", err).withHint("see '%s --help'", cmd.CommandPath())
}

// addComponents adds -c.
func (g *gantryd) addComponents(cmd *cobra.Command, what string) {
	cmd.Flags().StringSliceVarP(&g.components, "component", "c", nil, what+"; -c a b, -c a,b and -c a -c b mean the same")
	_ = cmd.RegisterFlagCompletionFunc("component", g.completeComponent) // fails for an unknown flag only
}

// completeWithin is how long a shell waits for names of projects and components.
const completeWithin = time.Second

// completeComponent gives a shell the components of the project that was named.
func (g *gantryd) completeComponent(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	g.etcd.commandTimeout = completeWithin
	_ = g.with(cmd.Context(), func(c *etcdstate.Client) error { // without an answer there is nothing to complete
		p, err := c.Project(cmd.Context(), args[0])
		found = operator.Names(p)
		return err
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeProject gives a shell the projects that are there, for the first argument.
func (g *gantryd) completeProject(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		if cmd.Name() == "setconfig" && len(args) == 1 {
			return nil, cobra.ShellCompDirectiveDefault // a file
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	g.etcd.commandTimeout = completeWithin
	_ = g.with(cmd.Context(), func(c *etcdstate.Client) error { // without an answer there is nothing to complete
		var err error
		found, err = c.Projects(cmd.Context())
		return err
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}

// log writes warnings only: the commands' own words are the story.
func (g *gantryd) log() *slog.Logger { return logger(g.env, slog.LevelWarn) }

// with runs f with a connection to etcd.
func (g *gantryd) with(ctx context.Context, f func(*etcdstate.Client) error) error {
	cfg, _, err := g.etcd.config(g.env, g.log())
	if err != nil {
		return err
	}
	if err := refused(ctx, cfg.Endpoints); err != nil {
		return err
	}
	c, err := etcdstate.Dial(ctx, cfg)
	if err != nil {
		return fail(exitUsage, "%w", err)
	}
	err = f(c)
	if closeErr := c.Close(); err == nil {
		err = closeErr
	}
	return err
}

// project reads a project that must be there. Values that cannot be read are told; the rest counts.
func (g *gantryd) project(ctx context.Context, c *etcdstate.Client, name string) (etcdstate.Project, error) {
	p, err := operator.Read(ctx, c, name)
	if err != nil {
		return p, err
	}
	if p.Problems != nil {
		fmt.Fprintf(g.env.Err, "warning: %s\n", clean(p.Problems.Error()))
	}
	return p, nil
}
