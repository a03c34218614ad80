package proxytest

import (
	"net"
	"strings"
	"testing"
	"time"
)

// TestNoDescriptors takes all descriptors of the proxy, again and again: what is open goes on, it does not
// spin or fill the log, and it serves as soon as there are some.
func TestNoDescriptors(t *testing.T) {
	tests := []struct {
		name     string
		maxConns int // 0: what the proxy thinks it can have
	}{
		{"bounded by descriptors", 0},
		{"somebody else took them", 10_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, engine string) {
				s := newTarget(t, 1)
				g := newGate(t, settings{Engine: engine, MaxConns: tt.maxConns, Descriptors: 120}, s.addr())
				open, err := newSession(g.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer open.close()
				if _, err := open.query(); err != nil {
					t.Fatal(err)
				}
				before, start := g.stats(), time.Now()
				var worst time.Duration
				rounds := pick(3, 100)
				for range rounds {
					worst = max(worst, exhaust(t, g, open))
				}
				g.awaitConns("0", 1)
				took := time.Since(start)
				after := back(g, before, 1, 0)
				t.Logf("%d rounds, served again after %v at worst; used %v of CPU in %v; said %d lines", rounds, worst.Round(time.Millisecond),
					(after.CPU - before.CPU).Round(time.Millisecond), took.Round(time.Millisecond), strings.Count(g.logged.String(), "\n"))
				if used := after.CPU - before.CPU; used > took/2 {
					t.Errorf("used %v of CPU in %v", used, took)
				}
				if after.Descriptors > before.Descriptors+1 || after.Goroutines > before.Goroutines {
					t.Errorf("before %+v, after %+v", before, after)
				}
				// On a slow machine one round may look like several, each some time after the one before.
				most := 3 * max(rounds, 1+int(took/(2*time.Second)))
				if lines := strings.Count(g.logged.String(), "\n"); lines < 1 || lines > most {
					t.Errorf("said %d lines in %d rounds, want at most %d:\n%s", lines, rounds, most, g.logged)
				}
			})
		})
	}
}

// exhaust opens more connections than the proxy can have, uses the one that was open before, closes them, and
// returns after how long the proxy serves new ones.
func exhaust(t *testing.T, g *gate, open *session) time.Duration {
	t.Helper()
	var conns []net.Conn
	for range 150 {
		c, err := dialUntil(g.addr, 2*time.Second)
		if err != nil {
			continue // refused, which is an answer
		}
		conns = append(conns, c)
	}
	for range 10 {
		if _, err := open.query(); err != nil {
			t.Fatalf("the connection that was open: %v", err)
		}
		<-time.After(10 * time.Millisecond)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	start := time.Now()
	eventually(t, "the proxy serves again", func() bool {
		_, err := queryOnce(g.addr)
		return err == nil
	})
	return time.Since(start)
}
