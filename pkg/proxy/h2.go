package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of an HTTP/2 connection.
const (
	maxStreams     = 250              // at once; net/http bounds those that are reset quickly too
	maxHeadFields  = 48 << 10         // bytes, as HTTP/2 counts; less than what they may take as HTTP/1
	h2PingAfter    = 30 * time.Second // without a frame
	h2PingTimeout  = 15 * time.Second
	h2WriteStall   = time.Minute // without a byte of output that is waiting to be sent
	h2StreamBuffer = 256 << 10   // of what a client may send before the target takes it
	h2ConnBuffer   = 1 << 20
)

// lastSend is how long answers that are over may still be on their way to clients when the proxy ends. A client
// that was told closes its connection once it has them, and net/http one that it does not close a second after
// its last answer was sent.
const lastSend = 2 * time.Second

// A mux serves those connections of a web that speak HTTP/2. Each stream is an exchange of its own.
type mux struct {
	web    *web
	server *http.Server
	feed   *feed
	inside turnstile // connections, and requests, which may outlast them by a moment

	callers sync.Map // *caller by net.Conn
}

func newMux(w *web) *mux {
	m := &mux{web: w, feed: &feed{conns: make(chan net.Conn), gone: make(chan struct{})}}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	p := w.proxy
	m.server = &http.Server{
		Handler:                      m,
		Protocols:                    &protocols,
		ReadHeaderTimeout:            p.headers,
		IdleTimeout:                  clientIdle,
		MaxHeaderBytes:               maxHeadFields,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return p.within() },
		ConnState:                    m.connState,
		ConnContext:                  m.connContext,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, SendPingTimeout: h2PingAfter, PingTimeout: h2PingTimeout, WriteByteTimeout: h2WriteStall,
			MaxReceiveBufferPerStream: h2StreamBuffer, MaxReceiveBufferPerConnection: h2ConnBuffer,
		},
	}
	p.wg.Go(func() { m.run(p.within()) })
	return m
}

// run serves until stop, and returns once every connection ended. When ctx ends that is soon.
func (m *mux) run(ctx context.Context) {
	if err := m.server.Serve(m.feed); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		m.web.proxy.log.Error("serve http/2", "err", err)
	}
	empty := m.inside.shut() // not before Serve returned: a connection it takes after Close would stay open
	select {
	case <-empty:
	case <-ctx.Done():
		m.finish(context.WithoutCancel(ctx), empty)
		<-empty
	}
}

// finish closes all connections. A request is over for us before net/http has written the last of its answer, and
// what is closed before its client read it may be lost; so those that still read come first.
func (m *mux) finish(ctx context.Context, empty <-chan struct{}) {
	m.tell(ctx) // those that came while the others were told
	pause := time.NewTimer(lastSend)
	defer pause.Stop()
	select {
	case <-empty:
	case <-pause.C:
		_ = m.server.Close()
	}
}

// take serves a connection that speaks HTTP/2, unless the mux was stopped: then it is closed.
func (m *mux) take(c net.Conn, from *caller) {
	m.callers.Store(c, from)
	select {
	case m.feed.conns <- c:
	case <-m.feed.gone:
		_ = c.Close()
		m.lose(c)
	}
}

// lose forgets a connection that is closed.
func (m *mux) lose(c net.Conn) {
	if from, ok := m.callers.LoadAndDelete(c); ok {
		from.(*caller).leave()
	}
}

// connContext tells the requests of a connection whose they are.
func (m *mux) connContext(ctx context.Context, c net.Conn) context.Context {
	from, _ := m.callers.Load(c)
	return context.WithValue(ctx, callerKey{}, from)
}

// stop tells the clients that no further request is taken (GOAWAY). Those in flight go on.
func (m *mux) stop() {
	close(m.feed.gone)
	m.tell(m.web.proxy.within())
}

// tell sends the GOAWAYs, and does not wait.
func (m *mux) tell(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_ = m.server.Shutdown(ctx)
}

// connState counts the connections that the server runs. It runs a new one after this returned.
func (m *mux) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		m.inside.enter() // it is open: Serve did not return yet
	case http.StateClosed:
		m.lose(c)
		m.inside.leave()
	case http.StateActive, http.StateIdle, http.StateHijacked:
	}
}

// h2Preface is how a client begins that speaks HTTP/2 without having asked.
const h2Preface = "PRI * HTTP/2.0\r\n\r\n"

// errH2 is why a conversation is none of HTTP/1.
var errH2 = errors.New("client speaks HTTP/2")

// changeToH2 gives the client to the mux, with what it said so far.
func (c *conversation) changeToH2() {
	c.handed = true
	_ = c.conn.SetReadDeadline(time.Time{})
	said := append([]byte(nil), c.in.bytes()...)
	c.web.mux().take(&begunConn{Conn: c.conn, said: said}, c.caller)
}

// A begunConn is a connection of which something was read already.
type begunConn struct {
	net.Conn
	said []byte
}

// Read implements io.Reader.
func (c *begunConn) Read(p []byte) (int, error) {
	if len(c.said) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.said)
	c.said = c.said[n:]
	return n, nil
}

// A feed is the net.Listener of a server: it hands over what the sockets accepted.
type feed struct {
	conns chan net.Conn // unbuffered and never closed: a connection is delivered, or gone is
	gone  chan struct{} // closed by stop
}

// Accept implements net.Listener.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.gone:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The feed ends when its mux is stopped.
func (*feed) Close() error { return nil }

// Addr implements net.Listener.
func (*feed) Addr() net.Addr { return &net.TCPAddr{} }
