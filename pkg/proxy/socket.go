package proxy

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/certs"
	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
	"github.com/gantryd/gantryd/pkg/proxy/internal/relay"
	"github.com/gantryd/gantryd/pkg/proxy/internal/routes"
)

// Keep-alive finds a peer that went away without a word in about two minutes.
const (
	keepAliveIdle     = 60 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 4
)

// The pause between two accepts that failed, such as for want of descriptors.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// calm is how long accepts must have worked for the trouble to be over.
const calm = 2 * time.Second

// A socket is one listening address. Listeners of several owners may share it, and come and go. It is
// the carry.Door of its clients.
type socket struct {
	proxy *Proxy
	addr  netip.AddrPort // that it is bound to
	fd    int
	log   *slog.Logger

	binds []bind // who shares it; guarded by Proxy.applying
	gate  gate   // by which its connections come in; guarded by Proxy.applying
	table atomic.Pointer[table]

	trouble trouble
}

// A gate is by what a socket accepts: the engine for TCP, and for HTTP a goroutine.
type gate struct {
	carry.Gate // nil: nothing
	http       bool
}

// A bind is what one listener has of an address.
type bind struct {
	front *front
	kind  string
	match Match
	from  []netip.Prefix // clients that begin with a PROXY header
	tls   []certs.Pair   // nil: plain
}

// A table is who gets what a socket accepts, at one moment. It is never changed, only replaced.
type table struct {
	binds  []bind
	web    *web                  // of HTTP listeners, else nil
	rest   *front                // gets all that no other one matches; may be nil
	routes *routes.Table[*front] // of HTTP listeners, else nil
	only   *front                // gets all, because there is no other one; may be nil
	tcp    *choice               // of TCP listeners
}

// newTable returns the table of binds, which serves HTTP by web if they do.
func (s *socket) newTable(binds []bind, w *web) *table {
	t := &table{binds: slices.Clone(binds), web: w, tcp: newChoice(binds)}
	for _, b := range binds {
		if b.match.isZero() {
			t.rest = b.front
		}
	}
	if w != nil {
		t.routes = newRoutes(s.proxy.log, binds)
		if len(binds) == 1 {
			t.only = t.rest
		}
	}
	return t
}

// is reports whether s is shared by exactly binds.
func (s *socket) is(binds []bind) bool {
	return slices.EqualFunc(s.binds, binds, func(a, b bind) bool {
		return a.front == b.front && a.kind == b.kind && a.match.equal(b.match) && slices.Equal(a.tls, b.tls) &&
			slices.Equal(a.from, b.from)
	})
}

// share gives s to binds from now on, and returns the web that nobody needs any more. It needs
// Proxy.applying.
func (s *socket) share(binds []bind) (unused *web) {
	var w *web
	if t := s.table.Load(); t != nil {
		w = t.web
	}
	http, secure := len(binds) > 0 && binds[0].kind == HTTP, len(binds) > 0 && binds[0].tls != nil
	if w != nil && (!http || secure != w.secure) {
		unused, w = w, nil
	}
	if http && w == nil {
		w = newWeb(s)
		if secure {
			w.terminate()
		}
	}
	if secure {
		w.use(s.proxy, binds)
	}
	s.binds = binds
	t := s.newTable(binds, w)
	if w != nil {
		w.table.Store(t)
	}
	s.table.Store(t)
	return unused
}

// listen opens a socket that accepts nothing yet; clients wait in its queue.
func (p *Proxy) listen(addr netip.AddrPort) (*socket, error) {
	if s, ok := p.inherit(addr); ok {
		return s, nil
	}
	p.disinherit(addr)
	network := "tcp6"
	if addr.Addr().Is4() {
		network = "tcp4"
	}
	config := net.ListenConfig{KeepAlive: -1, Control: setKeepAlive}
	config.SetMultipathTCP(false)
	ln, err := config.Listen(p.within(), network, addr.String())
	if err != nil {
		return nil, cause(err)
	}
	defer ln.Close() // Go's own poller must not wake up for each client
	fd, err := ownDescriptor(ln.(*net.TCPListener))
	if err != nil {
		return nil, err
	}
	s := p.newSocket(fd, addrPort(ln.Addr()))
	p.opened(s.fd, s.addr)
	return s, nil
}

// newSocket returns the socket of a listening descriptor, which it owns from now on.
func (p *Proxy) newSocket(fd int, addr netip.AddrPort) *socket {
	s := &socket{proxy: p, addr: addr, fd: fd, log: p.log.With("addr", addr.String())}
	s.table.Store(s.newTable(nil, nil))
	return s
}

