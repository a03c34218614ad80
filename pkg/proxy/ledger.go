package proxy

import (
	"net/netip"
	"sync"
	"time"
)

// A ledger knows which session is on which target. All of its state is under one lock, so that to
// choose a target and to count on it is one step. It does no I/O: under the lock it only wakes
// sessions, by moving a deadline, closing a channel or cancelling a dial.
type ledger struct {
	mu      sync.Mutex
	targets map[string]*target // those with sessions
	dests   map[*dest]struct{} // those that are current or have sessions
	meters  map[string]*meter  // by target ID
	onIdle  func(id string)
}

// A target is all sessions of one ID, longest there first.
type target struct {
	sessions list
	empty    chan struct{} // closed when the last one leaves; made by who waits for it
}

// A dest is a place where one route sends sessions to. What is below meter is guarded by the ledger.
type dest struct {
	id     string
	target netip.AddrPort
	up     *upstream
	meter  *meter // set when it gets its place in the ledger

	sessions int
	current  bool // new sessions of its route come here
	retired  bool // nobody may dial it any more: switched away or drained
}

// A route is where the sessions of one listener go. Its fields are guarded by the ledger.
type route struct {
	dest    *dest // nil: hold
	holdMax int
	holdFor time.Duration
	held    list   // sessions waiting for a destination
	leaving list   // held ones whose client sent all it had to say, and perhaps left
	closed  bool   // the listener is gone
	heir    *route // of a closed route whose address another listener took over
}

// The stages of a session.
type stage uint8

const (
	stageNew      stage = iota
	stageHeld           // in a list of its route
	stageDialling       // counted on its destination's target
	stageOpen           // counted, and connected
	stageEnded          // counted nowhere
)

// A session is one client connection, or one HTTP request, on its way to a target. Fields without
// a comment are guarded by the ledger.
type session struct {
	route  *route
	client netip.AddrPort // constant: where the client is
	link   link           // to whoever carries it; another one once a request is a tunnel

	stage      stage
	cut        bool
	dest       *dest
	since      time.Time // when it came to its target
	in         *list
	prev, next *session

	traffic
}

// A link is how the ledger reaches whoever carries a session. It is used with the ledger locked, so
// its methods neither wait nor ask the ledger.
type link interface {
	Hold(d time.Duration) // the session is held, for at most d: get ready to be woken
	Wake()                // the session is held no longer: look at its place
	Abort()               // end the dial in progress, and look for another place
	Cut(reset bool)       // end the session, by a reset or politely
}

// aftermath is what has to be done about a change once the lock is released.
type aftermath struct {
	idle   string      // ID that lost its last session
	unused []*upstream // nobody will want their idle connections
}

func newLedger() *ledger {
	return &ledger{targets: map[string]*target{}, dests: map[*dest]struct{}{}, meters: map[string]*meter{}}
}

// finish unlocks the ledger and does what the changes made under the lock ask for.
func (l *ledger) finish(a *aftermath) {
	call := l.onIdle
	l.mu.Unlock()
	for _, u := range a.unused {
		u.closeIdle()
	}
	if a.idle != "" && call != nil {
		call(a.idle)
	}
}

// place finds the place of a session that has none yet, or whose place did not work out: on the
// destination of its route, in the queue, or nowhere. It returns stageDialling with the
// destination to dial, stageHeld, or stageEnded. A move from one target to another is one step.
func (l *ledger) place(s *session) (*dest, stage) {
	var a aftermath
	l.mu.Lock()
	defer l.finish(&a)
	for s.route.closed && s.route.heir != nil {
		s.route = s.route.heir
	}
	r := s.route
	switch {
	case s.stage == stageEnded:
	case s.cut:
		l.drop(s, &a)
	case s.stage == stageHeld && r.dest == nil && !r.closed: // nothing changed
	case s.dest != nil && !s.dest.retired && (s.dest == r.dest || r.closed): // try again where it is
	case r.dest != nil:
		l.count(s, r.dest, &a)
	case r.closed || !r.makeRoom(l, &a):
		l.drop(s, &a)
	default:
		l.hold(s, &a)
	}
	return s.dest, s.stage
}

// makeRoom reports whether another session may be held. A held one whose client perhaps
// left gives its place to one that is surely there.
func (r *route) makeRoom(l *ledger, a *aftermath) bool {
	if r.held.n+r.leaving.n < r.holdMax {
		return true
	}
	s := r.leaving.head
	if s == nil {
		return false
	}
	l.drop(s, a)
	s.link.Wake()
	return true
}

// hold puts s into the queue of its route.
func (l *ledger) hold(s *session, a *aftermath) {
	l.unlink(s, a)
	s.stage = stageHeld
	s.route.held.push(s)
	s.link.Hold(s.route.holdFor) // before anyone can wake it
}

// count moves s to d.
func (l *ledger) count(s *session, d *dest, a *aftermath) {
	l.unlink(s, a)
	t := l.targets[d.id]
	if t == nil {
		t = &target{}
		l.targets[d.id] = t
	}
	if a.idle == d.id {
		a.idle = "" // left and came back in one step
	}
	s.stage, s.dest, s.since = stageDialling, d, time.Now()
	d.sessions++
	t.sessions.push(s)
}

// drop ends s.
func (l *ledger) drop(s *session, a *aftermath) {
	l.unlink(s, a)
	s.stage = stageEnded
}

