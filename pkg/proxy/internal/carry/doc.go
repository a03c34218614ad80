// Package carry is what the proxy and its engines agree on.
//
// An Engine accepts TCP connections, dials targets, and carries bytes between the two. It decides
// nothing: what to do with a client it asks the Guest, one Step at a time, and tells it what came of
// it. So an engine knows sockets and no targets, and the proxy knows targets and no sockets.
//
//	accept → Door.Enter → Guest.Next → Peek:   Guest.Peeked, then Next
//	                                 → Hold:   woken: Next; too long, or the client left: GiveUp
//	                                 → Dial:   Opened, or Missed and after a pause Next
//	                                 → Refuse: reset
//	at the end, in every case, once: Guest.Leave
//
// # Concurrency
//
// An engine calls the methods of one Guest one after the other, never two at once. The methods of a
// Conn may be called at any time between Enter and the return of Leave; they do not wait, and do not
// call the Guest. A Guest may be used again for another client once its Leave returned.
//
// # What it does not know
//
// How an engine works, and how the proxy chooses a target. It holds no code but what both engines need.
package carry
