package config

import (
	"fmt"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

func (m *mistakes) uniqueNames(p component.Project) {
	first := map[string]int{}
	for i, s := range p.Components {
		if before, twice := first[s.Name]; twice && s.Name != "" {
			m.add(index("components", i)+".name", "%s is the name of %s too", short(s.Name), index("components", before))
			continue
		}
		first[s.Name] = i
	}
}

func (m *mistakes) exports(path string, links []component.LinkDefinition) {
	for i, l := range links {
		at := index(path, i)
		m.required(at, "name", l.Name, "Component Link")
		m.named(at+".name", l.Name)
		m.port(at+".port", l.Port)
		m.oneOf(at+".kind", l.Kind, component.KindTCP, component.KindHTTP)
	}
}

func (m *mistakes) imports(path string, links []component.LinkRequest) {
	names, prefixes := map[string]int{}, map[string]int{}
	for i, l := range links {
		at := index(path, i)
		m.required(at, "name", l.Name, "Required Component Link")
		m.required(at, "alias", l.Alias, "Required Component Link")
		if before, twice := names[l.Name]; twice && l.Name != "" {
			m.add(at+".name", "link %s is required twice, first by %s", short(l.Name), index(path, before))
		} else {
			names[l.Name] = i
		}
		if l.Alias == "" {
			continue
		}
		if !nameRegexp.MatchString(strings.TrimLeft(l.Alias, "_")) {
			m.add(at+".alias", "%s is not an alias: %s or \"_\"", short(l.Alias), nameWords)
		}
		prefix := component.LinkVariables(l.Alias, component.LinkDefinition{}, "", 0)[0].Name
		if before, twice := prefixes[prefix]; twice {
			m.add(at+".alias", "%s gives the same variables as %s", short(l.Alias), index(path, before))
			continue
		}
		prefixes[prefix] = i
	}
}

// definers tells which component defines each link, by index.
func definers(p component.Project) map[string]int {
	out := map[string]int{}
	for i, s := range p.Components {
		for _, l := range s.DefineComponentLinks {
			if _, twice := out[l.Name]; !twice && l.Name != "" {
				out[l.Name] = i
			}
		}
	}
	return out
}

func (m *mistakes) links(p component.Project) {
	first := map[string]string{}
	var known []string
	for i, s := range p.Components {
		for j, l := range s.DefineComponentLinks {
			at := index(index("components", i)+".defineComponentLinks", j)
			if before, twice := first[l.Name]; twice && l.Name != "" {
				m.add(at+".name", "link %s is defined by %s too", short(l.Name), before)
				continue
			}
			first[l.Name] = fmt.Sprintf("%s, of component %s", at, short(s.Name))
			known = append(known, l.Name)
		}
	}
	m.undefined(p, known)
	m.cycles(p)
}

// undefined reports links that nobody defines, unless a definition could not be read.
func (m *mistakes) undefined(p component.Project, known []string) {
	if m.linksUnsure {
		return
	}
	defined := definers(p)
	for i, s := range p.Components {
		for j, l := range s.RequireComponentLinks {
			if _, ok := defined[l.Name]; ok || l.Name == "" {
				continue
			}
			at := index(index("components", i)+".requireComponentLinks", j) + ".name"
			guess, near := closest(l.Name, known)
			m.add(at, "Component link %s not defined on any component%s", plain(l.Name), didYouMean(guess, near))
		}
	}
}

// A graph walks components along the links they require.
type graph struct {
	project component.Project
	defined map[string]int
	state   []visit
	stack   []int
	at      []int                                  // where in stack a component is
	found   func(cycle []int, component, link int) // the last step of a cycle; may be nil
	order   []int
}

type visit int

const (
	unseen visit = iota
	open
	closed
)

// walk visits what component i needs, then i.
func (g *graph) walk(i int) {
	g.state[i] = open
	g.at[i] = len(g.stack)
	g.stack = append(g.stack, i)
	for j, l := range g.project.Components[i].RequireComponentLinks {
		to, ok := g.defined[l.Name]
		switch {
		case !ok:
		case g.state[to] == unseen:
			g.walk(to)
		case g.state[to] == open && g.found != nil:
			g.found(g.stack[g.at[to]:], i, j)
		}
	}
	g.stack = g.stack[:len(g.stack)-1]
	g.state[i] = closed
	g.order = append(g.order, i)
}

func (g *graph) walkAll() {
	g.defined = definers(g.project)
	g.state = make([]visit, len(g.project.Components))
	g.at = make([]int, len(g.project.Components))
	for i := range g.project.Components {
		if g.state[i] == unseen {
			g.walk(i)
		}
	}
}

// cycles reports components that would wait for each other for ever.
func (m *mistakes) cycles(p component.Project) {
	g := graph{project: p, found: func(cycle []int, i, j int) {
		at := index(index("components", i)+".requireComponentLinks", j) + ".name"
		name := p.Components[i].RequireComponentLinks[j].Name
		if len(cycle) == 1 {
			m.add(at, "component %s requires its own link %s", short(p.Components[i].Name), short(name))
			return
		}
		m.add(at, "links form a cycle, so that none can start first: %s", ring(p, cycle))
	}}
	g.walkAll()
}

// ring names the components of a cycle, the first one again at its end.
func ring(p component.Project, cycle []int) string {
	const shown = 20
	var names []string
	for _, i := range cycle[:min(len(cycle), shown)] {
		names = append(names, plain(p.Components[i].Name))
	}
	if len(cycle) > shown {
		names = append(names, "…")
	}
	return strings.Join(append(names, plain(p.Components[cycle[0]].Name)), " -> ")
}

// StartOrder lists the components of p so that who defines a link comes before who requires it,
// and otherwise in the order of the file. Links that form a cycle are ignored at some point of it.
func StartOrder(p component.Project) []string {
	g := graph{project: p}
	g.walkAll()
	out := make([]string, len(g.order))
	for n, i := range g.order {
		out[n] = p.Components[i].Name
	}
	return out
}
