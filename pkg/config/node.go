package config

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Limits of a project file, far above what one needs.
const (
	maxSize  = 1 << 20 // bytes
	maxDepth = 64      // lists and dictionaries inside each other
	maxNodes = 200_000 // values, aliases counted as often as they are used
)

// A SyntaxError says why a project file could not be read at all. Line and Column start at 1;
// either is 0 when it is not known.
type SyntaxError struct {
	Line, Column int
	Reason       string
}

// Error is the reason with its place.
func (e *SyntaxError) Error() string {
	switch {
	case e.Line == 0:
		return e.Reason
	case e.Column == 0:
		return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// pos is a place in a file; the zero pos is no place.
type pos struct{ line, col int }

func (p pos) errorf(format string, args ...any) error {
	return &SyntaxError{Line: p.line, Column: p.col, Reason: fmt.Sprintf(format, args...)}
}

type kind int

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindText
	kindList
	kindDict
)

// A node is a value of a file, whichever language it was written in.
type node struct {
	kind   kind
	at     pos
	text   string // a scalar: true or false, a JSON number, or the decoded text
	items  []*node
	fields []field // in the order of the file, duplicates included
}

type field struct {
	key   string
	at    pos
	value *node
}

// get is the value of the first field called key, or nil.
func (n *node) get(key string) *node {
	for _, f := range n.fields {
		if f.key == key {
			return f.value
		}
	}
	return nil
}

// String describes n the way messages do.
func (n *node) String() string {
	switch n.kind {
	case kindNull:
		return "nothing"
	case kindBool:
		return n.text
	case kindNumber:
		return "the number " + n.text
	case kindText:
		return "the text " + short(n.text)
	case kindList:
		return "a list"
	case kindDict:
		return "a dictionary"
	}
	return fmt.Sprintf("kind(%d)", int(n.kind))
}

// short quotes s and cuts what is too long to read.
func short(s string) string {
	const longest = 60
	if len(s) <= longest {
		return fmt.Sprintf("%q", s)
	}
	cut := longest
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%q…", s[:cut])
}

// plain is s as it is when that reads well, and quoted otherwise.
func plain(s string) string {
	if q := short(s); q != `"`+s+`"` || s == "" {
		return q
	}
	return s
}

// A budget bounds the tree that is built of a file.
type budget struct{ nodes int }

// take pays for one node at depth.
func (b *budget) take(at pos, depth int) error {
	b.nodes++
	switch {
	case depth > maxDepth:
		return at.errorf("more than %d levels of lists and dictionaries", maxDepth)
	case b.nodes > maxNodes:
		return at.errorf("more than %d values, aliases counted as often as they are used", maxNodes)
	}
	return nil
}

// A cursor finds the line and column of offsets that it is asked for in growing order, so that a
// file of one long line takes no longer than others.
type cursor struct {
	data   []byte
	offset int
	pos    pos
}

func newCursor(data []byte) *cursor { return &cursor{data: data, pos: pos{1, 1}} }

// at is the place of offset, which must not be before the last one.
func (c *cursor) at(offset int) pos {
	passed := c.data[c.offset:max(c.offset, min(offset, len(c.data)))]
	c.offset += len(passed)
	if n := bytes.Count(passed, []byte("\n")); n > 0 {
		c.pos = pos{c.pos.line + n, 1}
		passed = passed[bytes.LastIndexByte(passed, '\n')+1:]
	}
	c.pos.col += utf8.RuneCount(passed)
	return c.pos
}
