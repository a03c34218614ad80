package carry

import (
	"net"
	"net/netip"
	"time"
)

// An Engine carries the connections of any number of listening sockets.
type Engine interface {
	// Open accepts from a listening socket until the Gate is closed. The descriptor stays the caller's.
	Open(fd int, d Door) (Gate, error)
	// Take goes on with a connection that somebody else accepted. The engine owns it from now on.
	Take(c *net.TCPConn, d Door)
	// Freeze stops carrying connections of guests that are movable, the given number at most, and returns them for
	// another engine to go on with. Rest is how many others there are; they are carried on. Descriptors
	// stay the engine's, which does nothing with them until Thaw or Forget. Movable is called on the engine's goroutines.
	Freeze(most int, movable func(Guest) bool) (some []Frozen, rest int)
	// Thaw goes on with what was frozen as before.
	Thaw()
	// Forget lets go of what was frozen: another process has it.
	Forget()
	// Adopt goes on with what another engine froze. It owns the descriptors, and has called Attach of
	// each guest when it returns.
	Adopt(fs []Frozen)
	// Close resets all connections. The goroutines of the engine end soon after.
	Close()
}

// A Frozen is a connection that nobody carries at the moment.
type Frozen struct {
	Guest    Guest
	FDs      [2]int    // the client's and the target's; -1: there is no target yet
	Pending  [2][]byte // of each Way: was read and not written yet
	Ended    [2]bool   // of each Way: all was read
	Passed   [2]bool   // of each Way: the end was passed on
	Doomed   bool      // one side was lost: to be reset once the other one has said all
	Prefaced bool      // the preface is among what was written or is pending
}

// A Gate is a listening socket from which connections are taken.
type Gate interface {
	// Close ends that. Once it returned the engine does not use the descriptor any more.
	Close()
}

// A Verdict is what becomes of a connection that was just accepted.
type Verdict uint8

// Verdicts.
const (
	Welcome   Verdict = iota
	Refused           // reset it
	Elsewhere         // it is not for an engine: Door.Take goes on with it
)

// A Door decides about the clients of one listening socket. Its methods may be called at once.
type Door interface {
	// Enter is asked about each connection that was accepted. If that should not go on at once, pause
	// is how long to accept nothing.
	Enter(c Conn, client netip.AddrPort) (g Guest, v Verdict, pause time.Duration)
	// Take goes on with a connection whose verdict was Elsewhere. It is nil when that was lost.
	Take(c *net.TCPConn)
	// Trouble is told that an accept failed, and returns how long to pause.
	Trouble(err error) time.Duration
}

// A Conn is a client's connection as the proxy may handle it.
type Conn interface {
	Wake()          // a held client: ask for the next step
	Abort()         // end the dial in progress and ask for the next step
	Cut(reset bool) // end the connection, by resets or politely
	// Local is the address the client connected to. Only the guest may ask, in its methods.
	Local() netip.AddrPort
}

// A Deed is what a Step asks for.
type Deed uint8

// Deeds.
const (
	Refuse Deed = iota // reset the client
	Peek               // show the first bytes to Guest.Peeked
	Hold               // wait until woken
	Dial               // connect to a target
)

// A Step is what to do next with a client that is not connected to a target yet.
type Step struct {
	Do      Deed
	Target  netip.AddrPort
	Wait    time.Duration // longest time to peek, to hold, or until this dial succeeds
	Preface []byte        // goes to the target before anything the client says
}

// A Way is a direction.
type Way uint8

// Ways.
const (
	Up   Way = iota // from the client to the target
	Down            // from the target to the client
)

// PeekMax is how many bytes Peeked is shown at most.
const PeekMax = 16 << 10

// A Guest is one client of the proxy.
type Guest interface {
	// Attach says who carries a guest that was adopted.
	Attach(c Conn)
	// Next returns the next step.
	Next() Step
	// Peeked looks at what the client said first. It returns how many bytes of that to throw away,
	// and whether it must see more before Next makes sense; not when there will be no more.
	Peeked(b []byte, noMore bool) (discard int, more bool)
	// SaidAll notes that a held client ended its half of the connection behind some bytes.
	SaidAll()
	// GiveUp ends a held client; false if it was woken meanwhile and Next should be asked.
	GiveUp() bool
	// Missed notes that the dial failed, and returns how long to pause before Next; negative: refuse.
	Missed(err error) (pause time.Duration)
	// Opened notes that the target is connected; false: reset both.
	Opened() bool
	// Carried counts bytes that were handed on. now is that of Now.
	Carried(w Way, bytes int64, now int64)
	// Broke notes that the target broke an open connection off: it reset it, or takes nothing any more. It may be said
	// more than once.
	Broke()
	// Patience is how long an open connection may go on if nothing moves: 0 is for ever, and negative is
	// too long already. Half means that one side has ended.
	Patience(half bool) time.Duration
	// Leave ends the guest.
	Leave()
}
