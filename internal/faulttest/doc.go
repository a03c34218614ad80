// Package faulttest is a TCP proxy for tests that does to connections what networks, hosts and
// middleboxes do: delays and slows down, loses, holds up, refuses, resets, ends one direction.
//
//	p := faulttest.Start(t, target)                                     // dial p.Addr() instead
//	p.Set(faulttest.Faults{Down: faulttest.Way{Delay: time.Second}})    // for open and new connections
//	p.Set(faulttest.Faults{})                                           // healed
//	p.Reset()                                                           // each open connection, both ends
//
// Without faults it is transparent: bytes, the end of each direction and resets are passed on as what they
// are. A connection costs six goroutines and, while there is something to delay, up to 2 MiB: it is meant for
// correctness, not for load.
//
// All methods may be called at once. Everything ends with the test.
package faulttest