// unlink takes s from wherever it is.
func (l *ledger) unlink(s *session, a *aftermath) {
	if s.in != nil {
		s.in.remove(s)
	}
	d := s.dest
	if d == nil {
		return
	}
	s.dest = nil
	d.sessions--
	l.tidy(d, a)
	t := l.targets[d.id]
	if t.sessions.n > 0 {
		return
	}
	delete(l.targets, d.id)
	if t.empty != nil {
		close(t.empty)
	}
	if !d.current { // where connections still come, the end of the last one is nothing to act on
		a.idle = d.id
	}
}

// tidy forgets a destination that nobody uses any more.
func (l *ledger) tidy(d *dest, a *aftermath) {
	if d.current || d.sessions > 0 {
		return
	}
	delete(l.dests, d)
	d.meter.used = time.Now()
	if d.up != nil {
		d.up.retire()
		a.unused = append(a.unused, d.up)
	}
}

// holdTime is how long s may be held.
func (l *ledger) holdTime(s *session) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.route.holdFor
}

// opened notes that s is connected, and carried by via from now on unless that is nil. It returns
// false when s was cut meanwhile.
func (l *ledger) opened(s *session, via link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.cut || s.stage != stageDialling {
		return false
	}
	s.stage = stageOpen
	s.touch()
	if via != nil {
		s.link = via
	}
	return true
}

// adopt counts s, which is connected already, on a target. Nobody dials that for its sake. Those of a
// target come in the order of their age.
func (l *ledger) adopt(s *session, id string, target netip.AddrPort, since time.Time) {
	var a aftermath
	l.mu.Lock()
	defer l.finish(&a)
	var d *dest
	for is := range l.dests {
		if is.id == id && is.up == nil && is.target == target {
			d = is
		}
	}
	if d == nil {
		d = &dest{id: id, target: target, retired: true, meter: l.meterOf(id)}
		l.dests[d] = struct{}{}
	}
	l.count(s, d, &a)
	s.stage, s.since = stageOpen, since
}

// leave ends s, wherever it is. It may be called again.
func (l *ledger) leave(s *session) {
	var a aftermath
	l.mu.Lock()
	defer l.finish(&a)
	if s.dest != nil && s.stage == stageOpen && !s.cut && s.wasRefused() {
		s.dest.meter.broken.Add(1)
	}
	l.drop(s, &a)
	s.since = time.Time{} // who still has an entry of s sees that it is another's now
}

// renew ends s, wherever it is, and makes it ready for the next request of its client.
func (l *ledger) renew(s *session) {
	var a aftermath
	l.mu.Lock()
	defer l.finish(&a)
	l.drop(s, &a)
	s.stage, s.cut, s.since = stageNew, false, time.Time{}
}

// giveUp ends s if it is still held. False means that something happened to it meanwhile.
func (l *ledger) giveUp(s *session) bool {
	var a aftermath
	l.mu.Lock()
	defer l.finish(&a)
	if s.stage != stageHeld {
		return false
	}
	l.drop(s, &a)
	return true
}

// saidAll notes that the client of a held session ended its half of the connection.
func (l *ledger) saidAll(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.stage == stageHeld && s.in == &s.route.held {
		s.route.held.remove(s)
		s.route.leaving.push(s)
	}
}

// point sends the sessions of r to d from now on; nil holds them. Held sessions go there at once,
// and so do those that still dial the old destination. The ledger is locked.
func (l *ledger) point(r *route, d *dest, a *aftermath) {
	old := r.dest
	r.dest = d
	if d != nil {
		d.current, d.meter = true, l.meterOf(d.id)
		l.dests[d] = struct{}{}
		for _, q := range []*list{&r.held, &r.leaving} {
			for s := q.head; s != nil; s = q.head {
				l.count(s, d, a)
				s.link.Wake()
			}
		}
	}
	if old != nil {
		old.current = false
		l.retire(old, a)
	}
}

// retire sees to it that nobody dials d any more. The ledger is locked.
func (l *ledger) retire(d *dest, a *aftermath) {
	d.retired = true
	if d.up != nil {
		d.up.retire()
		a.unused = append(a.unused, d.up)
	}
	if t := l.targets[d.id]; t != nil && d.sessions > 0 {
		for s := t.sessions.head; s != nil; s = s.next {
			if s.dest == d && s.stage == stageDialling {
				s.link.Abort()
			}
		}
	}
	l.tidy(d, a)
}

// shut ends r. Held sessions wait at its heir, or are refused when there is none; those on their
// way go on. The ledger is locked.
func (l *ledger) shut(r, heir *route, a *aftermath) {
	r.closed, r.heir = true, heir
	for _, q := range []*list{&r.held, &r.leaving} {
		for s := q.head; s != nil; s = q.head {
			l.inherit(s, heir, a)
		}
	}
	if d := r.dest; d != nil {
		r.dest, d.current = nil, false
		l.tidy(d, a)
	}
}

// inherit gives a held session to heir, which may be nil.
func (l *ledger) inherit(s *session, heir *route, a *aftermath) {
	switch {
	case heir == nil || heir.dest == nil && heir.held.n+heir.leaving.n >= heir.holdMax:
		l.drop(s, a)
	case heir.dest != nil:
		s.route = heir
		l.count(s, heir.dest, a)
	default:
		s.in.remove(s)
		s.route = heir
		heir.held.push(s)
		return
	}
	s.link.Wake()
}
