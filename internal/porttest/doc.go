// Package porttest finds TCP ports for tests that cannot let the kernel choose one: because a process
// of its own listens there later, because the port is written into a file first, or because nobody is
// to listen there at all.
//
// The usual way, to listen on port 0 and to close it, gives a port that the next listener or the next
// outgoing connection of any test may get. What Free gives stays the test's own until the test ends:
// it lies outside the range that the kernel chooses from, and a name in the kernel keeps other callers
// of this package away, those of other processes too. What Refusing gives is bound all the time. A test
// that gives a port up and wants it back, or wants clients to be refused there, closes its listener by Close.
//
// All functions are safe for concurrent use.
package porttest
