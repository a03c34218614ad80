package component

import "errors"

// Errors of a store.
var (
	ErrTurnTaken   = errors.New("turn is taken")           // try again when the view changes
	ErrTurnLost    = errors.New("turn lost")               // finish nothing; observe again
	ErrChanged     = errors.New("state changed meanwhile") // look at the new view first
	ErrUnreachable = errors.New("store unreachable")
	ErrNoRelease   = errors.New("no past release to go back to")
)

// ErrEngineUnreachable means that the engine gave no answer: what it was asked for may be so or not.
var ErrEngineUnreachable = errors.New("docker engine unreachable")
