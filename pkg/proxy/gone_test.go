package proxy

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// TestClientLeavesFullPair: a client that is gone ends its connection also when both directions were full, so
// that the target, which waits for room and reads nothing, is not counted for ever.
func TestClientLeavesFullPair(t *testing.T) {
	for _, engine := range []string{Loops, Goroutines} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			done := make(chan struct{})
			target := backend(t, func(c *net.TCPConn) {
				fill(c)
				<-done
			})
			t.Cleanup(func() { close(done) })
			p := newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler), Engine: engine})
			apply(t, p, tcp("A", target))
			var wg sync.WaitGroup
			for range 10 {
				c := connect(t, addrOf(t, p))
				wg.Go(func() {
					fill(c)
					_ = c.Close() // a reset: it has not read everything
				})
			}
			wg.Wait()
			wantOpen(t, p, "A", 0)
		})
	}
}

// fill writes to c until nothing was taken for a while.
func fill(c *net.TCPConn) {
	b := make([]byte, 256<<10)
	for {
		_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := c.Write(b); err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return
		}
	}
}

// TestResetRightBehindData: a reset is never passed on as an end, for what was cut off must not look complete,
// however close it comes behind data.
func TestResetRightBehindData(t *testing.T) {
	for _, engine := range []string{Loops, Goroutines} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			target := backend(t, func(c *net.TCPConn) {
				_, _ = c.Read(make([]byte, 1))
				_, _ = c.Write([]byte("half an answer"))
				reset(c)
			})
			p := newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler), Engine: engine})
			apply(t, p, tcp("A", target))
			for range 300 {
				c := connect(t, addrOf(t, p))
				_, _ = c.Write([]byte("?"))
				if got := what(c); got != "half an answer|reset" && got != "|reset" {
					t.Fatalf("client saw %q, want a reset", got)
				}
				_ = c.Close()
			}
			wantOpen(t, p, "A", 0)
		})
	}
}

// TestCloseWhilePeeking: nobody waits for a client to say whom it wants.
func TestCloseWhilePeeking(t *testing.T) {
	for _, engine := range []string{Loops, Goroutines} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			p := newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler), Engine: engine, ConnectTimeout: time.Hour})
			l := tcp("A", named(t, "a"))
			l.Match.SNI = []string{"shop.example"}
			apply(t, p, l)
			c := connect(t, addrOf(t, p))
			eventually(t, "connection is accepted", func() bool { return p.conns.Load() == 1 })
			began := time.Now()
			_ = p.Close()
			if d := time.Since(began); d > patience {
				t.Errorf("Close took %v", d)
			}
			if got := what(c); got != "|reset" {
				t.Errorf("client saw %q, want a reset", got)
			}
		})
	}
}
