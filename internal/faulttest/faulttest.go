package faulttest

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Faults are what a Proxy does. The zero value does nothing bad.
type Faults struct {
	Up   Way  // from the client to the target
	Down Way  // from the target to the client
	Deny bool // new connections are reset as soon as they are there
	Mute bool // new connections are accepted and reach no target before this ends
}

// A Way is what happens in one direction.
type Way struct {
	Delay time.Duration // everything arrives that much later
	Rate  int           // bytes per second at most, in steps of 10 ms; 0 is no bound
	// Hold lets nothing arrive until it ends; then all of it does.
	Hold bool
	// Lose lets nothing arrive that is sent before it ends. A connection that lost something cannot go on:
	// it is reset as soon as nothing gets lost any more.
	Lose bool
	// ResetAfter resets both ends of a connection once that many bytes of it arrived; 0 is never.
	ResetAfter int64
	// EndAfter ends this direction once that many bytes arrived; the rest is lost. 0 is never.
	EndAfter int64
}

// A Direction of a connection.
type Direction int

// The directions.
const (
	Up   Direction = iota // from the client to the target
	Down                  // from the target to the client
)

func (f Faults) way(d Direction) Way {
	if d == Up {
		return f.Up
	}
	return f.Down
}

func (f Faults) loses() bool { return f.Up.Lose || f.Down.Lose }

// A Proxy forwards connections to a target and adds faults.
type Proxy struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	faults  Faults
	changed chan struct{} // closed by the next Set
	marker  string        // what asks for next; empty for nothing
	next    Faults
	dials   int
	links   map[*link]struct{}
	closed  bool
}

// Start returns a proxy to target (host:port) that ends with the test.
func Start(tb testing.TB, target string) *Proxy {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{target: target, listener: l, changed: make(chan struct{}), links: map[*link]struct{}{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	p.wg.Go(func() { p.accept(ctx) })
	tb.Cleanup(func() {
		cancel()
		p.close()
	})
	return p
}

// Addr is host:port of the proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set makes f the faults of all connections, the open ones too, from now on.
func (p *Proxy) Set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marker = ""
	p.set(f)
}

// SetAfter makes f the faults as soon as marker is sent by a client; what it was sent with is the first
// thing they happen to. The marker is looked for in what is read at once, which holds a small request whole.
func (p *Proxy) SetAfter(marker string, f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marker, p.next = marker, f
}

func (p *Proxy) set(f Faults) {
	p.faults = f
	close(p.changed)
	p.changed = make(chan struct{})
	if f.loses() {
		return
	}
	for l := range p.links {
		if l.lost.Load() {
			l.reset()
		}
	}
}

// Reset resets both ends of each open connection.
func (p *Proxy) Reset() { p.each((*link).reset) }

// Cut closes both ends of each open connection.
func (p *Proxy) Cut() { p.each((*link).cut) }

// End ends a direction of each open connection; what is sent afterwards is lost.
func (p *Proxy) End(d Direction) { p.each(func(l *link) { l.end(d) }) }

func (p *Proxy) each(do func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		do(l)
	}
}

// Dials counts the connections asked for since the start.
func (p *Proxy) Dials() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

// Open counts the connections that have not ended.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.set(Faults{})
	for l := range p.links {
		l.cut()
	}
	p.mu.Unlock()
	_ = p.listener.Close()
	p.wg.Wait()
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		c, err := p.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptors: there may be some soon
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		default:
			p.wg.Go(func() { p.forward(ctx, c.(*net.TCPConn)) })
		}
	}
}

// forward carries one connection.
func (p *Proxy) forward(ctx context.Context, client *net.TCPConn) {
	if !p.admit() {
		reset(client)
		return
	}
	server, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	l := newLink(p, client, server.(*net.TCPConn))
	if p.add(l) {
		l.carry()
		p.forget(l)
	}
	l.cut()
}

// admit reports whether a new connection may go on, once that is known.
func (p *Proxy) admit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dials++
	for p.faults.Mute && !p.faults.Deny && !p.closed {
		changed := p.changed
		p.mu.Unlock()
		<-changed
		p.mu.Lock()
	}
	return !p.faults.Deny && !p.closed
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// now returns what happens to b on its way in that direction, and a channel that is closed when
// that changes.
func (p *Proxy) now(d Direction, b []byte) (Way, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.marker != "" && d == Up && strings.Contains(string(b), p.marker) {
		p.marker = ""
		p.set(p.next)
	}
	return p.faults.way(d), p.changed
}
