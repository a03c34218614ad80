// Package proxy forwards TCP connections and HTTP requests, and knows each of them.
//
// A Proxy owns listeners. Each listener has at most one target: an address that new connections
// go to, and an ID that groups the connections of several listeners and addresses.
//
//	p := proxy.New(ctx, proxy.Options{Log: log})
//	defer p.Close()
//	err := p.Apply("web", []proxy.Listener{{
//		Name: "web:80", Addrs: []string{"0.0.0.0:80"}, Kind: proxy.TCP,
//		HoldMax: 1024, HoldTimeout: 30 * time.Second,
//		TargetID: "4ae76210a4fe", Target: "172.17.0.2:8080",
//	}})
//
// To replace a target: Apply the same listener with the new target, call Drain with the old ID, and
// wait until Conns of it is zero (OnIdle tells when to look), or Cut what is left.
//
// # What counts
//
// Choosing a target and counting the connection on it is one step under one lock. So, once Apply
// returned, no connection slips onto the target that was switched away, and a target whose count
// is zero is reached by nobody. A TCP connection counts from the moment its target is
// chosen, before it is dialled, until both of its sockets are closed. An HTTP request counts from the
// moment its target is chosen until it was answered; an upgraded one (WebSocket) until it is closed.
// Keep-alive connections of HTTP clients between two requests belong to no target and survive a switch.
//
// A connection that cannot be dialled is tried again, on the target of that moment, until
// ConnectTimeout. Without a target connections are held, HoldMax of them for HoldTimeout; beyond
// that they are refused: TCP by a reset, HTTP by 503.
//
// # Addresses
//
// Listeners of several owners may share an address, each with its Match: requests by host and path, TCP connections by the
// name their TLS client asks for. A client that names nobody's server, or says nothing within ConnectTimeout, goes to the listener without
// a Match, or is refused.
//
// # Hand-over
//
// Another process can go on with the listening sockets and the TCP connections: Export and Send here, Receive and New with
// Options.Inherit there, and Resume when that does not work. Both accept for a moment. Then Move gives the connections away, a few at a
// time, which the other process gets by Receive and Adopt, and Release ends it. HTTP connections finish where they are.
//
// # HTTP
//
// A request is read strictly: what could be understood in two ways is refused, and the target hears
// nothing of it. Content and trailers are streamed both ways, interim answers are passed on, and a target may
// answer before it has read everything. A request is sent again, perhaps to another target, when no byte
// of it was sent, or when it only asks (GET, HEAD, OPTIONS, TRACE without content) and no byte of an answer
// came. The client is told 502 when the target refused or broke off, 503 when there was none or the
// request was cut, 504 when the target could not be reached in time. Once a listener is gone, its
// answers carry "Connection: close".
//
// # HTTP
//
// Clients speak HTTP/1.1 or HTTP/2, plain or over TLS that ends here; targets HTTP/1.1 or h2c. Whatever the two
// speak, a request is one exchange: routed by host and path, held, sent, tried elsewhere while nothing of
// it was sent, answered, logged. What HTTP/2 says is written as HTTP/1 first, so there is one set of rules for
// what may reach a target. Files (certificates, pages) are read by Apply and again when they change.
//
// # Concurrency
//
// All methods may be called at once. Apply calls take turns, and wait between Export and what ends it; none of the methods waits for
// a connection, except Cut, Shutdown and Close. TCP connections are carried by event loops, two threads for all of them, which
// want two more processors than they are (GOMAXPROCS): see docs/design/0003-data-plane.md. Every goroutine of the package is waited for by
// Shutdown and Close. The function given to OnIdle is called without locks, on the goroutine
// of the connection that ended, which may be a loop's; it must not block.
//
// # What it does not know
//
// Components, containers, health, etcd: it is told addresses and IDs. It does not decide when to
// switch or how long to drain. Bounds of connections and the PROXY protocol are of TCP listeners only. Without
// Linux, connections are carried by goroutines, and only listening sockets can be handed over.
package proxy
