package proxy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gantryd/gantryd/pkg/proxy/internal/hostname"
	"github.com/gantryd/gantryd/pkg/proxy/internal/routes"
)

// A Match says which part of a shared address is a listener's: of TCP connections those whose TLS
// client names one of SNI, of HTTP requests those for one of Hosts whose path begins with Path. A name may
// begin with "*.", which stands for exactly one label. Names are compared without regard to case.
// The zero Match is all that no other listener matches.
type Match struct {
	SNI   []string // TCP only
	Hosts []string // HTTP only; none means any host
	Path  string   // HTTP only; a prefix that ends where a segment does, as "/api"
}

func (m Match) isZero() bool { return len(m.SNI) == 0 && len(m.Hosts) == 0 && m.Path == "" }

func (m Match) equal(n Match) bool {
	return slices.Equal(m.SNI, n.SNI) && slices.Equal(m.Hosts, n.Hosts) && m.Path == n.Path
}

// canonical is m in the form that is compared, or why it makes no sense for a listener of kind.
func (m Match) canonical(kind string) (Match, error) {
	var err error
	switch {
	case kind == TCP && (len(m.Hosts) > 0 || m.Path != ""):
		return m, errors.New("hosts and paths are of HTTP, not of TCP")
	case kind == HTTP && len(m.SNI) > 0:
		return m, errors.New("SNI is matched for TCP; for HTTP match hosts")
	}
	if m.Path, err = routes.CanonicalPath(m.Path); err != nil {
		return m, err
	}
	if m.SNI, err = canonicalNames(m.SNI); err != nil {
		return m, err
	}
	m.Hosts, err = canonicalNames(m.Hosts)
	return m, err
}

func canonicalNames(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		p, err := hostname.ParsePattern(name)
		if err != nil {
			return nil, err
		}
		out = append(out, p.String())
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// clash is a word for what both m and n match; empty when they may share an address.
func (m Match) clash(n Match) string {
	if len(m.SNI)+len(n.SNI) > 0 {
		if name, both := common(m.SNI, n.SNI); both {
			return orAll(name)
		}
		return ""
	}
	if name, both := common(m.Hosts, n.Hosts); both && m.Path == n.Path {
		return orAll(name + m.Path)
	}
	return ""
}

// common is a name in both lists, the empty one if both have none.
func common(a, b []string) (string, bool) {
	if len(a) == 0 && len(b) == 0 {
		return "", true
	}
	for _, name := range a {
		if slices.Contains(b, name) {
			return name, true
		}
	}
	return "", false
}

func orAll(s string) string {
	if s == "" {
		return "all that no other one matches"
	}
	return fmt.Sprintf("%q", s)
}
