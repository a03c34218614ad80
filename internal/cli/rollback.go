package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// rollbackOptions are the flags of rollback.
type rollbackOptions struct {
	to      int64
	wait    bool
	timeout time.Duration
	reason  string
}

func (g *gantryd) rollbackCmd() *cobra.Command {
	var o rollbackOptions
	cmd := &cobra.Command{
		Use: "rollback PROJECT -c COMPONENT", Short: "Bring the image and configuration of a past release back on all hosts",
		Long: `Makes a past release, its image and its configuration as one thing, what all hosts are
to run, as a new generation: a rollout like any other, host after host. Without --to it
is the newest release before this one that every host came to and that differs from it.
The image must be on the hosts still, or in its registry.`,
		Example: "  gantryd rollback shop -c web --wait --reason 'checkout is slow'\n  gantryd rollback shop -c web --to 812",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := g.one()
			if err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.rollback(cmd.Context(), c, args[0], name, o) })
		},
	}
	g.addComponents(cmd, "the component to bring back")
	fs := cmd.Flags()
	fs.Int64Var(&o.to, "to", 0, "generation whose release is brought back; 'gantryd history' lists them")
	fs.BoolVar(&o.wait, "wait", false, "follow the rollout to its end; the exit code tells how it ended")
	fs.DurationVar(&o.timeout, "timeout", 10*time.Minute, "longest wait, with --wait; the rollout goes on after it")
	fs.StringVar(&o.reason, "reason", "", "why, for those who read the state later")
	return cmd
}

func (g *gantryd) rollback(ctx context.Context, c *etcdstate.Client, project, name string, o rollbackOptions) error {
	if _, err := g.project(ctx, c, project); err != nil { // it warns of what cannot be read
		return err
	}
	r, err := operator.Rollback(ctx, c, project, name, o.to, g.who(), o.reason)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.env.Out, "Rolling component %s back to generation %d\n", name, r.Desired.Source)
	fmt.Fprintf(g.env.Out, "Component %s -> %s\n", name, component.Short(r.Desired.ImageID))
	if !o.wait {
		return nil
	}
	return g.follow(ctx, c, project, []operator.Release{r}, o.timeout)
}
