package proxytest

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/faulttest"
	"github.com/gantryd/gantryd/internal/porttest"
)

// A bad day is a fault between proxy and target, and what a client may see of it. Each of its clients
// asks queries until it sees an end.
type badDay struct {
	name   string
	faults faulttest.Faults
	do     func(*faulttest.Proxy) // once the clients are at work
	heal   bool                   // clients work on after the fault ended
	reset  bool                   // they see a reset
	end    bool                   // they see the end of what the target says
}

func badDays() []badDay {
	way := func(w faulttest.Way) faulttest.Faults { return faulttest.Faults{Up: w, Down: w} }
	return []badDay{
		{name: "delay", faults: way(faulttest.Way{Delay: 20 * time.Millisecond}), heal: true},
		{name: "low rate", faults: way(faulttest.Way{Rate: 2000}), heal: true},
		{name: "nothing arrives at the target, for a while", faults: faulttest.Faults{Up: faulttest.Way{Hold: true}}, heal: true},
		{name: "nothing arrives from the target, for a while", faults: faulttest.Faults{Down: faulttest.Way{Hold: true}}, heal: true},
		{name: "nothing arrives at all, for a while", faults: way(faulttest.Way{Hold: true}), heal: true},
		{name: "a middlebox forgets", faults: way(faulttest.Way{Lose: true}), reset: true},
		{name: "reset after so many bytes to the target", faults: faulttest.Faults{Up: faulttest.Way{ResetAfter: 100}}, reset: true},
		{name: "reset after so many bytes from the target", faults: faulttest.Faults{Down: faulttest.Way{ResetAfter: 100}}, reset: true},
		{name: "reset", do: (*faulttest.Proxy).Reset, reset: true},
		{name: "cut", do: (*faulttest.Proxy).Cut, end: true, reset: true}, // a query behind the end is answered by a reset
		{name: "the target ends its half", do: func(p *faulttest.Proxy) { p.End(faulttest.Down) }, end: true},
		{name: "the target's half ends after so many bytes", faults: faulttest.Faults{Down: faulttest.Way{EndAfter: 160}}, end: true},
		{name: "the client's half ends at the target", do: func(p *faulttest.Proxy) { p.End(faulttest.Up) }, end: true},
	}
}

// TestFaultsBehindTheProxy does to the connections of one target what networks do, while the clients of another
// one must notice nothing. Afterwards nothing may be left.
func TestFaultsBehindTheProxy(t *testing.T) {
	for _, day := range badDays() {
		t.Run(day.name, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) { survive(t, engine, day) })
		})
	}
}

func survive(t *testing.T, engine string, day badDay) {
	s, good := newTarget(t, 1), newTarget(t, 2)
	bad := faulttest.Start(t, s.addr())
	g := newGate(t, settings{Engine: engine}, good.addr())
	before := g.stats()
	victims := gatherVictims(t, g, bad.Addr())
	g.apply("good", good.addr()) // from now on
	others := startLoad(t, g.addr, mix{short: 1, keep: 2, stream: 1, half: 1, pace: 5 * time.Millisecond})
	bad.Set(day.faults)
	if day.do != nil {
		day.do(bad)
	}
	<-time.After(150 * time.Millisecond)
	if day.heal {
		victims.wantAtWork(t)
		victims.finish()
	}
	if day.heal || day.faults.Up.Lose { // what got lost shows when it ends; the others last until they had their effect
		bad.Set(faulttest.Faults{})
	}
	victims.wg.Wait()
	bad.Set(faulttest.Faults{})
	victims.judge(t, day)
	g.awaitConns("bad", 0)
	eventually(t, "connections behind the fault end", func() bool { return bad.Open() == 0 })
	others.wantNoFailure(t)
	g.awaitConns("good", 0)
	if after := back(g, before, 8, 4); after.Descriptors > before.Descriptors+8 || after.Goroutines > before.Goroutines+4 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// victims are clients that ask queries of a target behind a fault.
type victims struct {
	wg       sync.WaitGroup
	done     atomic.Bool // they may end by themselves
	sessions []*session
	answers  atomic.Int64

	mu   sync.Mutex
	ends []error
}

// gatherVictims connects clients to the target at addr, which gets the ID "bad".
func gatherVictims(t *testing.T, g *gate, addr string) *victims {
	t.Helper()
	v := &victims{}
	g.apply("bad", addr)
	for range 8 {
		c, err := newSession(g.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.close)
		v.sessions = append(v.sessions, c)
		if n, err := c.query(); err != nil || n != 1 {
			t.Fatalf("target %d, %v", n, err)
		}
	}
	for _, c := range v.sessions {
		v.wg.Go(func() { v.ask(c) })
	}
	return v
}

func (v *victims) ask(c *session) {
	defer c.close()
	for !v.done.Load() {
		if _, err := c.query(); err != nil {
			v.mu.Lock()
			v.ends = append(v.ends, err)
			v.mu.Unlock()
			return
		}
		v.answers.Add(1)
		<-time.After(time.Millisecond)
	}
}

func (v *victims) finish() { v.done.Store(true) }

// wantAtWork fails the test if a client was sent away.
func (v *victims) wantAtWork(t *testing.T) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.ends) > 0 {
		t.Errorf("%d clients were sent away while the fault went on: %v", len(v.ends), v.ends[0])
	}
}

