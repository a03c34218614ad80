package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/spf13/cobra"

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
	entries, err := g.history(ctx, c, project, name)
	if err != nil {
		return err
	}
	now := entries[0]
	to, err := target(entries, project, name, o.to)
	if err != nil {
		return err
	}
	p, err := g.project(ctx, c, project)
	if err != nil {
		return err
	}
	d := to.Back(spec(p, name))
	d.Operation, d.By, d.At, d.From, d.Reason = rand.Text(), operator(g.env.Getenv), time.Now().UTC(), workplace(), o.reason
	gen, err := c.SetDesired(ctx, project, name, d, etcdstate.IfGeneration(now.Generation))
	if err != nil {
		return fmt.Errorf("roll %q back: %w", name, err)
	}
	fmt.Fprintf(g.env.Out, "Rolling component %s back to generation %d\n", name, to.Generation)
	fmt.Fprintf(g.env.Out, "Component %s -> %s\n", name, component.Short(d.ImageID))
	if !o.wait {
		return nil
	}
	return g.follow(ctx, c, project, []release{{name: name, d: d, gen: gen}}, o.timeout)
}

// target is the past release that a rollback goes to.
func target(entries []component.Past, project, name string, to int64) (component.Past, error) {
	now := entries[0]
	if to == 0 {
		p, ok := component.BackFrom(now.Desired, entries[1:])
		if !ok {
			return p, fail(exitRefused, "there is no release of %s to go back to: none before generation %d that differs from it ended done", name, now.Generation).
				withHint("'gantryd history %s -c %s' lists what there was; --to takes any of it", project, name)
		}
		return p, nil
	}
	e, err := entry(entries, project, name, to)
	switch {
	case err != nil:
		return e, err
	case e.Desired.ImageID == "":
		return e, fail(exitRefused, "generation %d of %s names no image ID", to, name)
	case to == now.Generation && now.Desired.Status == component.StatusReady:
		return e, fail(exitRefused, "generation %d of %s is what is asked for now", to, name)
	}
	return e, nil
}
