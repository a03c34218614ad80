package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// difference is what diff tells about one component.
type difference struct {
	Component string             `json:"component"`
	Change    string             `json:"change"` // added, removed, changed or same
	Changes   []component.Change `json:"changes"`
}

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

func (g *gantryd) diff(ctx context.Context, c *etcdstate.Client, args []string) ([]difference, error) {
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
	return diffProjects(p.Config, file), nil
}

func (g *gantryd) diffReleases(ctx context.Context, c *etcdstate.Client, project, name string, gens []string) ([]difference, error) {
	if len(gens) < 1 || len(gens) > 2 {
		return nil, fail(exitUsage, "name one generation, or two").withHint("'gantryd history %s -c %s' lists them", project, name)
	}
	entries, err := g.history(ctx, c, project, name)
	if err != nil {
		return nil, err
	}
	sides := make([]component.Release, 0, 2)
	for _, s := range gens {
		generation, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fail(exitUsage, "%q is not a generation", s)
		}
		e, err := entry(entries, project, name, generation)
		if err != nil {
			return nil, err
		}
		sides = append(sides, e.Desired.Release())
	}
	if len(sides) == 1 {
		sides = append(sides, entries[0].Desired.Release())
	}
	return []difference{compared(name, component.Changes(sides[0], sides[1]))}, nil
}

// entry is the one of a generation.
func entry(entries []component.Past, project, name string, generation int64) (component.Past, error) {
	i := slices.IndexFunc(entries, func(e component.Past) bool { return e.Generation == generation })
	if i < 0 {
		return component.Past{}, fail(exitNotFound, "component %s has no generation %d in its history", name, generation).
			withHint("'gantryd history %s -c %s' lists them", project, name)
	}
	if e := entries[i]; e.Desired.Spec != nil {
		return e, nil
	}
	return component.Past{}, fail(exitRefused, "generation %d of %s was kept without its configuration", generation, name)
}

func compared(name string, cs []component.Change) difference {
	if len(cs) == 0 {
		return difference{name, "same", []component.Change{}}
	}
	return difference{name, "changed", cs}
}

// diffProjects compares what is stored with what is in a file.
func diffProjects(stored, file component.Project) []difference {
	out := []difference{}
	for _, s := range file.Components {
		i := slices.IndexFunc(stored.Components, func(o component.Spec) bool { return o.Name == s.Name })
		if i < 0 {
			out = append(out, difference{s.Name, "added", component.Changes(component.Release{}, component.Release{Spec: s})})
			continue
		}
		out = append(out, compared(s.Name, component.Changes(component.Release{Spec: stored.Components[i]}, component.Release{Spec: s})))
	}
	for _, s := range stored.Components {
		if !slices.ContainsFunc(file.Components, func(o component.Spec) bool { return o.Name == s.Name }) {
			out = append(out, difference{s.Name, "removed", []component.Change{}})
		}
	}
	return out
}

func printDiff(w io.Writer, ds []difference) {
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
