package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// A verdict is what an operator's word makes of a rollout.
type verdict func(component.View, component.Word) (component.Rollout, error)

// steering is one of the commands that say something about a rollout.
type steering struct {
	action, short, long, said string
	decide                    verdict
}

//nolint:gochecknoglobals // a constant table
var steerings = []steering{
	{
		"pause", "Let no further host begin with the rollout of a component",
		"Hosts in their turn end it. What serves goes on, and what breaks is repaired. Deadlines stand still.", "Paused", rollout.Pause,
	},
	{"resume", "Let the rollout of a component go on after a pause", "Hosts begin again, one after another.", "Resumed", rollout.Resume},
	{
		"promote", "Let the hosts besides the canaries begin",
		"The canaries are the hosts that rollout.canary lets begin first. A promotion before they\nare done lets the others begin at once.", "Promoted", rollout.Promote,
	},
	{
		"abort", "Halt the rollout of a component",
		"Hosts in their turn go back to the release before. Those that had theirs stay on the new\none, unless rollout.onFailure is rollback: then all go back.", "Aborted", rollout.Abort,
	},
	{
		"retry", "Give a rollout that halted, or passed hosts over, a new try",
		"The same generation is tried again, where the cause was not in the release.", "Tried again", rollout.Retry,
	},
}

// steerCmds are the commands that say something about a rollout.
func (g *gantryd) steerCmds() []*cobra.Command {
	var cmds []*cobra.Command
	for _, s := range steerings {
		cmds = append(cmds, g.steerCmd(s))
	}
	return cmds
}

func (g *gantryd) steerCmd(s steering) *cobra.Command {
	var reason string
	var generation int64
	cmd := &cobra.Command{
		Use: s.action + " PROJECT -c COMPONENT", Short: s.short, Long: s.short + ".\n\n" + s.long,
		Example: "  gantryd " + s.action + " shop -c web",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := g.one()
			if err != nil {
				return err
			}
			w := component.Word{By: operator(g.env.Getenv), At: time.Now().UTC(), Reason: reason}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error {
				return g.steer(cmd.Context(), c, args[0], name, s, w, generation)
			})
		},
	}
	g.addComponents(cmd, "the component")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who read the state later")
	cmd.Flags().Int64Var(&generation, "generation", 0, "do it only when this generation is still what is asked for")
	return cmd
}

func (g *gantryd) steer(ctx context.Context, c *etcdstate.Client, project, name string, s steering, w component.Word, generation int64) error {
	p, err := g.project(ctx, c, project)
	if err != nil {
		return err
	}
	if _, err := pick(names(p), []string{name}); err != nil {
		return err
	}
	gen, err := c.Steer(ctx, project, name, func(v component.View) (component.Rollout, error) {
		if generation != 0 && v.Desired.Generation != generation {
			return component.Rollout{}, fmt.Errorf("%w: generation %d is what is asked for, not %d", rollout.ErrConflict, v.Desired.Generation, generation)
		}
		return s.decide(v, w)
	})
	if errors.Is(err, rollout.ErrConflict) {
		return fail(exitRefused, "cannot %s %s: %s", s.action, name, strings.TrimPrefix(err.Error(), rollout.ErrConflict.Error()+": "))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(g.env.Out, "%s: component %s, generation %d\n", s.said, name, gen)
	return nil
}

// standing says what a rollout that goes on waits for, beyond its hosts; empty when for nothing.
func standing(name string, v component.View) string {
	r := v.Record()
	switch lost := v.Lost(""); {
	case r.Paused != nil && r.Paused.Reason != "":
		return "paused by " + r.Paused.By + ": " + r.Paused.Reason
	case r.Paused != nil:
		return "paused by " + r.Paused.By
	case v.Desired.Follows != "" && !r.Begun:
		return "component " + v.Desired.Follows + " comes first"
	case v.Turn.Tasker != "":
		return "pre-deploy task on " + v.Turn.Tasker
	case rollout.AwaitsPromotion(name, v):
		return "the canaries serve: waits for promote"
	case len(lost) > 0:
		return "host " + strings.Join(lost, ", ") + " was lost in its turn: waits until it is back, or forgotten"
	case len(r.Failed) > 0:
		return "passed over after a failure: " + strings.Join(r.Failed, ", ")
	}
	return ""
}
