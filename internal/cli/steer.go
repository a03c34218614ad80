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

// steering is one of the commands that say something about a rollout.
type steering struct {
	action            operator.Action
	short, long, said string
}

//nolint:gochecknoglobals // a constant table
var steerings = []steering{
	{
		operator.Pause, "Let no further host begin with the rollout of a component",
		"Hosts in their turn end it. What serves goes on, and what breaks is repaired. Deadlines stand still.", "Paused",
	},
	{operator.Resume, "Let the rollout of a component go on after a pause", "Hosts begin again, one after another.", "Resumed"},
	{
		operator.Promote, "Let the hosts besides the canaries begin",
		"The canaries are the hosts that rollout.canary lets begin first. A promotion before they\nare done lets the others begin at once.", "Promoted",
	},
	{
		operator.Abort, "Halt the rollout of a component",
		"Hosts in their turn go back to the release before. Those that had theirs stay on the new\none, unless rollout.onFailure is rollback: then all go back.", "Aborted",
	},
	{
		operator.Retry, "Give a rollout that halted, or passed hosts over, a new try",
		"The same generation is tried again, where the cause was not in the release.", "Tried again",
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
		Use: string(s.action) + " PROJECT -c COMPONENT", Short: s.short, Long: s.short + ".\n\n" + s.long,
		Example: "  gantryd " + string(s.action) + " shop -c web",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := g.one()
			if err != nil {
				return err
			}
			w := component.Word{By: person(g.env.Getenv), At: time.Now().UTC(), Reason: reason}
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
	if _, err := g.project(ctx, c, project); err != nil { // it warns of what cannot be read
		return err
	}
	gen, err := operator.Steer(ctx, c, project, name, s.action, w, generation)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.env.Out, "%s: component %s, generation %d\n", s.said, name, gen)
	return nil
}
