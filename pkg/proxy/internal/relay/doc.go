// Package relay is the engine that carries connections by goroutines that block: two for each.
//
// It runs wherever Go does, and is what package loop is compared with in tests. Relay is also how a
// request that became a tunnel goes on.
//
//	e := relay.New(wg.Go, relay.NewBuffers())
//	gate, err := e.Open(fd, door)
//
// # Concurrency
//
// As package carry says. Every goroutine is started by the function given to New, and ends after Close.
//
// # What it does not know
//
// As package carry says.
package relay
