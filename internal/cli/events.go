package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

func (g *gantryd) eventsCmd() *cobra.Command {
	var follow bool
	var form string
	cmd := &cobra.Command{
		Use: "events PROJECT", Short: "Show what was asked for and how it ended; with --follow, what happens from now on",
		Long: `Shows what the history keeps: what was asked for of each component and how that ended,
the oldest first. With --follow it goes on with what happens: turns, steps of hosts,
halts, restarts, words of operators, daemons that come and go. What comes between two
looks at etcd is told as what it led to. With -o json each event is a line of JSON.`,
		Example: "  gantryd events shop --follow\n  gantryd events shop -c web -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if form != formTable && form != formJSON {
				return fail(exitUsage, "-o %q: table or json", form)
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.events(cmd.Context(), c, args[0], form, follow) })
		},
	}
	g.addComponents(cmd, "components to tell of")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens, until it is interrupted")
	cmd.Flags().StringVarP(&form, "output", "o", formTable, "table or json")
	return cmd
}

func (g *gantryd) events(ctx context.Context, c *etcdstate.Client, project, form string, follow bool) error {
	p, err := g.project(ctx, c, project)
	if err != nil {
		return err
	}
	which, err := operator.Pick(operator.Names(p), g.components)
	if err != nil {
		return err
	}
	past, err := operator.RecordedEvents(ctx, c, project, p, which)
	if err != nil {
		return err
	}
	for _, e := range past {
		g.sayEvent(e, form)
	}
	if !follow {
		return nil
	}
	before := p // what happened since it was read is told
	return c.Watch(ctx, project, func(after etcdstate.Project) {
		if !after.Cluster.Reachable {
			fmt.Fprintln(g.env.Err, "etcd does not answer; waiting for it")
			return
		}
		for _, e := range operator.NewEvents(before, after, g.components, time.Now().UTC()) {
			g.sayEvent(e, form)
		}
		before = operator.Seen(before, after)
	})
}

func (g *gantryd) sayEvent(e rollout.Event, form string) {
	if form == formJSON {
		b, err := json.Marshal(e)
		if err != nil {
			panic(fmt.Sprintf("cli: an event is always JSON: %v", err))
		}
		fmt.Fprintln(g.env.Out, string(b))
		return
	}
	about := e.Component
	if e.Generation != 0 {
		about += fmt.Sprintf(" %d", e.Generation)
	}
	if e.Host != "" {
		if about != "" {
			about += " "
		}
		about += "host " + e.Host
	}
	at := "-"
	if !e.At.IsZero() {
		at = e.At.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(g.env.Out, "%s %s: %s: %s\n", at, about, e.Kind, clean(e.Text))
}
