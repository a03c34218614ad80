package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// A State is what another process can go on with: listening sockets and TCP connections, with their
// descriptors. One made by Export belongs to its proxy; one made by Receive to whoever has it, until
// it is given to New.
type State struct {
	listeners []heirloom
	conns     []survivor
}

// An heirloom is a listening socket.
type heirloom struct {
	Addr netip.AddrPort `json:"addr"`
	fd   int
}

// A survivor is a TCP connection.
type survivor struct {
	Listener string         `json:"listener"` // its name
	Client   netip.AddrPort `json:"client"`
	Local    netip.AddrPort `json:"local,omitzero"` // that a PROXY header told
	Bounds   bounds         `json:"bounds"`
	ID       string         `json:"id,omitempty"` // of the target; empty without one
	Target   netip.AddrPort `json:"target,omitzero"`
	Since    time.Time      `json:"since,omitzero"`
	Active   int64          `json:"active,omitempty"` // Unix nanoseconds
	Sent     int64          `json:"sent,omitempty"`
	Received int64          `json:"received,omitempty"`
	Ended    [2]bool        `json:"ended"`  // of carry.Frozen
	Passed   [2]bool        `json:"passed"` // of carry.Frozen
	Doomed   bool           `json:"doomed,omitempty"`
	Prefaced bool           `json:"prefaced,omitempty"`
	Up       int            `json:"up,omitempty"`   // bytes that are pending
	Down     int            `json:"down,omitempty"` // bytes that are pending

	fds     [2]int
	pending [2][]byte
}

// Export returns the listening sockets, for another process that accepts from them, too. The proxy goes on until
// Resume or Release, one of which must follow; Apply waits until then.
func (p *Proxy) Export(ctx context.Context) (*State, error) {
	p.applying.Lock()
	if err := ctx.Err(); err != nil || p.closed {
		p.applying.Unlock()
		if p.closed {
			err = ErrClosed
		}
		return nil, fmt.Errorf("export connections: %w", err)
	}
	s := &State{}
	for _, is := range p.sockets {
		s.listeners = append(s.listeners, heirloom{Addr: is.addr, fd: is.fd})
	}
	s.listeners = append(s.listeners, p.inherited...) // that nobody asked for yet
	slices.SortFunc(s.listeners, func(a, b heirloom) int { return a.Addr.Compare(b.Addr) })
	for _, name := range slices.Sorted(maps.Keys(p.homeless)) {
		s.conns = append(s.conns, p.homeless[name]...)
	}
	return s, nil
}

// batch is how many connections are moved at once. Each of them stands still as long as it takes to move all of
// these, however many connections there are.
const batch = 32

// moveEvery is the pause until connections that cannot be moved yet are looked at again.
const moveEvery = 2 * time.Millisecond

// Moved is what Move did.
type Moved struct {
	Conns  int
	Stalls time.Duration // the longest time that a connection stood still
}

// Move hands the TCP connections over to the process that has what Export returned, and accepts by now: this one
// accepts nothing any more. It is called before Release. Send is given a few connections at a time, and returns
// when the other process carries them; after an error, sent says that it may do so. Connections that are not moved
// go on here: those of HTTP, and whatever was upgraded. One that has no listener yet, because its PROXY header or
// ClientHello has not wholly come, is waited for a little, and ends with Release.
func (p *Proxy) Move(ctx context.Context, send func(*State) (sent bool, err error)) (Moved, error) {
	p.OnIdle(nil)
	for _, s := range p.sockets {
		s.shut()
	}
	var m Moved
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for waited := time.Now(); ; {
		began := time.Now()
		frozen, rest := p.engine.Freeze(batch, p.movable)
		if len(frozen) > 0 {
			s := &State{}
			for _, f := range frozen {
				s.conns = append(s.conns, p.survivorOf(f))
			}
			sent, err := send(s)
			if err != nil && !sent {
				p.engine.Thaw()
				return m, fmt.Errorf("move connections: %w", err)
			}
			p.engine.Forget()
			m.Conns, m.Stalls = m.Conns+len(frozen), max(m.Stalls, time.Since(began))
			if err != nil {
				return m, fmt.Errorf("move connections: %w", err)
			}
			waited = time.Now()
			continue
		}
		if rest == 0 || time.Since(waited) > firstRequest {
			return m, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return m, context.Cause(ctx)
		}
	}
}

