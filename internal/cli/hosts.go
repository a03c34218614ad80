package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func (g *gantryd) hostsCmd() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "hosts PROJECT", Short: "List the hosts of a project: what each runs, changes, and was lost in",
		Long: `Lists the hosts whose daemon runs, those that are drained, and those that were lost in the
middle of a turn, or as canaries: rollouts wait for them until they are back, forgotten, or
a deadline halts the rollout.`,
		Example: "  gantryd hosts shop\n  gantryd hosts shop -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.show(cmd.Context(), args[0], form, func(p etcdstate.Project, _ []string) error {
				rows := operator.Hosts(p)
				return printData(g.env.Out, form, map[string]any{"items": rows}, func() {
					table := [][]string{{"HOST", "STATUS", "IP", "VERSION", "UP", "COMPONENTS", "TURNS", "LOST IN"}}
					for _, r := range rows {
						table = append(table, []string{
							r.Host, r.Status, dash(r.IP), dash(r.Version), age(time.Now(), r.StartedAt),
							dash(strings.Join(r.Components, ",")), dash(strings.Join(r.Turns, ",")), dash(strings.Join(r.LostIn, ",")),
						})
					}
					grid(g.env.Out, table)
					for _, r := range rows {
						if r.Drained != nil {
							fmt.Fprintln(g.env.Out, outOfService(r.Host, *r.Drained, time.Now()))
						}
					}
				})
			})
		},
	}
	addOutput(cmd, &form)
	return cmd
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (g *gantryd) forgetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "forget PROJECT HOST", Short: "Let rollouts wait no longer for a host that is gone for good",
		Long: `A host that was lost in the middle of a turn counts as unavailable, and rollouts wait for
it, as for a canary. This takes it off the list, and another host becomes the canary. A
host that was drained is no longer, should one of that name come back. A host whose daemon
runs cannot be forgotten.`,
		Example: "  gantryd forget shop h3",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.forget(cmd.Context(), c, args[0], args[1]) })
		},
	}
}

func (g *gantryd) forget(ctx context.Context, c *etcdstate.Client, project, host string) error {
	p, err := g.project(ctx, c, project)
	if err != nil {
		return err
	}
	waited, drained, err := c.Forget(ctx, project, host)
	switch {
	case errors.Is(err, etcdstate.ErrAlive):
		return fail(exitRefused, "host %s is alive: its daemon runs", host).withHint("stop it first; what it serves goes on")
	case err != nil:
		return err
	case len(waited) == 0 && !drained:
		return fail(exitNotFound, "nothing waits for a host named %s", host).withHint("'gantryd hosts %s' lists them", project)
	}
	fmt.Fprintf(g.env.Out, "Forgot host %s: nothing waits for it any more\n", host)
	for _, n := range waited {
		if v := p.Components[n]; v.Record().Status == component.RolloutProgressing {
			fmt.Fprintf(g.env.Err, "the rollout of %s goes on\n", n)
		}
	}
	return nil
}
