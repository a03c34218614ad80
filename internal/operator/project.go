package operator

import (
	"context"
	"slices"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// Read reads a project that must be there. What cannot be read of it is in its Problems.
func Read(ctx context.Context, c *etcdstate.Client, name string) (etcdstate.Project, error) {
	p, err := c.Project(ctx, name)
	if err != nil {
		return p, err
	}
	if p.ConfigJSON == nil && len(p.Components) == 0 {
		return p, mistake(NotFound, "Unknown project %s", name).hint("gantryd setconfig %s FILE", name)
	}
	return p, nil
}

// Names are the components of a project, in the order of its file, then those with a state only.
func Names(p etcdstate.Project) []string {
	var out []string
	for _, c := range p.Config.Components {
		out = append(out, c.Name)
	}
	var rest []string
	for n := range p.Components {
		if !slices.Contains(out, n) {
			rest = append(rest, n)
		}
	}
	slices.Sort(rest)
	return append(out, rest...)
}

// Spec is a component of the project's configuration; nil when it is not in it.
func Spec(p etcdstate.Project, name string) *component.Spec {
	for i := range p.Config.Components {
		if p.Config.Components[i].Name == name {
			return &p.Config.Components[i]
		}
	}
	return nil
}

// Pick returns those of all that were named; unknown ones are an error. No names means all.
func Pick(all, names []string) ([]string, error) {
	if len(names) == 0 {
		return all, nil
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			return nil, mistake(NotFound, "Unknown component named %s", n)
		}
	}
	var once []string
	for _, n := range names {
		if !slices.Contains(once, n) {
			once = append(once, n)
		}
	}
	return once, nil
}

// Differences compare what is stored with another configuration, such as that of a file.
func Differences(stored, other component.Project) []api.Difference {
	out := []api.Difference{}
	for _, s := range other.Components {
		i := slices.IndexFunc(stored.Components, func(o component.Spec) bool { return o.Name == s.Name })
		if i < 0 {
			out = append(out, api.Difference{Component: s.Name, Change: "added", Changes: component.Changes(component.Release{}, component.Release{Spec: s})})
			continue
		}
		out = append(out, Compared(s.Name, component.Changes(component.Release{Spec: stored.Components[i]}, component.Release{Spec: s})))
	}
	for _, s := range stored.Components {
		if !slices.ContainsFunc(other.Components, func(o component.Spec) bool { return o.Name == s.Name }) {
			out = append(out, api.Difference{Component: s.Name, Change: "removed", Changes: []component.Change{}})
		}
	}
	return out
}

// Compared is the difference that the changes of a component make.
func Compared(name string, cs []component.Change) api.Difference {
	if len(cs) == 0 {
		return api.Difference{Component: name, Change: "same", Changes: []component.Change{}}
	}
	return api.Difference{Component: name, Change: "changed", Changes: cs}
}
