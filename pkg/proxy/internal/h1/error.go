package h1

import "fmt"

// An Error is why a head or a body was refused.
type Error struct {
	Status int    // to answer with, of a request
	Text   string // what is wrong, in a few words
}

// Error is the text with the status.
func (e Error) Error() string { return fmt.Sprintf("%s (%d)", e.Text, e.Status) }

// bad is an Error that is the sender's fault.
func bad(text string) error { return Error{Status: 400, Text: text} }