// movable reports whether a connection can be moved: not without a listener, and not when it is being cut. It is
// called on the goroutine that carries the guest.
func (p *Proxy) movable(carried carry.Guest) bool {
	g, ok := carried.(*guest)
	if !ok || g.bounds == nil {
		return false
	}
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	return !g.cut
}

// survivorOf describes a frozen connection.
func (p *Proxy) survivorOf(f carry.Frozen) survivor {
	g := f.Guest.(*guest)
	c := survivor{
		Listener: g.quota.name, Client: g.client, Bounds: *g.bounds, Active: g.lastActive(),
		Sent: g.sent.Load(), Received: g.received.Load(), Ended: f.Ended, Passed: f.Passed,
		Doomed: f.Doomed, Prefaced: f.Prefaced, Up: len(f.Pending[carry.Up]), Down: len(f.Pending[carry.Down]),
		fds: f.FDs, pending: f.Pending,
	}
	if f.FDs[carry.Down] < 0 {
		c.Local = g.journey.local
		return c
	}
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	c.ID, c.Target, c.Since = g.dest.id, g.dest.target, g.since
	return c
}

// Resume goes on as before Export, from which the State is.
func (p *Proxy) Resume(*State) { p.applying.Unlock() }

// Release lets go of the listening sockets in s, which came from Export: another process has them. What was not moved
// goes on here; Apply is not possible any more, and nobody is told of targets without connections.
func (p *Proxy) Release(*State) {
	defer p.applying.Unlock()
	p.closed = true
	p.OnIdle(nil)
	var a aftermath
	p.ledger.mu.Lock()
	sockets := p.sockets
	p.sockets = map[string]*socket{}
	for name, f := range p.fronts {
		if f.spec.Kind == HTTP && f.route.dest != nil {
			continue // connections that were accepted have requests to come
		}
		p.ledger.shut(&f.route, nil, &a)
		delete(p.fronts, name)
	}
	p.ledger.finish(&a)
	for _, s := range sockets {
		s.release()
		if w := s.share(nil); w != nil {
			w.stop()
		}
	}
	p.releaseUnclaimed()
	clear(p.applied)
}

// releaseUnclaimed leaves what nobody asked for to the other process.
func (p *Proxy) releaseUnclaimed() {
	rest := State{listeners: p.inherited}
	for _, clients := range p.homeless {
		rest.conns = append(rest.conns, clients...)
	}
	rest.Close()
	p.inherited, p.homeless = nil, nil
}

// Adopt goes on with connections that another process moves, while this one serves. The State is empty afterwards;
// on an error it is as it was.
func (p *Proxy) Adopt(s *State) error {
	p.applying.Lock()
	defer p.applying.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.adopt(s)
	p.house()
	return nil
}

// adopt goes on with what is in s: with the connections that have a target. The others wait for their listener.
func (p *Proxy) adopt(s *State) {
	p.inherited = append(p.inherited, s.listeners...)
	for _, l := range s.listeners {
		p.opened(l.fd, l.Addr)
	}
	if p.homeless == nil {
		p.homeless = map[string][]survivor{}
	}
	var open []carry.Frozen
	slices.SortStableFunc(s.conns, func(a, b survivor) int { return a.Since.Compare(b.Since) })
	for _, c := range s.conns {
		if c.fds[carry.Down] < 0 {
			p.homeless[c.Listener] = append(p.homeless[c.Listener], c)
			continue
		}
		f := p.frozen(c)
		p.ledger.adopt(&f.Guest.(*guest).session, c.ID, c.Target, c.Since)
		open = append(open, f)
	}
	if len(open) > 0 {
		p.engine.Adopt(open)
	}
	s.listeners, s.conns = nil, nil
}

