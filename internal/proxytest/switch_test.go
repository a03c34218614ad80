package proxytest

import (
	"fmt"
	"testing"
	"time"
)

// TestSwitches replaces the target again and again at full load by short, keep-alive, streaming and half-closing
// clients at once, and stops each old target once nobody is counted on it.
func TestSwitches(t *testing.T) {
	needNamespace(t)
	eachEngine(t, func(t *testing.T, engine string) {
		n := pick(60, 1000)
		current := newTarget(t, 0)
		g := newGate(t, settings{Engine: engine}, current.addr())
		l := startLoad(t, g.addr, mix{short: 8, keep: 8, stream: 4, half: 4})
		quiet := l.lapOf(500 * time.Millisecond)
		var first, applied []time.Duration // answer of the new target; Apply alone
		old := make(chan *target, 4)       // being drained
		done := make(chan struct{})
		go func() { // the go statement ends with the channel
			defer close(done)
			for s := range old {
				retire(t, g, s)
			}
		}()
		for i := 1; i <= n; i++ {
			next := newTarget(t, uint64(i))
			start := time.Now()
			g.apply(fmt.Sprint(i), next.addr())
			applied = append(applied, time.Since(start))
			took, err := firstAnswer(g.addr, next.number, start)
			if err != nil {
				t.Errorf("after switch %d: %v", i, err)
			}
			first = append(first, took)
			g.drain(fmt.Sprint(current.number))
			old <- current
			current = next
		}
		busy := l.lap()
		close(old)
		<-done
		l.wantNoFailure(t)
		answer := spreadOf(first)
		t.Logf("quiet:  %v", quiet)
		t.Logf("switching: %v", busy)
		t.Logf("Apply: %v; first answer of the new target: %v", spreadOf(applied), answer)
		if raceEnabled {
			return
		}
		// What is asked for is 10 ms and 5 ms, on a machine with nothing else to do.
		if limit := max(50*time.Millisecond, 3*quiet.p99); busy.p99 > limit {
			t.Errorf("p99 is %v while targets are switched, %v before", busy.p99, quiet.p99)
		}
		if limit := max(50*time.Millisecond, 3*quiet.p99); answer.p50 > limit {
			t.Errorf("the new target answers after %v, p50", answer.p50)
		}
	})
}

// firstAnswer returns how long after start a new connection is answered. It must be by that target.
func firstAnswer(addr string, number uint64, start time.Time) (time.Duration, error) {
	got, err := queryOnce(addr)
	if err == nil && got != number {
		err = fmt.Errorf("target %d answers, want %d", got, number)
	}
	return time.Since(start), err
}

// retire stops s once nothing is counted on it, after which nothing may come.
func retire(t *testing.T, g *gate, s *target) {
	id := fmt.Sprint(s.number)
	limit := time.Now().Add(patience)
	for {
		r, err := g.do(order{Op: "conns", ID: id})
		if err != nil {
			t.Error(err)
			return
		}
		if r.Conns == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Errorf("%d connections of target %s after %v", r.Conns, id, patience)
			break
		}
		<-time.After(2 * time.Millisecond)
	}
	// It has accepted what was counted on it; from now on everything is too late. Its own side of what
	// ended may need a moment to see that.
	s.retired.Store(true)
	for s.open() > 0 && time.Now().Before(limit) {
		<-time.After(time.Millisecond)
	}
	<-time.After(5 * time.Millisecond)
	s.stop()
	if late, broken := s.late.Load(), s.broken.Load(); late > 0 || broken > 0 {
		t.Errorf("target %s: %d connections came after it was drained, %d were cut: %v", id, late, broken, s.why.Load())
	}
}
