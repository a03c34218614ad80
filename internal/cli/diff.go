package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func (g *gantryd) diffCmd() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "diff PROJECT {CONFIGFILE | -c COMPONENT GENERATION [GENERATION]}", Short: "Compare the stored configuration with a file, or two releases",
		Long: `With a file: what setconfig of it would change in the stored configuration ("-" is
standard input). With -c and one generation: that release against the one that is asked
for now; with two: one against the other. 'gantryd history' lists generations.`,
		Example: "  gantryd diff shop gantryd.json\n  gantryd diff shop -c web 812\n  gantryd diff shop -c=web 812 840 -o json",
		Args:    args(cobra.RangeArgs(1, 3)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := knownForm(form); err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error {
				ds, err := g.diff(cmd.Context(), c, args)
				if err != nil {
					return err
				}
				return printData(g.env.Out, form, map[string]any{"items": ds}, func() { printDiff(g.env.Out, ds) })
			})
		},
	}
	g.addComponents(cmd, "the component whose releases are compared")
	addOutput(cmd, &form)
	return cmd
}

func (g *gantryd) diff(ctx context.Context, c *etcdstate.Client, args []string) ([]api.Difference, error) {
	if len(g.components) > 0 {
		args = append(args, g.components[1:]...) // -c web 812 840, as -c a b is written
		g.components = g.components[:1]
		return g.diffReleases(ctx, c, args[0], g.components[0], args[1:])
	}
	if len(args) != 2 {
		return nil, fail(exitUsage, "name a file, or a component with -c and its generations")
	}
	file, err := readProject(g.env, args[1])
	if err != nil {
		return nil, err
	}
	p, err := g.project(ctx, c, args[0])
	if err != nil {
		return nil, err
	}
	return operator.Differences(p.Config, file), nil
}

func (g *gantryd) diffReleases(ctx context.Context, c *etcdstate.Client, project, name string, gens []string) ([]api.Difference, error) {
	if len(gens) < 1 || len(gens) > 2 {
		return nil, fail(exitUsage, "name one generation, or two").withHint("'gantryd history %s -c %s' lists them", project, name)
	}
	if _, err := g.project(ctx, c, project); err != nil { // it warns of what cannot be read
		return nil, err
	}
	entries, err := operator.History(ctx, c, project, name)
	if err != nil {
		return nil, err
	}
	sides := make([]component.Release, 0, 2)
	for _, s := range gens {
		generation, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fail(exitUsage, "%q is not a generation", s)
		}
		e, err := operator.Entry(entries, project, name, generation)
		if err != nil {
			return nil, err
		}
		sides = append(sides, e.Desired.Release())
	}
	if len(sides) == 1 {
		sides = append(sides, entries[0].Desired.Release())
	}
	return []api.Difference{operator.Compared(name, component.Changes(sides[0], sides[1]))}, nil
}

func printDiff(w io.Writer, ds []api.Difference) {
	for _, d := range ds {
		fmt.Fprintf(w, "%s: %s\n", clean(d.Component), d.Change)
		printChanges(w, d.Changes)
	}
}

func printChanges(w io.Writer, cs []component.Change) {
	for _, c := range cs {
		if c.From != "" {
			fmt.Fprintf(w, "- %s: %s\n", clean(c.Field), clean(c.From))
		}
		if c.To != "" {
			fmt.Fprintf(w, "+ %s: %s\n", clean(c.Field), clean(c.To))
		}
	}
}