// frozen makes a guest of a survivor.
func (p *Proxy) frozen(c survivor) carry.Frozen {
	p.conns.Add(1) // it has its place, however many there are
	g := p.newGuest(nil, c.Client)
	b := c.Bounds
	g.bounds, g.quota = &b, p.quotaOf(c.Listener)
	g.quota.take(&b, c.Client.Addr())
	g.sent.Store(c.Sent)
	g.received.Store(c.Received)
	g.activeAt(c.Active)
	return carry.Frozen{
		Guest: g, FDs: c.fds, Pending: c.pending, Ended: c.Ended, Passed: c.Passed, Doomed: c.Doomed, Prefaced: c.Prefaced,
	}
}

// house brings the clients that had no target yet to their listener, if that is there now. It needs
// Proxy.applying.
func (p *Proxy) house() {
	var frozen []carry.Frozen
	for name, clients := range p.homeless {
		f := p.fronts[name]
		if f == nil {
			continue
		}
		for _, c := range clients {
			z := p.frozen(c)
			g := z.Guest.(*guest)
			g.depart()
			g.journey.front, g.journey.local, g.route = f, c.Local, &f.route
			frozen = append(frozen, z)
		}
		delete(p.homeless, name)
	}
	if len(frozen) > 0 {
		p.engine.Adopt(frozen)
	}
}

// Settle closes what was inherited and asked for by nobody: listening sockets, and clients that
// wait for a listener that did not come. Call it when every owner has applied its listeners.
func (p *Proxy) Settle() {
	p.applying.Lock()
	defer p.applying.Unlock()
	p.settle()
}

// Unsettled reports whether there is something that Settle would close.
func (p *Proxy) Unsettled() bool {
	p.applying.Lock()
	defer p.applying.Unlock()
	return len(p.inherited)+len(p.homeless) > 0
}

func (p *Proxy) settle() {
	for _, l := range p.inherited {
		p.shutDown(l.fd, l.Addr)
	}
	p.inherited = nil
	for _, clients := range p.homeless {
		for _, c := range clients {
			c.reset()
		}
	}
	p.homeless = nil
}

// inherit returns the listening socket of addr, if there is one.
func (p *Proxy) inherit(addr netip.AddrPort) (*socket, bool) {
	i := slices.IndexFunc(p.inherited, func(l heirloom) bool { return l.Addr == addr })
	if i < 0 {
		return nil, false
	}
	s := p.newSocket(p.inherited[i].fd, addr)
	p.inherited = slices.Delete(p.inherited, i, i+1)
	return s, true
}

// disinherit closes what nobody asked for and is in the way of a socket on addr: the daemon before listened
// elsewhere.
func (p *Proxy) disinherit(addr netip.AddrPort) {
	p.inherited = slices.DeleteFunc(p.inherited, func(l heirloom) bool {
		if !overlap(l.Addr, addr) {
			return false
		}
		p.shutDown(l.fd, l.Addr)
		return true
	})
}

// reset resets a connection that nobody carries.
func (c *survivor) reset() {
	for _, fd := range c.fds {
		if fd >= 0 {
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			_ = unix.Close(fd)
		}
	}
}

// Close gives up a State that was received and not given to New. It closes descriptors, and does nothing
// to the connections: they are still those of the process that sent it, which may go on with them.
func (s *State) Close() {
	for _, l := range s.listeners {
		_ = unix.Close(l.fd)
	}
	for _, c := range s.conns {
		for _, fd := range c.fds {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
	}
	s.listeners, s.conns = nil, nil
}

// Counts is how many listening sockets and connections s has.
func (s *State) Counts() (listeners, conns int) { return len(s.listeners), len(s.conns) }
