package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEndsUnderLoad: many clients say something, end their half, and get the whole answer, however
// the ends meet.
func TestEndsUnderLoad(t *testing.T) {
	t.Parallel()
	target := backend(t, func(c *net.TCPConn) {
		h := sha256.New()
		n, _ := io.Copy(h, struct{ io.Reader }{c})
		_, _ = c.Write(h.Sum(nil))
		_, _ = c.Write(make([]byte, n)) // as much again
	})
	p := newProxy(t)
	apply(t, p, tcp("A", target))
	addr := addrOf(t, p)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 5))
			src := rand.NewChaCha8([32]byte{byte(w)})
			for range 40 {
				said := make([]byte, rnd.IntN(1<<uint(rnd.IntN(19))))
				_, _ = src.Read(said)
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				wg.Go(func() {
					_, _ = c.Write(said)
					_ = c.(*net.TCPConn).CloseWrite()
				})
				got, err := io.ReadAll(c)
				sum := sha256.Sum256(said)
				if err != nil || len(got) != len(sum)+len(said) || !bytes.Equal(got[:len(sum)], sum[:]) {
					t.Errorf("%d bytes were answered by %d, %v", len(said), len(got), err)
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	wantOpen(t, p, "A", 0)
}

// TestNothingIsLeftBehind: after many connections that end in all ways there is no count and no
// descriptor more than before.
func TestNothingIsLeftBehind(t *testing.T) {
	target := named(t, "a")
	p := newProxy(t)
	apply(t, p, tcp("A", target))
	addr := addrOf(t, p)
	wantAnswer(t, connect(t, addr), "x", "a x")
	before := descriptors(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 6))
			for range 100 {
				randomClient(addr, rnd)
			}
		})
	}
	wg.Wait()
	wantOpen(t, p, "A", 1)
	eventually(t, "descriptors are given back", func() bool { return descriptors(t) <= before })
	eventually(t, "places are given back", func() bool {
		q := p.quotaOf("a:1")
		q.mu.Lock()
		defer q.mu.Unlock()
		return p.conns.Load() == 1 && q.conns == 1
	})
}

func TestServerSpeaksFirst(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", backend(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 ready\r\n") })))
	for range 50 {
		if got := outcomeAt(addrOf(t, p)); got != "220 ready\r\n|end" {
			t.Errorf("client saw %q", got)
		}
	}
}

// TestUrgentData: it is not passed on as such, and what is around it is.
func TestUrgentData(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	c := connect(t, addrOf(t, p))
	wantAnswer(t, c, "x", "a x")
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "be")
	_ = raw.Control(func(fd uintptr) { err = unix.Send(int(fd), []byte("!"), unix.MSG_OOB) })
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, c, "hind", "a behind")
}

// TestUrgentDataWithinBulk: all that is around it arrives, however much that is.
func TestUrgentDataWithinBulk(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", backend(t, func(c *net.TCPConn) {
		n, err := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c})
		_, _ = fmt.Fprintf(c, "%d %v", n, err)
	})))
	half := make([]byte, 4<<20)
	for range 5 {
		c := connect(t, addrOf(t, p))
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(half)
		err = unix.EAGAIN
		_ = raw.Write(func(fd uintptr) bool {
			err = unix.Send(int(fd), []byte("!"), unix.MSG_OOB)
			return !errors.Is(err, unix.EAGAIN)
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(half)
		_ = c.CloseWrite()
		if got, want := what(c), fmt.Sprintf("%d <nil>|end", 2*len(half)); got != want {
			t.Fatalf("target got %q, want %q", got, want)
		}
	}
}

func TestBoundsOfAListener(t *testing.T) {
	tests := []struct {
		name string
		set  func(l *Listener)
	}{
		{"of all", func(l *Listener) { l.MaxConns = 2 }},
		{"of each client", func(l *Listener) { l.MaxConnsPerClient = 2 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			l := tcp("A", named(t, "a"))
			tt.set(&l)
			apply(t, p, l)
			conns := openedTo(t, p, 2, "a")
			for range 3 {
				if got := outcomeAt(addrOf(t, p)); got != "|reset" {
					t.Errorf("the third saw %q, want a reset", got)
				}
			}
			if got := p.Refused("a:1"); got != 3 {
				t.Errorf("%d refused, want 3", got)
			}
			_ = conns[0].Close()
			wantOpen(t, p, "A", 1)
			openedTo(t, p, 1, "a")
		})
	}
}

func TestSilentConnectionsEnd(t *testing.T) {
	tests := []struct {
		name         string
		idle, linger time.Duration
		half         bool
		ends         bool
	}{
		{"silent both ways", 200 * time.Millisecond, 0, false, true},
		{"silent after one side ended", 0, 200 * time.Millisecond, true, true},
		{"lingering has its own time", time.Hour, 200 * time.Millisecond, true, true},
		{"no side ended", 0, 100 * time.Millisecond, false, false},
		{"no timeout", 0, 0, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			done := make(chan struct{})
			target := backend(t, func(c *net.TCPConn) {
				_, _ = io.WriteString(c, "hello")
				<-done
			})
			t.Cleanup(func() { close(done) })
			p := newProxy(t)
			l := tcp("A", target)
			l.IdleTimeout, l.LingerTimeout = tt.idle, tt.linger
			apply(t, p, l)
			start := time.Now() // before the last byte went
			c := connect(t, addrOf(t, p))
			if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			if tt.half {
				_ = c.CloseWrite()
			}
			if !tt.ends {
				during(t, 400*time.Millisecond, "it was ended", func() bool { n, _ := p.Conns("A"); return n == 1 })
				return
			}
			if got := what(c); got != "|end" {
				t.Errorf("client saw %q, want the end", got)
			}
			if took := time.Since(start); took < 200*time.Millisecond {
				t.Errorf("ended after %v", took)
			}
			wantOpen(t, p, "A", 0)
		})
	}
}

// TestAdoptedFromLoops: what one engine has read and not passed on, another one passes on.
func TestAdoptedFromLoops(t *testing.T) {
	t.Parallel()
	p := newProxyWith(t, Options{Log: newProxy(t).log, Engine: Loops})
	accepted := make(chan *net.TCPConn, 1)
	done := make(chan struct{})
	target := backend(t, func(c *net.TCPConn) { accepted <- c; <-done })
	t.Cleanup(func() { close(done) })
	l := tcp("A", target)
	apply(t, p, l)
	l.Addrs = []string{addrOf(t, p)}
	c := connect(t, l.Addrs[0])
	_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	var sent int64
	for {
		n, err := c.Write(make([]byte, 64<<10))
		sent += int64(n)
		if err != nil {
			break
		}
	}
	_ = c.CloseWrite()
	next := succeed(t, p, l)
	server := <-accepted
	if got, err := io.Copy(io.Discard, struct{ io.Reader }{server}); err != nil || got != sent {
		t.Errorf("target read %d bytes, %v, want %d", got, err, sent)
	}
	_, _ = io.WriteString(server, "late")
	_ = server.Close()
	if got := what(c); got != "late|end" {
		t.Errorf("client saw %q", got)
	}
	wantOpen(t, next, "A", 0)
}

// TestPlaceIsFreeOnceTheCountFell: who sees that a connection is gone finds its place free.
func TestPlaceIsFreeOnceTheCountFell(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("A", named(t, "a"))
	l.MaxConns = 1
	apply(t, p, l)
	for range 300 {
		c := openedTo(t, p, 1, "a")[0]
		_ = c.Close()
		for n := 1; n > 0; n, _ = p.Conns("A") {
			runtime.Gosched()
		}
	}
	if n := p.Refused("a:1"); n > 0 {
		t.Errorf("%d refused, though there was a place", n)
	}
}