// judge compares how the clients ended with what may happen on such a day.
func (v *victims) judge(t *testing.T, day badDay) {
	t.Helper()
	var resets, ends int
	for _, err := range v.ends {
		switch {
		case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
			resets++
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			ends++
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Errorf("a client hung: %v", err)
		default:
			t.Errorf("a client ended by %v", err)
		}
	}
	t.Logf("%d answers, %d resets, %d ends", v.answers.Load(), resets, ends)
	switch {
	case day.heal && len(v.ends) > 0:
		t.Errorf("%d clients were sent away: %v", len(v.ends), v.ends[0])
	case !day.heal && len(v.ends) != len(v.sessions):
		t.Errorf("%d of %d clients noticed", len(v.ends), len(v.sessions))
	case resets > 0 && !day.reset:
		t.Errorf("%d clients were reset: %v", resets, v.ends)
	case ends > 0 && !day.end:
		t.Errorf("%d clients saw an end instead of a reset: %v", ends, v.ends)
	}
}

// TestFaultsWhileDialling: a target that does not accept, refuses, or accepts and resets.
func TestFaultsWhileDialling(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		s := newTarget(t, 1)
		bad := faulttest.Start(t, s.addr())
		g := newGate(t, settings{Engine: engine, Connect: time.Second}, bad.Addr())
		before := g.stats()
		t.Run("reset as soon as it is accepted", func(t *testing.T) {
			bad.Set(faulttest.Faults{Deny: true})
			for range 20 {
				if _, err := queryOnce(g.addr); !isReset(err) {
					t.Errorf("client saw %v, want a reset", err)
				}
			}
		})
		t.Run("accepted and not a word", func(t *testing.T) {
			bad.Set(faulttest.Faults{Mute: true})
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					if n, err := queryOnce(g.addr); err != nil || n != 1 {
						t.Errorf("target %d, %v, want an answer at last", n, err)
					}
				})
			}
			<-time.After(1200 * time.Millisecond) // longer than a connection may take to be there
			bad.Set(faulttest.Faults{})
			wg.Wait()
		})
		t.Run("refused, then somebody listens", func(t *testing.T) {
			g.apply("none", porttest.Refusing(t).Addr)
			if _, err := queryOnce(g.addr); !isReset(err) {
				t.Errorf("client saw %v, want a reset", err)
			}
			g.apply("0", bad.Addr())
			if n, err := queryOnce(g.addr); err != nil || n != 1 {
				t.Errorf("target %d, %v", n, err)
			}
			g.awaitConns("none", 0)
		})
		g.awaitConns("0", 0)
		if after := back(g, before, 4, 4); after.Descriptors > before.Descriptors+4 || after.Goroutines > before.Goroutines+4 {
			t.Errorf("before %+v, after %+v", before, after)
		}
	})
}

// isReset reports whether err is a reset, which a client may see before it knows that it is connected, or when
// it writes.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
