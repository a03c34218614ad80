package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-multierror"
)

// A Mistake is one thing wrong with a project.
type Mistake struct { //nolint:errname // an item of a list first, an error by the way
	Path    string `json:"path"`             // such as components[2].ports[0].external
	Line    int    `json:"line,omitempty"`   // of the file, from 1; 0 when there is none
	Column  int    `json:"column,omitempty"` // in characters, from 1; 0 when there is none
	Message string `json:"message"`
}

// Error is the message with its path and line.
func (m Mistake) Error() string {
	path := m.Path
	if path == "" {
		path = "project file"
	}
	if m.Line == 0 {
		return path + ": " + m.Message
	}
	return fmt.Sprintf("%s (line %d): %s", path, m.Line, m.Message)
}

// Mistakes lists the mistakes in an error of Parse or Validate; none when err is something else.
func Mistakes(err error) []Mistake {
	var all *multierror.Error
	if !errors.As(err, &all) {
		return nil
	}
	var out []Mistake
	for _, e := range all.Errors {
		if m, ok := errors.AsType[Mistake](e); ok {
			out = append(out, m)
		}
	}
	return out
}

// mistakes collects what is wrong with one project.
type mistakes struct {
	name  string
	where map[string]pos  // of every value of the file; nil when there is no file
	muted map[string]bool // paths about which all is said
	found []Mistake

	linksUnsure bool // some definition of a link could not be read
}

// add reports a mistake at path, unless one is known there or above: what follows from a value
// that could not be read is no mistake of its own.
func (m *mistakes) add(path, format string, args ...any) {
	for p := path; ; p = parent(p) {
		if m.muted[p] {
			return
		}
		if p == "" {
			break
		}
	}
	m.addAt(m.place(path), path, format, args...)
}

// addAt reports a mistake at path whatever else is known there.
func (m *mistakes) addAt(at pos, path, format string, args ...any) {
	m.mute(path)
	m.found = append(m.found, Mistake{
		Path: path, Line: at.line, Column: at.col, Message: fmt.Sprintf(format, args...),
	})
}

// mute says that all is said about path.
func (m *mistakes) mute(path string) {
	if m.muted == nil {
		m.muted = map[string]bool{}
	}
	m.muted[path] = true
}

// place is where path is in the file, or where what it is in starts.
func (m *mistakes) place(path string) pos {
	for p := path; ; p = parent(p) {
		if at, ok := m.where[p]; ok || p == "" {
			return at
		}
	}
}

// has reports whether the file gives path a value, be it a zero one.
func (m *mistakes) has(path string) bool {
	_, ok := m.where[path]
	return ok
}

// err is all that was found, in the order of the file, or nil.
func (m *mistakes) err() error {
	slices.SortStableFunc(m.found, func(a, b Mistake) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	all := &multierror.Error{ErrorFormat: func(es []error) string { return sentence(m.name, es) }}
	for _, f := range m.found {
		all = multierror.Append(all, f)
	}
	return all.ErrorOrNil()
}

// sentence is one mistake on a line, or a list of them.
func sentence(name string, es []error) string {
	prefix := ""
	if name != "" {
		prefix = name + ": "
	}
	if len(es) == 1 {
		return prefix + es[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%d mistakes:", prefix, len(es))
	for _, e := range es {
		b.WriteString("\n  " + e.Error())
	}
	return b.String()
}

// simpleKey matches the keys that a path shows without quotes.
var simpleKey = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$-]*$`)

// join is the path of key in the dictionary at path.
func join(path, key string) string {
	switch {
	case !simpleKey.MatchString(key):
		return path + "[" + short(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

// index is the path of item i of the list at path.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// parent is the path of what path is in; that of the file is "".
func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }
