package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// heldOf is how many sessions wait at the test's listener.
func heldOf(p *Proxy) int {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	r := &p.fronts["a:1"].route
	return r.held.n + r.leaving.n
}

func wantHeld(t testing.TB, p *Proxy, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d connections held", want), func() bool { return heldOf(p) == want })
}

func TestHeldConnectionsGoToTheTargetThatAppears(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("", ""))
	addr := addrOf(t, p)
	var conns []*net.TCPConn
	for i := range 5 {
		c := connect(t, addr)
		if i%2 == 0 {
			_, _ = io.WriteString(c, "early ")
		}
		conns = append(conns, c)
	}
	wantHeld(t, p, 5)
	l := tcp("A", named(t, "a"))
	apply(t, p, l)
	if got, _ := p.Conns("A"); got != 5 {
		t.Errorf("%d connections counted when Apply returned, want 5", got)
	}
	for i, c := range conns {
		want := "a hi"
		if i%2 == 0 {
			want = "a early hi"
		}
		wantAnswer(t, c, "hi", want)
	}
	wantHeld(t, p, 0)
}

func TestHoldEnds(t *testing.T) {
	tests := []struct {
		name string
		max  int
		hold time.Duration
		want string
	}{
		{"after the timeout", 10, 100 * time.Millisecond, "|reset"},
		{"at once when nothing may wait", 0, time.Minute, "|reset"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			l := tcp("", "")
			l.HoldMax, l.HoldTimeout = tt.max, tt.hold
			apply(t, p, l)
			start := time.Now()
			if got := outcomeAt(addrOf(t, p)); got != tt.want {
				t.Errorf("client saw %q, want %q", got, tt.want)
			}
			if took := time.Since(start); tt.max > 0 && took < tt.hold || took > tt.hold+20*time.Second {
				t.Errorf("refused after %v, want %v", took, tt.hold)
			}
			wantHeld(t, p, 0)
		})
	}
}

func TestHoldMaxRefusesTheNext(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("", "")
	l.HoldMax = 2
	apply(t, p, l)
	first, second := connect(t, addrOf(t, p)), connect(t, addrOf(t, p))
	wantHeld(t, p, 2)
	if got := outcomeAt(addrOf(t, p)); got != "|reset" {
		t.Errorf("third client saw %q, want a reset", got)
	}
	_ = first.Close()
	wantHeld(t, p, 1)
	third := connect(t, addrOf(t, p))
	wantHeld(t, p, 2)
	l.TargetID, l.Target = "A", named(t, "a")
	apply(t, p, l)
	wantAnswer(t, second, "x", "a x")
	wantAnswer(t, third, "y", "a y")
}

func TestClientLeavesWhileHeld(t *testing.T) {
	tests := []struct {
		name  string
		leave func(c *net.TCPConn)
	}{
		{"closes", func(c *net.TCPConn) { _ = c.Close() }},
		{"resets", reset},
		{"resets behind data", func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "data")
			reset(c)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			apply(t, p, tcp("", ""))
			c := connect(t, addrOf(t, p))
			wantHeld(t, p, 1)
			tt.leave(c)
			wantHeld(t, p, 0)
		})
	}
}

// TestHeldClientThatSaidAll: it may wait for the answer, or have left; so it stays, and gives its place
// to the next one when there is no other.
func TestHeldClientThatSaidAll(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("", "")
	l.HoldMax = 2
	apply(t, p, l)
	ended := func(text string) *net.TCPConn {
		c := connect(t, addrOf(t, p))
		_, _ = io.WriteString(c, text)
		_ = c.CloseWrite()
		return c
	}
	leaving := func(n int) func() bool {
		return func() bool {
			p.ledger.mu.Lock()
			defer p.ledger.mu.Unlock()
			return p.fronts["a:1"].route.leaving.n == n
		}
	}
	oldest := ended("one\n")
	eventually(t, "first said all", leaving(1))
	next := ended("two\n")
	eventually(t, "second said all", leaving(2))
	whole := connect(t, addrOf(t, p))
	if got := what(oldest); got != "|reset" {
		t.Errorf("oldest saw %q, want a reset", got)
	}
	wantHeld(t, p, 2)
	l.TargetID, l.Target = "A", named(t, "a")
	apply(t, p, l)
	if got := what(next); got != "a two\n|end" {
		t.Errorf("client that had said all saw %q", got)
	}
	wantAnswer(t, whole, "three", "a three")
}

func TestListenerClosedWhileHolding(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("", ""))
	c := connect(t, addrOf(t, p))
	wantHeld(t, p, 1)
	apply(t, p)
	if got := what(c); got != "|reset" {
		t.Errorf("client saw %q, want a reset", got)
	}
}

// TestHoldRacesSwitch lets clients come, time out and leave while the target comes and goes.
func TestHoldRacesSwitch(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	target := named(t, "a")
	without, with := tcp("", ""), tcp("A", target)
	without.HoldTimeout, with.HoldTimeout = 3*time.Millisecond, 3*time.Millisecond
	apply(t, p, without)
	addr := addrOf(t, p)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.Dial("tcp", addr)
				if errors.Is(err, syscall.ECONNRESET) {
					continue // timed out before it knew that it was connected
				}
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				got, err := ask(c, "x")
				if err == nil && got != "a x" {
					t.Errorf("answer %q", got)
				}
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("a client hangs")
				}
				_ = c.Close()
			}
		})
	}
	for range 200 {
		apply(t, p, with)
		apply(t, p, without)
	}
	close(stop)
	wg.Wait()
	wantHeld(t, p, 0)
	wantOpen(t, p, "A", 0)
}

func TestHeldRequests(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1("", ""))
	url := "http://" + addrOf(t, p)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			var body io.Reader
			if i%2 == 1 {
				body = strings.NewReader("data")
			}
			r, _ := http.NewRequest([]string{"GET", "POST"}[i%2], url, body)
			res, err := browser(t).Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			if got := res.Header.Get("Served-By"); got != "A" {
				t.Errorf("served by %q, status %d", got, res.StatusCode)
			}
		})
	}
	wantHeld(t, p, 4)
	apply(t, p, web1(site(t, "A", nil)))
	wg.Wait()
	wantOpen(t, p, "A", 0)
}

func TestHeldRequestsAreBounded(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := web1("", "")
	l.HoldMax = 1
	apply(t, p, l)
	url := "http://" + addrOf(t, p)
	first := connect(t, addrOf(t, p))
	_, _ = io.WriteString(first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	wantHeld(t, p, 1)
	if got := status(t, url); got != "503 Service Unavailable" || heldOf(p) != 1 {
		t.Errorf("second request: %s, want 503 while the first is held", got)
	}
	_ = first.Close()
	wantHeld(t, p, 0)
	l.HoldTimeout = 200 * time.Millisecond
	apply(t, p, l)
	start := time.Now()
	if got := status(t, url); got != "503 Service Unavailable" {
		t.Errorf("request that is held: %s, want 503 after the timeout", got)
	}
	if took := time.Since(start); took < l.HoldTimeout {
		t.Errorf("refused after %v, want %v", took, l.HoldTimeout)
	}
}

func TestClientOfHeldRequestLeaves(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1("", ""))
	c := connect(t, addrOf(t, p))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	wantHeld(t, p, 1)
	_ = c.Close()
	wantHeld(t, p, 0)
}

// status gets url and returns the status line, or the error.
func status(t testing.TB, url string) string {
	t.Helper()
	res, err := browser(t).Get(url)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.Status
}
