package proxy

import (
	"errors"
	"net/netip"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
	"github.com/gantryd/gantryd/pkg/proxy/internal/clienthello"
	"github.com/gantryd/gantryd/pkg/proxy/internal/proxyproto"
)

// What must be known of a client before its listener is.
type arrival uint8

const (
	arrived    arrival = iota // nothing: it has a listener
	introduces                // its PROXY header
	says                      // its ClientHello
	hasSaid                   // nothing more: it is about to get a listener
	lost                      // it will get none
)

// A guest is a TCP connection of a client. Guests are used again and again.
type guest struct {
	session
	proxy   *Proxy
	conn    carry.Conn
	quota   *quota   // of its listener; nil before it arrived
	bounds  *bounds  // by which it entered there
	journey *journey // nil once it is connected
}

// A journey is what must be known of a guest until it is connected to a target. Like the guest itself
// it is the engine's as long as that asks.
type journey struct {
	arrival arrival
	choice  *choice // until it arrived
	front   *front  // that it arrived at
	at      *dest   // that is being dialled
	missed  *dest   // that could not be reached, which was counted
	try     attempts
	local   netip.AddrPort // what the client connected to, if a PROXY header told
	server  string         // that its ClientHello names
}

// newGuest returns a guest that is nowhere yet.
func (p *Proxy) newGuest(c carry.Conn, client netip.AddrPort) *guest {
	g, _ := p.guests.Get().(*guest)
	if g == nil {
		g = &guest{}
		g.link = g
	}
	g.proxy, g.conn, g.client = p, c, client
	g.stage, g.cut = stageNew, false
	return g
}

// depart begins a journey.
func (g *guest) depart() {
	j, _ := g.proxy.journeys.Get().(*journey)
	if j == nil {
		j = &journey{}
	}
	g.journey = j
}

// rest ends it.
func (g *guest) rest() {
	if j := g.journey; j != nil {
		*j = journey{}
		g.proxy.journeys.Put(j)
		g.journey = nil
	}
}

// Hold implements link. Whoever carries the guest is told with the step.
func (*guest) Hold(time.Duration) {}

// Wake implements link.
func (g *guest) Wake() { g.conn.Wake() }

// Abort implements link.
func (g *guest) Abort() { g.conn.Abort() }

// Cut implements link.
func (g *guest) Cut(reset bool) { g.conn.Cut(reset) }

// come brings a guest to the listeners of a socket. It is false if there is no place there.
func (g *guest) come(c *choice) bool {
	g.depart()
	switch {
	case c.introduced(g.client.Addr()):
		g.journey.arrival, g.journey.choice = introduces, c
	case c.peek:
		g.journey.arrival, g.journey.choice = says, c
	default:
		return g.arrive(c.rest)
	}
	return true
}

// arrive brings a guest to its listener. It is false if there is none, or no place there.
func (g *guest) arrive(f *front) bool {
	g.journey.arrival, g.journey.choice = lost, nil
	if f == nil {
		return false
	}
	b := f.bounds.Load()
	if !f.quota.enter(b, g.client.Addr()) {
		return false
	}
	g.journey.front, g.route, g.quota, g.bounds = f, &f.route, f.quota, b
	g.journey.arrival = arrived
	return true
}

// Next implements carry.Guest.
func (g *guest) Next() carry.Step {
	switch g.journey.arrival {
	case introduces, says:
		g.journey.try.begin(g.proxy.connect)
		return carry.Step{Do: carry.Peek, Wait: time.Until(g.journey.try.deadline)}
	case hasSaid:
		g.journey.try = attempts{}
		if !g.arrive(g.journey.choice.of(g.journey.server)) {
			return carry.Step{Do: carry.Refuse}
		}
	case lost:
		return carry.Step{Do: carry.Refuse}
	case arrived:
	}
	return g.place()
}

