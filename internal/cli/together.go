package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// which are the components that an update is about.
func (g *gantryd) which(p etcdstate.Project, o updateOptions) ([]string, error) {
	if len(o.together) > 0 {
		if _, err := pick(names(p), o.together); err != nil {
			return nil, err
		}
		return slices.DeleteFunc(names(p), func(n string) bool { return !slices.Contains(o.together, n) }), nil
	}
	return pick(names(p), g.components)
}

// meant makes sure that components are named in one of the ways there are.
func (g *gantryd) meant(o updateOptions) error {
	if len(o.together) == 0 {
		return g.named(o.all)
	}
	switch {
	case o.all || len(g.components) > 0:
		return fail(exitUsage, "--together names the components: leave out -c and --all")
	case len(slices.Compact(slices.Sorted(slices.Values(o.together)))) < 2:
		return fail(exitUsage, "--together takes two components or more, such as --together api,web")
	}
	return nil
}

// lineUp puts releases that are asked for at once in the order of their links, each after the one before.
// Of all components, those that an update would not change are left out.
func lineUp(p etcdstate.Project, rs []release, o updateOptions) (ordered []release, same []string, err error) {
	if !o.all && len(o.together) == 0 {
		return rs, nil, nil
	}
	var specs []component.Spec
	for _, r := range rs {
		if o.all && planFor(r, p.Components[r.name], p.Machines).Change == "none" {
			same = append(same, r.name)
			continue
		}
		specs = append(specs, *r.d.Spec)
	}
	order, err := component.InLinkOrder(specs)
	if err != nil {
		return nil, nil, fail(exitUsage, "%w", err)
	}
	op, before := rand.Text(), ""
	for _, name := range order {
		r := rs[slices.IndexFunc(rs, func(r release) bool { return r.name == name })]
		r.d.Operation, r.d.Follows = op, before
		if o.restart {
			r.d.Restart = op
		}
		if len(o.together) > 0 {
			r.d.Together = order
		}
		ordered, before = append(ordered, r), name
	}
	return ordered, same, nil
}

// writeAll writes several releases in one transaction; nothing is left for this command to do after it.
func (g *gantryd) writeAll(ctx context.Context, c *etcdstate.Client, project string, rs []release) error {
	writes := make([]etcdstate.Write, 0, len(rs))
	for _, r := range rs {
		writes = append(writes, etcdstate.Write{Component: r.name, Desired: r.d})
	}
	gen, err := c.SetTogether(ctx, project, writes)
	if err != nil {
		return fmt.Errorf("update %s: %w", strings.Join(releaseNames(rs), ", "), err)
	}
	for i := range rs {
		rs[i].gen = gen
	}
	return nil
}

func releaseNames(rs []release) []string {
	out := make([]string, 0, len(rs))
	for _, r := range rs {
		out = append(out, r.name)
	}
	return out
}
