package proxytest

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// maxPooled are the descriptors of pipes that a proxy may keep: 32 pipes for each of two loops, and two
// for its orders and reports.
const maxPooled = 2*32*2 + 2

// TestNothingStays opens and closes connections in every manner, and looks for what they leave behind
// in the proxy: descriptors, goroutines, memory, counts.
func TestNothingStays(t *testing.T) {
	needNamespace(t)
	eachEngine(t, func(t *testing.T, engine string) {
		n := pick(4000, 1_000_000)
		s := newTarget(t, 1)
		g := newGate(t, settings{Engine: engine}, s.addr())
		churn(t, g.addr, pick(1000, 20_000)) // what is needed once
		g.awaitConns("0", 0)
		before := settled(g)
		start := time.Now()
		churn(t, g.addr, n)
		took := time.Since(start)
		g.awaitConns("0", 0)
		after := back(g, before, 0, 0)
		t.Logf("%d connections, %.0f/s; before %+v, after %+v", n, float64(n)/took.Seconds(), before, after)
		if after.Descriptors > before.Descriptors {
			t.Errorf("%d descriptors stayed open", after.Descriptors-before.Descriptors)
		}
		if after.Pipes > before.Pipes && after.Pipes > maxPooled {
			t.Errorf("%d descriptors of pipes, want at most %d", after.Pipes, maxPooled)
		}
		if after.Goroutines > before.Goroutines {
			t.Errorf("%d goroutines stayed", after.Goroutines-before.Goroutines)
		}
		// A byte for each connection would be a leak; pools and tables of the runtime move by some KiB.
		if grown := after.Heap - before.Heap; grown > n/2+(128<<10) {
			t.Errorf("%d bytes stayed of %d connections", grown, n)
		}
		if g.logged.String() != "" {
			t.Errorf("said: %s", g.logged)
		}
	})
}

// settled are the stats once descriptors stopped becoming fewer: a reset at its end may be on its way.
func settled(g *gate) stats {
	s := g.stats()
	for range 20 {
		<-time.After(20 * time.Millisecond)
		next := g.stats()
		if next.Descriptors == s.Descriptors && next.Goroutines == s.Goroutines {
			return next
		}
		s = next
	}
	return s
}

// back are the stats once no more descriptors and goroutines than may stay are left beside those from before; or
// what they are when that does not come.
func back(g *gate, before stats, descriptors, goroutines int) stats {
	for limit := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		s := g.stats()
		if s.Descriptors <= before.Descriptors+descriptors && s.Goroutines <= before.Goroutines+goroutines || time.Now().After(limit) {
			return s
		}
	}
}

// churn makes n connections to addr, 16 at a time.
func churn(t *testing.T, addr string, n int) {
	t.Helper()
	var wg sync.WaitGroup
	var next, failed atomic.Int64
	for i := range uint64(16) {
		rnd := rand.New(rand.NewPCG(i, 0))
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if err := pass(addr, rnd); err != nil && failed.Add(1) <= 3 {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// pass makes one connection that ends in one of several manners. It returns an error unless everything
// came as agreed.
func pass(addr string, rnd *rand.Rand) error {
	switch kind := rnd.IntN(16); kind {
	case 0: // upload, half-close, answer
		return sumOnce(addr, rnd.Uint64(), rnd.Int64N(100_000))
	case 1: // not a word
		c, err := dialUntil(addr, patience)
		if err != nil {
			return err
		}
		return c.Close()
	case 2: // reset before, while or after the target is dialled
		c, err := dialUntil(addr, patience)
		if err != nil {
			return err
		}
		return resetAfter(c, nil)
	case 3: // reset while the target talks
		c, err := dialUntil(addr, patience)
		if err != nil {
			return err
		}
		return resetAfter(c, []byte("s12345678\x00\x00\x00\x00\x00\x10\x00\x00"))
	default:
		s, err := newSession(addr)
		if err != nil {
			return err
		}
		defer s.close()
		for range 1 + kind%2 {
			if _, err := s.query(); err != nil {
				return err
			}
		}
		if kind%3 == 0 {
			_ = s.c.SetLinger(0)
		}
		return nil
	}
}

func resetAfter(c *net.TCPConn, say []byte) error {
	_, err := c.Write(say)
	_ = c.SetLinger(0)
	_ = c.Close()
	return err
}
