package proxytest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// normal are the clients whose times a crowd must not change.
func normal() mix { return mix{short: 4, keep: 8, pace: 20 * time.Millisecond} }

// TestCrowds lets normal clients work beside many others that are idle, slow or stuck, and compares the
// times with those of quiet moments before and after.
func TestCrowds(t *testing.T) {
	needNamespace(t)
	tests := []struct {
		name string
		n    int
		join func(ctx context.Context, addr string, i int) (net.Conn, error) // one of the crowd
	}{
		{"idle", pick(500, 9500), idler},
		{"slow-loris", pick(300, 5000), loris},
		{"slow readers", pick(50, 300), slowReader},
		{"writers nobody reads", pick(20, 200), stuckWriter},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, engine string) { crowded(t, engine, tt.n, tt.join) })
		})
	}
}

func crowded(t *testing.T, engine string, n int, join func(context.Context, string, int) (net.Conn, error)) {
	s := newTarget(t, 0)
	g := newGate(t, settings{Engine: engine}, s.addr())
	l := startLoad(t, g.addr, normal())
	span := time.Duration(pick(150, 3000)) * time.Millisecond
	var quiet, busy []time.Duration
	quiet = append(quiet, l.lapOf(span).p99)
	before := g.stats()
	members := gather(t, g.addr, n, join)
	calm(g)
	busy = append(busy, l.lapOf(span).p99)
	crowd := g.stats()
	next := newTarget(t, 1)
	l.lap()
	start := time.Now()
	g.apply("1", next.addr())
	_, err := firstAnswer(g.addr, 1, start)
	if err != nil {
		t.Error(err)
	}
	g.drain("0")
	took := time.Since(start)
	busy = append(busy, l.lapOf(span).p99)
	members.leave()
	if members.failed > 0 {
		t.Errorf("%d of the crowd of %d failed", members.failed, n)
	}
	g.awaitConns("0", 0) // short ones are over, the crowd has left
	quiet = append(quiet, l.lapOf(span).p99)
	l.wantNoFailure(t)
	g.awaitConns("1", 0)
	after := back(g, before, 2*12, 2*12)
	t.Logf("p99 quiet %v, beside %d others %v (the second during a switch, done in %v); %d bytes and %.2f descriptors for each", quiet, n, busy,
		took.Round(10*time.Microsecond), (crowd.RSS-before.RSS)/n, float64(crowd.Descriptors-before.Descriptors)/float64(n))
	if after.Descriptors > before.Descriptors+2*12 || after.Goroutines > before.Goroutines+2*12 {
		t.Errorf("before the crowd %+v, after it %+v", before, after)
	}
	// What is asked for is twice, on a machine with nothing else to do. On one that is shared, the best
	// of the one against the worst of the other shows only what is much worse, and that surely.
	if limit := max(50*time.Millisecond, 5*slices.Max(quiet)); !raceEnabled && slices.Min(busy) > limit {
		t.Errorf("p99 is %v beside a crowd, %v without", busy, quiet)
	}
}

// calm waits until the proxy has little to do: buffers are full, or what is slow is all that there is.
func calm(g *gate) {
	for last, limit := g.stats().CPU, time.Now().Add(time.Duration(pick(1, 10))*time.Second); time.Now().Before(limit); {
		<-time.After(100 * time.Millisecond)
		now := g.stats().CPU
		if now-last < 20*time.Millisecond {
			return
		}
		last = now
	}
}

// A crowd are connections that are kept.
type crowd struct {
	cancel context.CancelFunc

	mu     sync.Mutex
	conns  []net.Conn
	failed int
}

// gather opens n connections.
func gather(t *testing.T, addr string, n int, join func(context.Context, string, int) (net.Conn, error)) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{cancel: cancel}
	t.Cleanup(c.leave)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := i; k < n; k += 8 {
				conn, err := join(ctx, addr, k)
				c.mu.Lock()
				if err != nil {
					c.failed++
					if c.failed < 4 {
						t.Error(err)
					}
				} else {
					c.conns = append(c.conns, conn)
				}
				c.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return c
}

// leave closes all of them.
func (c *crowd) leave() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// idler asks once and stays.
func idler(_ context.Context, addr string, _ int) (net.Conn, error) {
	s, err := newSession(addr)
	if err != nil {
		return nil, err
	}
	if _, err := s.query(); err != nil {
		s.close()
		return nil, err
	}
	_ = s.c.SetDeadline(time.Time{})
	return s.c, nil
}

// loris sends a byte of a question now and then, and never comes to its end.
func loris(ctx context.Context, addr string, i int) (net.Conn, error) {
	c, err := dialUntil(addr, patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	_, err = c.Write([]byte{askSum})
	var again func()
	again = func() {
		if ctx.Err() != nil {
			return
		}
		if _, err := c.Write([]byte{'x'}); err == nil {
			time.AfterFunc(time.Second, again)
		}
	}
	time.AfterFunc(time.Duration(i%1000)*time.Millisecond, again)
	return c, err
}

// slowReader asks for more than all buffers hold and takes none of it.
func slowReader(_ context.Context, addr string, _ int) (net.Conn, error) {
	c, err := dialUntil(addr, patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetReadBuffer(4 << 10)
	_, err = fmt.Fprintf(c, "s12345678\x00\x00\x00\x00\x40\x00\x00\x00")
	return c, err
}

// stuckWriter sends as much as it can to a target that does not read.
func stuckWriter(ctx context.Context, addr string, _ int) (net.Conn, error) {
	c, err := dialUntil(addr, patience)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "s12345678\x00\x00\x00\x00\x40\x00\x00\x00"); err != nil {
		return nil, err
	}
	_ = c.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
	b := make([]byte, 64<<10)
	for ctx.Err() == nil {
		if _, err := c.Write(b); err != nil {
			break // its buffers are full
		}
	}
	_ = c.SetWriteDeadline(time.Time{})
	return c, nil
}
