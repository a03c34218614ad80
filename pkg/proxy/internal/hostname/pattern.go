package hostname

import (
	"errors"
	"fmt"
	"strings"
)

// A Pattern is a name, an IP address, or a wildcard for one label of a name. Patterns that match the
// same names are equal (==). The zero Pattern matches nothing.
type Pattern struct {
	name string // normalized; of a wildcard what follows "*."
	wild bool
}

// ParsePattern reads a pattern as a person wrote it.
func ParsePattern(s string) (Pattern, error) {
	if s == "*" {
		return Pattern{}, errors.New(`host pattern "*": to match every name, name none`)
	}
	rest, wild := strings.CutPrefix(s, "*.")
	if strings.Contains(rest, "*") {
		return Pattern{}, fmt.Errorf("host pattern %q: * stands for one whole label, the first one: *.example.org", clip(s))
	}
	name, err := Normalize(rest)
	if err != nil {
		return Pattern{}, fmt.Errorf("host pattern %q: %w", clip(s), err)
	}
	if _, isAddr := parseAddr(name); wild && isAddr {
		return Pattern{}, fmt.Errorf("host pattern %q: an IP address has no labels", clip(s))
	}
	if wild && len("x.")+len(name) > maxName {
		return Pattern{}, fmt.Errorf("host pattern %q: no name that it matches is short enough", clip(s))
	}
	return Pattern{name: name, wild: wild}, nil
}

// String returns the pattern in its normalized spelling.
func (p Pattern) String() string {
	if p.wild {
		return "*." + p.name
	}
	return p.name
}

// Match reports whether the normalized name is one of the pattern's.
func (p Pattern) Match(name string) bool {
	if p.wild {
		parent, ok := parentOf(name)
		return ok && parent == p.name
	}
	return name == p.name && name != ""
}

// parentOf returns name without its first label. What it makes of an IP address ends in a number,
// which no wildcard does.
func parentOf(name string) (string, bool) {
	_, parent, ok := strings.Cut(name, ".")
	return parent, ok
}

// A Map finds what belongs to a name. The zero value is empty and ready for Add.
type Map[T any] struct {
	exact, wild map[string]T // by Pattern.name
}

// Add notes that v belongs to the names of p, unless something does already: then it returns that and
// false.
func (m *Map[T]) Add(p Pattern, v T) (T, bool) {
	if m.exact == nil {
		m.exact, m.wild = map[string]T{}, map[string]T{}
	}
	of := m.exact
	if p.wild {
		of = m.wild
	}
	if had, ok := of[p.name]; ok {
		return had, false
	}
	of[p.name] = v
	return v, true
}

// Find returns what belongs to the normalized name, by the most specific pattern. It allocates nothing.
func (m *Map[T]) Find(name string) (T, bool) {
	if v, ok := m.exact[name]; ok {
		return v, true
	}
	if len(m.wild) > 0 {
		if parent, ok := parentOf(name); ok {
			v, ok := m.wild[parent]
			return v, ok
		}
	}
	var none T
	return none, false
}
