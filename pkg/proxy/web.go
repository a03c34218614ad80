package proxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
)

// Bounds of what an HTTP client may take.
const (
	headerTimeout = 10 * time.Second // for a head, from its first byte or the connection's beginning
	clientIdle    = 2 * time.Minute  // between two requests, at most; at least half of it
	bodyStall     = time.Minute      // without a byte of a body that the target waits for
	clientStall   = 5 * time.Minute  // without taking a byte of its answer
)

// A web is the HTTP side of a socket: it serves the connections that come from there. Each request goes
// to the listener that it matches at that moment.
type web struct {
	security
	proxy *Proxy
	table atomic.Pointer[table] // the last one that gave it connections
	tools sync.Pool             // of *tools

	stopping atomic.Bool

	mu    sync.Mutex
	conns map[*conversation]struct{} // open ones
	shy   int                        // clients that shake hands
	unend func() bool                // forgets that they are closed when the proxy ends; nil once done
}

// tools are what one request needs while it is under way.
type tools struct {
	req    h1.Request // of its slices only Upgrade is good once content was read
	res    h1.Response
	head   []byte // for the target
	out    []byte // for the client
	accept []byte // of the request

	reqMore, resMore []h1.Field // trailers
}

// newWeb returns a web that serves until stop, and then until its connections are done.
func newWeb(s *socket) *web {
	w := &web{proxy: s.proxy, conns: map[*conversation]struct{}{}}
	w.tools.New = func() any { return &tools{} }
	w.unend = context.AfterFunc(s.proxy.within(), w.abort)
	return w
}

// serve takes a connection that was accepted, and reports whether it did: not after stop.
func (w *web) serve(conn *net.TCPConn) bool {
	from := w.proxy.newCaller(conn)
	introduced := w.table.Load().tcp.introduced(from.client.Addr())
	if w.secure || introduced {
		if !w.meet() {
			return false
		}
		w.proxy.wg.Go(func() { w.greet(conn, from, introduced) })
		return true
	}
	c := newConversation(w, conn, conn, from)
	if !w.add(c) {
		return false
	}
	if !w.admits(from) {
		w.remove(c)
		refuse(conn)
		from.leave()
		return true
	}
	w.proxy.young.Add(1)
	w.proxy.wg.Go(c.run)
	return true
}

// admits takes a place for a connection at the listener that has the address for itself, if one has, and reports
// whether there was one.
func (w *web) admits(c *caller) bool {
	only := w.table.Load().only
	return only == nil || c.enter(only)
}

// add takes part in the life of c, unless the web was stopped.
func (w *web) add(c *conversation) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopping.Load() {
		return false
	}
	w.conns[c] = struct{}{}
	return true
}

// meet counts a client that is to shake hands, unless the web was stopped. Once it did, it is served even if
// the web was stopped meanwhile.
func (w *web) meet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopping.Load() {
		return false
	}
	w.shy++
	w.proxy.young.Add(1)
	return true
}

// met ends that. It takes part in the life of c, if there is one, unless the proxy ended.
func (w *web) met(c *conversation) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shy--
	ok := c != nil && w.proxy.within().Err() == nil
	if ok {
		w.conns[c] = struct{}{}
	} else {
		w.proxy.young.Add(-1)
	}
	w.forgetEnd()
	return ok
}

// remove forgets c, which is closed or a tunnel.
func (w *web) remove(c *conversation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	w.forgetEnd()
}

// forgetEnd lets go of the proxy once nothing is left to be closed with it.
func (w *web) forgetEnd() {
	if w.stopping.Load() && len(w.conns) == 0 && w.shy == 0 && w.unend != nil {
		w.unend()
		w.unend = nil
	}
}

// stop takes no new connection, closes idle ones, and the others after the request in flight.
func (w *web) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping.Store(true)
	w.stopMux()
	for c := range w.conns {
		c.stopIfIdle()
	}
	w.forgetEnd()
}

// abort closes all connections.
func (w *web) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.tcp.Close()
	}
}
