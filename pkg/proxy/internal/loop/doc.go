// Package loop is the engine that carries connections by event loops: a few threads for all of them.
//
// Each loop is one locked thread with an epoll instance of its own, and each connection belongs to one
// loop from its accept to its end. A connection is a pair: two descriptors, some flags, and nothing
// else while it is idle. The reasons for what is not obvious are in docs/design/0003-data-plane.md.
//
//	e := loop.New(wg.Go, loop.Options{KeepAlive: k})
//	gate, err := e.Open(fd, door)
//
// # Concurrency
//
// As package carry says. A pair is touched by its loop only; everybody else sends its loop a command. A
// guest is asked with nothing locked. The threads are started with the first listener, by the function
// given to New, and end after Close.
//
// The process should have at least two processors more (GOMAXPROCS) than loops: a loop keeps its own
// also while it waits for the kernel, up to 8 ms.
//
// # What it does not know
//
// As package carry says. It needs Linux; elsewhere the package is empty.
package loop
