package proxy

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// books checks the ledger against itself: each count is what one gets by counting.
func books(t testing.TB, l *ledger, routes []*route) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	perDest := map[*dest]int{}
	for id, tg := range l.targets {
		n := 0
		last := time.Time{}
		for s := tg.sessions.head; s != nil; s = s.next {
			n++
			if s.dest == nil || s.dest.id != id {
				t.Errorf("a session of target %s has destination %+v", id, s.dest)
				continue
			}
			if s.since.Before(last) {
				t.Errorf("target %s is not in order of age", id)
			}
			last = s.since
			perDest[s.dest]++
			if s.stage != stageDialling && s.stage != stageOpen {
				t.Errorf("a session of target %s is in stage %d", id, s.stage)
			}
		}
		if n != tg.sessions.n || n == 0 {
			t.Errorf("target %s counts %d sessions, has %d", id, tg.sessions.n, n)
		}
	}
	for d := range l.dests {
		if d.sessions != perDest[d] || !d.current && d.sessions == 0 {
			t.Errorf("destination %s counts %d sessions, has %d, current %v", d.id, d.sessions, perDest[d], d.current)
		}
		delete(perDest, d)
	}
	if len(perDest) > 0 {
		t.Errorf("%d destinations with sessions are forgotten", len(perDest))
	}
	for _, r := range routes {
		if r.held.n+r.leaving.n > r.holdMax {
			t.Errorf("%d sessions held, at most %d may be", r.held.n+r.leaving.n, r.holdMax)
		}
		if r.dest != nil && r.held.n+r.leaving.n > 0 {
			t.Errorf("%d sessions held beside a destination", r.held.n+r.leaving.n)
		}
	}
}

func (l *ledger) do(f func(a *aftermath)) {
	var a aftermath
	l.mu.Lock()
	defer l.finish(&a)
	f(&a)
}

func newRoute(holdMax int) *route { return &route{holdMax: holdMax, holdFor: time.Minute} }

// TestLedgerAgainstModel does one random thing after the other and keeps a second set of books.
func TestLedgerAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		runModel(t, rand.New(rand.NewPCG(seed, 1)))
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
}

func runModel(t *testing.T, rnd *rand.Rand) {
	l := newLedger()
	routes := []*route{newRoute(2), newRoute(3)}
	var (
		sessions []*session
		want     = map[string]int{} // count per ID
		idle     = map[string]int{} // times the count went to zero where nobody comes any more
		gotIdle  = map[string]int{}
	)
	l.onIdle = func(id string) { gotIdle[id]++ }
	at := func(s *session) string {
		if s.dest == nil {
			return ""
		}
		return s.dest.id
	}
	// step does f and compares what became of all sessions with what was counted.
	step := func(f func()) {
		before := map[*session]*dest{}
		for _, s := range sessions {
			before[s] = s.dest
		}
		f()
		now := map[string]int{}
		for _, s := range sessions {
			if id := at(s); id != "" {
				now[id]++
			}
		}
		for s, d := range before { // one session at a time leaves
			if d != nil && s.dest != d && now[d.id] == 0 && !d.current {
				idle[d.id]++
			}
		}
		want = now
	}
	for range 200 {
		r := routes[rnd.IntN(len(routes))]
		switch rnd.IntN(7) {
		case 0, 1:
			s := &session{route: r, link: newWaiter()}
			sessions = append(sessions, s)
			step(func() { l.place(s) })
		case 2:
			id := string(rune('A' + rnd.IntN(3)))
			step(func() { l.do(func(a *aftermath) { l.point(r, &dest{id: id}, a) }) })
		case 3:
			step(func() { l.do(func(a *aftermath) { l.point(r, nil, a) }) })
		default:
			if len(sessions) == 0 {
				continue
			}
			s := sessions[rnd.IntN(len(sessions))]
			switch rnd.IntN(5) {
			case 0:
				step(func() { l.leave(s) })
			case 1:
				step(func() { l.giveUp(s) })
			case 2:
				l.opened(s, nil)
			case 3:
				if s.stage == stageDialling {
					step(func() { l.place(s) }) // its dial failed
				}
			case 4:
				l.saidAll(s)
			}
		}
		books(t, l, routes)
		for _, id := range []string{"A", "B", "C"} {
			n := 0
			if tg := l.targets[id]; tg != nil {
				n = tg.sessions.n
			}
			if n != want[id] || idle[id] != gotIdle[id] {
				t.Errorf("target %s: %d sessions, idle %d times; want %d, %d", id, n, gotIdle[id], want[id], idle[id])
			}
		}
	}
	for _, s := range sessions {
		l.leave(s)
	}
	for _, r := range routes {
		l.do(func(a *aftermath) { l.shut(r, nil, a) })
	}
	if len(l.targets) > 0 || len(l.dests) > 0 {
		t.Errorf("left over: %d targets, %d destinations", len(l.targets), len(l.dests))
	}
}

