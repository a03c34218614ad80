package routes

import (
	"fmt"
	"strings"

	"github.com/gantryd/gantryd/pkg/proxy/internal/hostname"
)

// A Rule says that requests are for Value: those for one of Hosts (none: any) whose path is Path or below
// (empty or "/": any).
type Rule[T any] struct {
	Name  string // for errors; unique
	Hosts []string
	Path  string
	Value T
}

// A ConflictError is two rules that match the same requests.
type ConflictError struct {
	Name, Other string // of the rules, the later one first
	Host, Path  string // empty for any
}

// Error names both rules.
func (e *ConflictError) Error() string {
	host, path := e.Host, e.Path
	if host == "" {
		host = "any host"
	}
	if path == "" {
		path = "any path"
	}
	return fmt.Sprintf("%s and %s both match %s, %s", e.Name, e.Other, host, path)
}

// A Verdict is what Find has to say.
type Verdict int

// The verdicts.
const (
	Nobody    Verdict = iota // no rule matches
	Found                    // one does
	Ambiguous                // that depends on how the path is read
)

// A Table finds the rule for a request. Make one with New.
type Table[T any] struct {
	exact, wild hostname.Map[*paths[T]]
	any         *paths[T] // may be nil
}

// paths are the rules of one host, by path.
type paths[T any] struct {
	rules map[string]named[T] // by path without a slash at the end: the empty one matches all
	depth int                 // segments of the longest one
}

type named[T any] struct {
	value T
	name  string
}

// New builds a table. Its errors name the rule; a *ConflictError names both.
func New[T any](rules []Rule[T]) (*Table[T], error) {
	t := &Table[T]{}
	for _, r := range rules {
		path, err := CanonicalPath(r.Path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		if len(r.Hosts) == 0 {
			if t.any == nil {
				t.any = &paths[T]{}
			}
			if err := t.any.add(path, "", r); err != nil {
				return nil, err
			}
		}
		for _, host := range r.Hosts {
			p, err := hostname.ParsePattern(host)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.Name, err)
			}
			if err := t.of(p).add(path, p.String(), r); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// of is the rules of a host pattern, which may be new.
func (t *Table[T]) of(p hostname.Pattern) *paths[T] {
	m := &t.exact
	if strings.HasPrefix(p.String(), "*") {
		m = &t.wild
	}
	had, _ := m.Add(p, &paths[T]{})
	return had
}

func (p *paths[T]) add(path, host string, r Rule[T]) error {
	if had, taken := p.rules[path]; taken {
		return &ConflictError{Name: r.Name, Other: had.name, Host: host, Path: path}
	}
	if p.rules == nil {
		p.rules = map[string]named[T]{}
	}
	p.rules[path] = named[T]{r.Value, r.Name}
	p.depth = max(p.depth, strings.Count(path, "/"))
	return nil
}

// CanonicalPath is the form in which the paths of rules are compared: without a slash at the end, so
// that "/" is empty. It refuses what a request could be for in one reading only.
func CanonicalPath(path string) (string, error) {
	short := strings.TrimSuffix(path, "/")
	if path != "" && path[0] != '/' {
		return "", fmt.Errorf("path %q does not begin with /", path)
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`?#%;\"<>^`+"`{|}", c) >= 0 {
			return "", fmt.Errorf("path %q: %q is not possible in the path of a rule", path, c)
		}
	}
	if odd(short) {
		return "", fmt.Errorf("path %q is not in its shortest form", path)
	}
	return short, nil
}

// Find returns the value of the rule for a request. The name is normalized, see package hostname, and
// empty when the request has none; the path is as it came, without the query.
func (t *Table[T]) Find(name, path string) (T, Verdict) {
	exact, _ := t.exact.Find(name)
	wild, _ := t.wild.Find(name)
	if exact.flat() && wild.flat() && t.any.flat() {
		path = ""
	}
	best, ok := find(exact, wild, t.any, path)
	if odd(path) {
		for _, other := range readings(path) {
			if again, found := find(exact, wild, t.any, other); found != ok || again.name != best.name {
				var none T
				return none, Ambiguous
			}
		}
		if wayUp(path) {
			var none T
			return none, Ambiguous
		}
	}
	if !ok {
		return best.value, Nobody
	}
	return best.value, Found
}

// flat reports whether the path makes no difference.
func (p *paths[T]) flat() bool { return p == nil || p.depth == 0 }

func find[T any](exact, wild, others *paths[T], path string) (named[T], bool) {
	for _, p := range [...]*paths[T]{exact, wild, others} {
		if p == nil {
			continue
		}
		if v, ok := p.find(path); ok {
			return v, true
		}
	}
	return named[T]{}, false
}

// find looks for the longest rule that path is below.
func (p *paths[T]) find(path string) (named[T], bool) {
	end, depth := 0, 0 // of as many segments as the longest rule has
	for end < len(path) {
		if path[end] == '/' {
			if depth == p.depth {
				break
			}
			depth++
		}
		end++
	}
	for end > 0 {
		if v, ok := p.rules[path[:end]]; ok {
			return v, true
		}
		end = max(0, strings.LastIndexByte(path[:end], '/'))
	}
	v, ok := p.rules[""]
	return v, ok
}
