package proxy

import (
	"cmp"
	"context"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"
)

// politeIdle is how long a connection must have been silent to be cut by a FIN. A busy one gets a
// reset, so that its client does not take what it has for the whole.
const politeIdle = time.Second

// cutTick is how often Cut acts.
const cutTick = 10 * time.Millisecond

// ConnInfo is one open connection or request of a target.
type ConnInfo struct {
	Client   string        // ip:port
	Target   string        // ip:port
	Age      time.Duration // since its target was chosen
	Idle     time.Duration // since bytes last went either way; 0 for a request in flight
	BytesIn  int64         // from the client to the target; 0 for a request in flight
	BytesOut int64         // from the target to the client; 0 for a request in flight
}

// Conns counts the connections of a target ID over all listeners, those being dialled too, and
// tells the age of the oldest one.
func (p *Proxy) Conns(id string) (open int, oldest time.Duration) {
	l := p.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.targets[id]
	if t == nil {
		return 0, 0
	}
	return t.sessions.n, time.Since(t.sessions.head.since)
}

// Guests counts the connections of a target ID whose client is at none of the addresses. It looks at each of them.
func (p *Proxy) Guests(id string, home []netip.Addr) int {
	n := 0
	p.ledger.eachGuest(id, home, func(*session) { n++ })
	return n
}

// eachGuest calls f with the sessions of a target, the oldest first, whose client is at none of the addresses. The ledger
// is locked meanwhile.
func (l *ledger) eachGuest(id string, home []netip.Addr, f func(*session)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.targets[id]
	if t == nil {
		return
	}
	for s := t.sessions.head; s != nil; s = s.next {
		if !slices.Contains(home, s.client.Addr()) {
			f(s)
		}
	}
}

// Connections lists the connections of a target ID, the oldest first. It looks at each of them;
// Conns is cheaper.
func (p *Proxy) Connections(id string) []ConnInfo {
	return p.Oldest(id, math.MaxInt)
}

// Oldest is Connections, but lists and looks at the given number of them at most.
func (p *Proxy) Oldest(id string, most int) []ConnInfo {
	list := p.ledger.snapshot(id, most)
	infos := make([]ConnInfo, len(list))
	for i, e := range list {
		infos[i] = ConnInfo{
			Client: e.client.String(), Target: e.target.String(), Age: time.Since(e.since), Idle: e.idle, BytesIn: e.sent, BytesOut: e.received,
		}
	}
	return infos
}

// OnIdle sets the function called each time the last connection of a target ID ended that its listener
// was pointed away from, or that drains. It is called without locks, so a new connection may be there
// already: look at Conns. It must not block.
func (p *Proxy) OnIdle(f func(id string)) {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	p.ledger.onIdle = f
}

// Drain keeps new connections from a target ID for good: listeners that still point at it hold them
// until they are given another target. Its idle upstream connections are closed, and it is not
// dialled any more: what was still being dialled waits for the new target, unless its listener is gone. The
// rest goes on.
func (p *Proxy) Drain(id string) {
	var a aftermath
	l := p.ledger
	l.mu.Lock()
	defer l.finish(&a)
	for _, f := range p.fronts {
		if d := f.route.dest; d != nil && d.id == id {
			l.point(&f.route, nil, &a)
		}
	}
	for d := range l.dests {
		if d.id == id && d.up != nil {
			a.unused = append(a.unused, d.up)
		}
	}
}

// sortAgain is how old the order may be in which Cut goes by: a connection that was silent may be busy now.
const sortAgain = time.Second

// Cut closes connections of a target ID, silent ones first, at most rate a second (0: all at once),
// until none is left or ctx ends. It does not keep new ones away: call Drain before.
func (p *Proxy) Cut(ctx context.Context, id string, rate int) { p.CutGuests(ctx, id, rate, nil) }

// CutGuests is Cut, but for connections whose client is at one of the addresses: those it leaves alone.
func (p *Proxy) CutGuests(ctx context.Context, id string, rate int, home []netip.Addr) {
	tick := time.NewTicker(cutTick)
	defer tick.Stop()
	var (
		queue   []entry
		allowed float64
		last    time.Time
		sorted  time.Time
	)
	for {
		empty := p.ledger.emptied(id)
		if empty == nil || len(home) > 0 && p.Guests(id, home) == 0 {
			return
		}
		now := time.Now()
		if len(queue) == 0 || now.Sub(sorted) >= sortAgain {
			queue, sorted = p.ledger.victims(id, home), now
		}
		n := len(queue)
		if rate > 0 {
			burst := max(1, 2*float64(rate)*cutTick.Seconds())
			allowed = min(allowed+earned(rate, now, &last), burst)
			n = min(n, int(allowed))
			allowed -= float64(n)
		}
		for _, v := range queue[:n] {
			p.ledger.cut(v)
		}
		queue = queue[n:]
		select {
		case <-empty:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// earned is how many connections may be cut now for the time since last, which it sets. The first
// one may be cut at once.
func earned(rate int, now time.Time, last *time.Time) float64 {
	defer func() { *last = now }()
	if last.IsZero() {
		return 1
	}
	return float64(rate) * now.Sub(*last).Seconds()
}

// An entry is what the ledger knew of a session when it was asked. The session itself may have
// ended since then, and be another one.
type entry struct {
	session        *session
	client, target netip.AddrPort
	since          time.Time
	idle           time.Duration
	sent, received int64
	wasCut         bool
}

// snapshot lists the sessions of a target, the oldest first, at most so many.
func (l *ledger) snapshot(id string, most int) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.targets[id]
	if t == nil {
		return nil
	}
	most = min(most, t.sessions.n)
	list := make([]entry, 0, most)
	for s := t.sessions.head; s != nil && len(list) < most; s = s.next {
		list = append(list, entry{
			session: s, client: s.client, target: s.dest.target, since: s.since, idle: s.idle(),
			sent: s.sent.Load(), received: s.received.Load(), wasCut: s.cut,
		})
	}
	return list
}

// victims lists the sessions of a target that were not cut yet, the longest silent first, but for those from home.
func (l *ledger) victims(id string, home []netip.Addr) []entry {
	list := slices.DeleteFunc(l.snapshot(id, math.MaxInt), func(c entry) bool { return c.wasCut || slices.Contains(home, c.client.Addr()) })
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(b.idle, a.idle) })
	return list
}

// emptied returns a channel that is closed when the target has no session left, nil when it has none.
func (l *ledger) emptied(id string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.targets[id]
	if t == nil {
		return nil
	}
	if t.empty == nil {
		t.empty = make(chan struct{})
	}
	return t.empty
}

// cut ends a session, unless that was done already.
func (l *ledger) cut(v entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A session with another time is another request of the same client, or went elsewhere.
	if s := v.session; s.since.Equal(v.since) && !s.cut && s.stage != stageEnded {
		s.cut = true
		s.link.Cut(v.idle < politeIdle)
	}
}

// anyTarget is emptied of some target, nil when no target has a session.
func (l *ledger) anyTarget() <-chan struct{} {
	for _, id := range l.ids() {
		if empty := l.emptied(id); empty != nil {
			return empty
		}
	}
	return nil
}

// cutAll cuts every session, of all targets.
func (l *ledger) cutAll() {
	for _, id := range l.ids() {
		for _, v := range l.victims(id, nil) {
			l.cut(v)
		}
	}
}

// ids are the targets with sessions.
func (l *ledger) ids() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.targets))
}
