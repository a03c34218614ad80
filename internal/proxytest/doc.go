// Package proxytest wears the data plane out: it runs pkg/proxy in a process of its own, below more and
// worse clients and targets than any one test there has, and looks at what is lost, late or left behind.
//
// It uses the public API only, and runs on each engine. The test binary starts itself again in a network
// namespace of its own (as root, or where users may make one), so that a million connections fill no table
// of the host; where that is not possible it runs in the host's, and skips what would be too much for it.
//
// What `go test` runs takes seconds. `make soak` runs the long settings, without the race detector:
// 10 GB both ways, 10⁶ connections, 1,000 switches, 9,500 idle connections, 5,000 slow ones, 100 times
// without descriptors. GANTRYD_SOAK=full selects them; GANTRYD_SOAK_ENGINE=loops (or goroutines)
// limits them to one engine.
//
// Losses, leaks and hangs fail a test always. Times are printed; the bounds they are held to are wide,
// because a test may share its machine, and are left out with the race detector.
package proxytest
