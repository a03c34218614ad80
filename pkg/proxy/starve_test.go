package proxy

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestNoDescriptors: a proxy without descriptors neither ends nor spins, says so, and serves again as
// soon as it has some.
func TestNoDescriptors(t *testing.T) {
	tests := []struct {
		name     string
		maxConns int
		want     string
	}{
		{"connections are bounded by descriptors", 0, "too many connections"},
		{"somebody else took the descriptors", 1000, "too many open files"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := startChild(t, TCP, named(t, "a"), tt.maxConns, 40)
			const rounds = 3
			said := func() int { return strings.Count(c.logged.String(), tt.want) }
			start := time.Now()
			for range rounds {
				exhaust(t, c.addr, func() bool { return said() > 0 })
			}
			took := time.Since(start)
			if cpu := c.stop(); cpu > 2*time.Second {
				t.Errorf("proxy used %s of CPU", cpu)
			}
			// Once for each trouble; on a slow machine one round may look like two, some time apart.
			if got, most := said(), max(rounds, 1+int(took/calm)); got > most {
				t.Errorf("said %d times that there are %s, in %d rounds, want at most %d:\n%s", got, tt.want, rounds, most, c.logged)
			}
		})
	}
}

// exhaust opens more connections than the proxy can have, closes them some time after it has said so, and expects
// it to serve again.
func exhaust(t *testing.T, addr string, said func() bool) {
	t.Helper()
	var conns []net.Conn
	for range 60 {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			break
		}
		conns = append(conns, c)
	}
	eventually(t, "the proxy says that it is in trouble", said)
	<-time.After(300 * time.Millisecond) // for which it is so
	for _, c := range conns {
		_ = c.Close()
	}
	start := time.Now()
	eventually(t, "proxy serves again", func() bool {
		c, err := net.DialTimeout("tcp", addr, patience/3)
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience / 3))
		got, err := ask(c, "x")
		return err == nil && got == "a x"
	})
	t.Logf("served again after %v", time.Since(start).Round(time.Millisecond))
}

// TestIdleConnectionCost: two descriptors, no buffer.
func TestIdleConnectionCost(t *testing.T) {
	const n = 1500
	tests := []struct {
		name   string
		kind   string
		target func(t testing.TB) string
		open   func(t testing.TB, c net.Conn)
		fds    int // each
		bytes  int // each, at most
	}{
		{"tcp", TCP, func(t testing.TB) string { return named(t, "a") }, func(t testing.TB, c net.Conn) {
			wantAnswer(t, c, "x", "a x")
		}, 2, 20 << 10},
		{"upgraded", HTTP, upgrader, func(t testing.TB, c net.Conn) {
			upgrade(t, c, "echo", "")
			if _, err := io.ReadFull(c, make([]byte, len("welcome\n"))); err != nil {
				t.Fatal(err)
			}
		}, 2, 30 << 10},
		{"http between two requests", HTTP, func(t testing.TB) string { _, addr := site(t, "A", nil); return addr }, func(t testing.TB, c net.Conn) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			var all strings.Builder
			for one := make([]byte, 1); !strings.HasSuffix(all.String(), "\r\n\r\n"); all.WriteByte(one[0]) {
				if _, err := io.ReadFull(c, one); err != nil {
					t.Fatal(err)
				}
			}
		}, 1, 30 << 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := startChild(t, tt.kind, tt.target(t), 0, 0)
			for range 50 { // what is needed once
				c := connect(t, p.addr)
				tt.open(t, c)
				_ = c.Close()
			}
			eventually(t, "warm connections are closed", func() bool { return p.descriptors(t) < 20 })
			fds, rss := p.descriptors(t), p.rss(t)
			base := fds
			var conns []net.Conn
			for range n {
				c := connect(t, p.addr)
				tt.open(t, c)
				conns = append(conns, c)
			}
			fds, rss = p.descriptors(t)-fds, p.rss(t)-rss
			t.Logf("an idle connection costs %.2f descriptors and %d bytes", float64(fds)/n, rss/n)
			if fds > tt.fds*n+5 {
				t.Errorf("%d idle connections cost %d descriptors, want %d each", n, fds, tt.fds)
			}
			if rss/n > tt.bytes && !raceEnabled {
				t.Errorf("an idle connection costs %d bytes, want at most %d", rss/n, tt.bytes)
			}
			for _, c := range conns {
				_ = c.Close()
			}
			eventually(t, "all descriptors are given back", func() bool { return p.descriptors(t) <= base+2 })
		})
	}
}
