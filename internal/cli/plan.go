package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// exitChanges is plan's way of saying that an update would change something.
const exitChanges = 10

// quiet is an exit code without an error.
type quiet int

func (q quiet) Error() string { return fmt.Sprintf("exit code %d", int(q)) }

func (g *gantryd) planCmd() *cobra.Command {
	var o updateOptions
	var form string
	cmd := &cobra.Command{
		Use: "plan PROJECT -c COMPONENT...", Short: "Show what an update would do, and do nothing",
		Long: `Shows for each component what an update would change: fields of the release, the hosts
that would get new containers and how many at a time, and which of them run no container
of the image yet. The exit code is 0 when there is nothing to do, 10 when there are changes,
and 1 or more after an error. The revision is what 'update --if-revision' takes.`,
		Example: "  gantryd plan shop -c web\n  gantryd plan shop --all -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := g.wanted(o).Check()
			if err == nil {
				err = knownForm(form)
			}
			if err == nil {
				_, err = pullPolicy(o.pull)
			}
			if err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.plan(cmd.Context(), c, args[0], form, o) })
		},
	}
	g.addComponents(cmd, "components to plan for")
	g.addTogether(cmd, &o)
	cmd.Flags().StringVar(&o.pull, "pull", "missing", "when to pull the image here first: missing, always or never")
	o.policy.add(cmd)
	addOutput(cmd, &form)
	return cmd
}

func (g *gantryd) plan(ctx context.Context, c *etcdstate.Client, project, form string, o updateOptions) error {
	p, err := g.project(ctx, c, project)
	if err != nil {
		return err
	}
	u := g.wanted(o)
	rs, same, err := g.resolve(ctx, project, p, u, o.pull)
	if err != nil {
		return err
	}
	plans := operator.Plans(p, rs, same)
	changes := slices.ContainsFunc(plans, func(pl api.Plan) bool { return pl.Change != "none" })
	err = printData(g.env.Out, form, map[string]any{"items": plans}, func() { printPlan(g.env.Out, plans) })
	if err == nil && changes {
		return quiet(exitChanges)
	}
	return err
}

func printPlan(w io.Writer, plans []api.Plan) {
	for _, p := range plans {
		switch p.Change {
		case "none":
			fmt.Fprintf(w, "%s: nothing to do\n", p.Component)
			continue
		case "retry":
			fmt.Fprintf(w, "%s: the same again, after a halt\n", p.Component)
		default:
			fmt.Fprintf(w, "%s: update of generation %d\n", p.Component, p.Revision)
		}
		if p.Follows != "" {
			fmt.Fprintf(w, "  after %s\n", p.Follows)
		}
		printChanges(w, p.Changes)
		if len(p.Hosts) == 0 {
			fmt.Fprintln(w, "  no host gets a new container now")
			continue
		}
		if len(p.PreDeploy) > 0 {
			fmt.Fprintf(w, "  pre-deploy task first: %s\n", clean(strings.Join(p.PreDeploy, " ")))
		}
		how := fmt.Sprintf("%d at a time", p.MaxParallel)
		if p.Canary > 0 {
			how += fmt.Sprintf(", %d first as canaries", p.Canary)
		}
		fmt.Fprintf(w, "  hosts: %s (%s)\n", strings.Join(p.Hosts, ", "), how)
		if len(p.Drained) > 0 {
			fmt.Fprintf(w, "  once they are in service again: %s\n", strings.Join(p.Drained, ", "))
		}
		if len(p.Pull) > 0 {
			fmt.Fprintf(w, "  image not in use yet on: %s\n", strings.Join(p.Pull, ", "))
		}
	}
}