// place asks the ledger where to go.
func (g *guest) place() carry.Step {
	d, stage := g.proxy.ledger.place(&g.session)
	switch stage {
	case stageDialling:
		g.journey.at = d
		g.journey.try.begin(d.up.within())
		return carry.Step{Do: carry.Dial, Target: d.target, Wait: time.Until(g.journey.try.deadline), Preface: g.preface()}
	case stageHeld:
		g.journey.try = attempts{}
		return carry.Step{Do: carry.Hold, Wait: g.proxy.ledger.holdTime(&g.session)}
	case stageNew, stageOpen, stageEnded: // open ones do not ask
	}
	return carry.Step{Do: carry.Refuse}
}

// preface is the PROXY header for the target, if it wants one.
func (g *guest) preface() []byte {
	if g.bounds.ProxyTo == 0 {
		return nil
	}
	local := g.journey.local
	if !local.IsValid() {
		local = g.conn.Local()
	}
	b, err := proxyproto.Append(nil, g.bounds.ProxyTo, g.client, local)
	if err != nil {
		return nil // never: both addresses are of one connection
	}
	return b
}

// Peeked implements carry.Guest.
func (g *guest) Peeked(b []byte, noMore bool) (discard int, more bool) {
	if g.journey.arrival == introduces {
		return g.introduced(b, noMore)
	}
	hello, need, err := clienthello.Parse(b)
	switch {
	case err == nil && need > 0 && !noMore:
		return 0, true
	case err == nil && need > 0 && len(b) > 0, err != nil && !errors.Is(err, clienthello.ErrNotTLS):
		g.journey.arrival = lost // it stopped in the middle, or a target might read another name than we do
	default: // also one that says nothing, or something else than TLS
		g.journey.server, g.journey.arrival = hello.ServerName, hasSaid
	}
	return 0, false
}

// introduced reads a PROXY header.
func (g *guest) introduced(b []byte, noMore bool) (discard int, more bool) {
	h, need, err := proxyproto.Parse(b)
	switch {
	case err == nil && need > 0 && !noMore:
		return 0, true
	case err != nil || need > 0:
		g.journey.arrival = lost
		return 0, false
	}
	if h.Source.IsValid() {
		g.client, g.journey.local = h.Source, h.Destination
	}
	g.journey.try = attempts{}
	g.journey.arrival = hasSaid
	if g.journey.choice.peek {
		g.journey.arrival = says
	}
	return h.Len, false
}

// SaidAll implements carry.Guest.
func (g *guest) SaidAll() { g.proxy.ledger.saidAll(&g.session) }

// GiveUp implements carry.Guest.
func (g *guest) GiveUp() bool { return g.proxy.ledger.giveUp(&g.session) }

// Missed implements carry.Guest.
func (g *guest) Missed(err error) (pause time.Duration) {
	if at := g.journey.at; g.journey.missed != at && g.proxy.within().Err() == nil {
		g.journey.missed = at
		at.meter.missed(err)
	}
	pause = g.journey.try.again()
	if pause < 0 && g.proxy.within().Err() == nil {
		g.journey.at.up.unreachable(g.journey.front, err)
	}
	return pause
}

// Opened implements carry.Guest.
func (g *guest) Opened() bool {
	at := g.journey.at
	at.up.reached()
	if g.journey.missed != at {
		at.meter.reached()
	}
	g.rest()
	return g.proxy.ledger.opened(&g.session, nil)
}

// Carried implements carry.Guest.
func (g *guest) Carried(w carry.Way, bytes, now int64) { g.carried(w, bytes, now) }

// Broke implements carry.Guest.
func (g *guest) Broke() { g.broke.Store(true) }

// Patience implements carry.Guest.
func (g *guest) Patience(half bool) time.Duration {
	limit := g.bounds.silence(half)
	if limit == 0 {
		return 0
	}
	if left := limit - g.idle(); left > 0 {
		return left
	}
	return -1
}

// Leave implements carry.Guest.
func (g *guest) Leave() {
	p := g.proxy
	p.exit() // before it is counted no more: who sees that finds its place free
	if g.quota != nil {
		g.quota.exit(g.bounds, g.client.Addr())
	}
	p.ledger.leave(&g.session)
	g.rest()
	g.route, g.proxy, g.conn, g.quota, g.bounds = nil, nil, nil, nil, nil
	g.forget()
	p.guests.Put(g)
}

// Attach implements carry.Guest.
func (g *guest) Attach(c carry.Conn) { g.conn = c }