// TestLedgerUnderContention does the same from many goroutines: nothing may be left in the end, and
// nobody may be on a target that was drained and seen empty.
func TestLedgerUnderContention(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := newRoute(4)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 2))
			for range 2000 {
				useLedger(l, r, rnd)
			}
		})
	}
	for i := range 2000 {
		id := fmt.Sprintf("t%d", i)
		l.do(func(a *aftermath) { l.point(r, &dest{id: id}, a) })
		if i%7 == 0 {
			l.do(func(a *aftermath) { l.point(r, nil, a) })
		}
		books(t, l, []*route{r})
		for empty := l.emptied(id); i%10 == 0 && empty != nil && r.dest == nil; empty = l.emptied(id) {
			<-empty
		}
	}
	l.do(func(a *aftermath) { l.shut(r, nil, a) })
	wg.Wait()
	if len(l.targets) > 0 || len(l.dests) > 0 || r.held.n+r.leaving.n > 0 {
		t.Errorf("left over: %d targets, %d destinations, %d held", len(l.targets), len(l.dests), r.held.n+r.leaving.n)
	}
}

// A waiter is the link of a session that nobody carries.
type waiter struct{ woken chan struct{} }

func newWaiter() *waiter { return &waiter{woken: make(chan struct{}, 1)} }

func (w *waiter) Hold(time.Duration) {
	select {
	case <-w.woken:
	default:
	}
}

func (w *waiter) Wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (*waiter) Abort()   {}
func (*waiter) Cut(bool) {}

// useLedger is the life of one session.
func useLedger(l *ledger, r *route, rnd *rand.Rand) {
	q := newWaiter()
	s := &session{route: r, link: q}
	defer l.leave(s)
	for range 4 {
		switch _, st := l.place(s); st {
		case stageHeld:
			if rnd.IntN(2) == 0 {
				if l.giveUp(s) {
					return
				}
				continue
			}
			select {
			case <-q.woken:
			case <-time.After(time.Millisecond):
				if l.giveUp(s) {
					return
				}
			}
		case stageDialling:
			if rnd.IntN(3) > 0 {
				l.opened(s, nil)
				return
			}
		default:
			return
		}
	}
}

// TestRandomConnections is the same with sockets: whatever clients and targets do, all counts end at zero.
func TestRandomConnections(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	targets := []string{named(t, "a"), named(t, "b"), deadPort(t), ""}
	l := tcp("t0", targets[0])
	l.HoldMax, l.HoldTimeout = 3, 5*time.Millisecond
	apply(t, p, l)
	addr := addrOf(t, p)
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 3))
			for range 25 {
				randomClient(addr, rnd)
			}
		})
	}
	rnd := rand.New(rand.NewPCG(9, 4))
	var ids []string
	for i := range 80 {
		l.Target = targets[rnd.IntN(len(targets))]
		l.TargetID = fmt.Sprintf("t%d", i)
		if l.Target == "" {
			l.TargetID = ""
		}
		ids = append(ids, l.TargetID)
		apply(t, p, l)
		if rnd.IntN(3) == 0 {
			p.Drain(ids[rnd.IntN(len(ids))])
		}
		if rnd.IntN(5) == 0 {
			p.Cut(t.Context(), ids[rnd.IntN(max(1, len(ids)-1))], 0)
		}
		waitABit(rnd)
	}
	wg.Wait()
	for _, id := range ids {
		wantOpen(t, p, id, 0)
	}
	books(t, p.ledger, []*route{&p.fronts["a:1"].route})
}
