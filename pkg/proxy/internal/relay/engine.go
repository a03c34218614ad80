package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// An Engine is a carry.Engine made of goroutines.
type Engine struct {
	spawn   func(func())
	buffers *Buffers
	dialer  net.Dialer
	within  func() context.Context // it ends with the engine
	end     context.CancelFunc

	mu     sync.Mutex
	visits map[*visit]struct{} // nil after Close
}

// New returns an engine. Of ctx only the values are used. spawn starts its goroutines and outlives them.
func New(ctx context.Context, spawn func(func()), b *Buffers, d net.Dialer) *Engine {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &Engine{
		spawn: spawn, buffers: b, dialer: d, visits: map[*visit]struct{}{},
		within: func() context.Context { return ctx }, end: cancel,
	}
}

// Take implements carry.Engine.
func (e *Engine) Take(c *net.TCPConn, d carry.Door) { e.enter(c, d) }

// Close implements carry.Engine.
func (e *Engine) Close() {
	e.end()
	e.mu.Lock()
	visits := e.visits
	e.visits = nil
	e.mu.Unlock()
	for v := range visits {
		v.Cut(true)
	}
}

// Freeze implements carry.Engine. Nothing is frozen: goroutines keep what they carry to its end.
func (*Engine) Freeze(int, func(carry.Guest) bool) ([]carry.Frozen, int) { return nil, 0 }

// Thaw implements carry.Engine.
func (*Engine) Thaw() {}

// Forget implements carry.Engine.
func (*Engine) Forget() {}

// Open implements carry.Engine.
func (e *Engine) Open(fd int, d carry.Door) (carry.Gate, error) {
	ln, err := Listener(fd)
	if err != nil {
		return nil, err
	}
	g := &gate{ln: ln, quit: make(chan struct{}), done: make(chan struct{})}
	e.spawn(func() { e.accept(g, d) })
	return g, nil
}

// A gate is a loop that accepts.
type gate struct {
	ln         *net.TCPListener
	quit, done chan struct{} // closed when it should end, when it did
}

// Close implements carry.Gate.
func (g *gate) Close() {
	close(g.quit)
	_ = g.ln.Close()
	<-g.done
}

// accept takes connections until the gate is closed. No error ends it.
func (e *Engine) accept(g *gate, d carry.Door) {
	defer close(g.done)
	for {
		var pause time.Duration
		conn, err := g.ln.AcceptTCP()
		switch {
		case err == nil:
			pause = e.enter(conn, d)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			pause = d.Trouble(err)
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-g.quit:
			}
		}
	}
}

// enter asks d about a connection and goes on with it.
func (e *Engine) enter(c *net.TCPConn, d carry.Door) (pause time.Duration) {
	v := &visit{engine: e, conn: c}
	g, verdict, pause := d.Enter(v, addrPort(c.RemoteAddr()))
	switch verdict {
	case carry.Elsewhere:
		d.Take(c)
		return pause
	case carry.Refused:
		Reset(c)
		return pause
	case carry.Welcome:
	}
	v.guest = g
	e.mu.Lock()
	open := e.visits != nil
	if open {
		e.visits[v] = struct{}{}
	}
	e.mu.Unlock()
	if !open {
		Reset(c)
		g.Leave()
		return pause
	}
	e.spawn(func() { v.serve(e.within()) })
	return pause
}

// forget notes that a visit is over.
func (e *Engine) forget(v *visit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.visits, v)
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