// ownDescriptor is another descriptor of a listener, which stays open when that is closed.
func ownDescriptor(ln *net.TCPListener) (fd int, err error) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return -1, err
	}
	ctrl := raw.Control(func(is uintptr) {
		fd, err = unix.FcntlInt(is, unix.F_DUPFD_CLOEXEC, 0)
	})
	if ctrl != nil {
		return -1, ctrl
	}
	return fd, err
}

// addrPort is a TCP address, an IPv4 one in its own form.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// cause is err without the words and the address that our own error has already.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// admit lets connections in by what suits those who share the socket now. It needs Proxy.applying.
func (s *socket) admit() {
	http := s.table.Load().web != nil
	if s.gate.Gate != nil && s.gate.http == http {
		return
	}
	s.shut()
	open := s.proxy.engine.Open
	if http {
		open = s.proxy.openHTTP
	}
	g, err := open(s.fd, s)
	if err != nil {
		s.log.Error("accept nothing", "err", err)
		return
	}
	s.gate = gate{Gate: g, http: http}
}

// shut lets nothing in any more. It needs Proxy.applying.
func (s *socket) shut() {
	if s.gate.Gate != nil {
		s.gate.Close()
		s.gate = gate{}
	}
}

// close gives the address back: nobody listens there. It may be called again, and needs Proxy.applying.
func (s *socket) close() {
	if s.fd < 0 {
		return
	}
	s.shut()
	s.proxy.shutDown(s.fd, s.addr)
	s.fd = -1
}

// release leaves the address to another process, which has the socket too. It needs Proxy.applying.
func (s *socket) release() {
	s.shut()
	_ = unix.Close(s.fd)
	s.fd = -1
}

// Enter implements carry.Door.
func (s *socket) Enter(c carry.Conn, client netip.AddrPort) (carry.Guest, carry.Verdict, time.Duration) {
	p := s.proxy
	if !p.enter() {
		return nil, carry.Refused, s.Trouble(errFull)
	}
	s.trouble.over(s.log)
	t := s.table.Load()
	if t.web != nil {
		return nil, carry.Elsewhere, 0
	}
	g := p.newGuest(c, client)
	if !g.come(t.tcp) {
		g.Leave()
		return nil, carry.Refused, 0
	}
	return g, carry.Welcome, 0
}

// Take implements carry.Door: it gives a connection that entered to whom the socket belongs to.
func (s *socket) Take(conn *net.TCPConn) {
	if conn == nil {
		s.proxy.exit()
		return
	}
	for {
		t := s.table.Load()
		switch {
		case t.web != nil && t.web.serve(conn):
			return
		case s.table.Load() != t: // it was replaced meanwhile
			continue
		case t.web == nil && len(t.binds) > 0:
			s.proxy.exit() // it enters once more
			s.proxy.engine.Take(conn, s)
			return
		}
		refuse(conn)
		s.proxy.exit()
		return
	}
}

// Trouble implements carry.Door.
func (s *socket) Trouble(err error) time.Duration { return s.trouble.another(s.log, err) }

// openHTTP accepts from a listening socket by a goroutine of its own, as net/http wants connections.
func (p *Proxy) openHTTP(fd int, d carry.Door) (carry.Gate, error) {
	return p.goroutines.Open(fd, d)
}

// trouble is about accepts that fail, such as for want of descriptors: it tells how long to pause,
// and logs each cause once until there was no trouble for a while.
type trouble struct {
	there atomic.Bool // some may have to be over

	mu    sync.Mutex
	said  []string
	last  time.Time
	pause time.Duration
}

// another notes a failure and returns the time to wait, longer each time.
func (t *trouble) another(log *slog.Logger, err error) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.there.Store(true)
	if text := cause(err).Error(); !slices.Contains(t.said, text) {
		log.Warn("accept connection", "err", cause(err))
		t.said = append(t.said, text)
	}
	t.last = time.Now()
	t.pause = min(max(2*t.pause, acceptPauseMin), acceptPauseMax)
	return t.pause
}

// over notes a success.
func (t *trouble) over(log *slog.Logger) {
	if !t.there.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pause = 0
	if len(t.said) == 0 || time.Since(t.last) < calm {
		return
	}
	t.said = nil
	t.there.Store(false)
	log.Info("accepting connections again")
}

// refuse closes c by a reset, as a host does where nobody listens.
func refuse(c *net.TCPConn) { relay.Reset(c) }
