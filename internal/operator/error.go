package operator

import "fmt"

// A Kind says what kind of mistake an Error is.
type Kind int

// The kinds of mistakes.
const (
	Invalid  Kind = iota // what was asked for makes no sense
	NotFound             // there is no such project, component, host or generation
	Refused              // it makes sense, but not now
)

// An Error is a mistake of who asks. Hint, which may be empty, is the way out on the command line.
type Error struct {
	Kind Kind
	Hint string
	err  error
}

// Error implements error.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.err }

func mistake(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, err: fmt.Errorf(format, args...)}
}

func (e *Error) hint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}
