package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// unixPair is a connection between two processes, both ends of which are here.
func unixPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"}
	ln, err := net.ListenUnix("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.DialUnix("unix", nil, at); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// travel sends s over a socket and returns what arrives.
func travel(t testing.TB, s *State) *State {
	t.Helper()
	a, b := unixPair(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Send(t.Context(), a); err != nil {
			t.Error(err)
		}
	})
	got, err := Receive(t.Context(), b)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// succeed makes a proxy that takes over from old, with the same listeners.
func succeed(t testing.TB, old *Proxy, ls ...Listener) *Proxy {
	t.Helper()
	s, err := old.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := newProxyWith(t, Options{Log: old.log, Inherit: travel(t, s)})
	apply(t, next, ls...)
	if _, err := old.Move(t.Context(), func(s *State) (bool, error) { return true, next.Adopt(travel(t, s)) }); err != nil {
		t.Fatal(err)
	}
	old.Release(s)
	next.Settle()
	return next
}

func TestHandOverOfOpenConnections(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("A", named(t, "a"))
	apply(t, p, l)
	l.Addrs = []string{addrOf(t, p)}
	apply(t, p, l)
	c := connect(t, l.Addrs[0])
	wantAnswer(t, c, "1", "a 1")
	half := connect(t, l.Addrs[0])
	wantAnswer(t, half, "2", "a 2")
	born := p.Connections("A")
	next := succeed(t, p, l)
	if n, _ := p.Conns("A"); n != 0 {
		t.Errorf("%d connections are counted where they were", n)
	}
	got := next.Connections("A")
	if len(got) != 2 || got[0].Client != born[0].Client || got[0].BytesIn != 2 || got[0].BytesOut != 4 || got[0].Age < born[0].Age {
		t.Errorf("connections %+v, want what was %+v", got, born)
	}
	wantAnswer(t, c, "3", "a 3")
	wantAnswer(t, connect(t, l.Addrs[0]), "4", "a 4")
	_ = half.CloseWrite()
	if got := what(half); got != "|end" {
		t.Errorf("after its end a client saw %q", got)
	}
	again := succeed(t, next, l) // and once more
	wantAnswer(t, c, "5", "a 5")
	wantOpen(t, again, "A", 2)
	_ = c.Close()
	wantOpen(t, again, "A", 1)
}

func TestHandOverOfHeldConnections(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("", "")
	apply(t, p, l)
	l.Addrs = []string{addrOf(t, p)}
	c := connect(t, l.Addrs[0])
	_, _ = io.WriteString(c, "early ")
	wantHeld(t, p, 1)
	dead := connect(t, l.Addrs[0])
	wantHeld(t, p, 2)
	next := succeed(t, p, l)
	wantHeld(t, next, 2)
	_ = dead.Close()
	wantHeld(t, next, 1)
	l.TargetID, l.Target = "A", named(t, "a")
	apply(t, next, l)
	wantAnswer(t, c, "x", "a early x")
}

func TestResumeGoesOnAsBefore(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("A", named(t, "a"))
	apply(t, p, l)
	addr := addrOf(t, p)
	c := connect(t, addr)
	wantAnswer(t, c, "1", "a 1")
	for range 3 {
		s, err := p.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if listeners, conns := s.Counts(); listeners != 1 || conns != 0 {
			t.Errorf("%d listeners and %d connections exported, want one listener", listeners, conns)
		}
		travel(t, s).Close() // somebody took it and failed: closes his copies
		_, _ = io.WriteString(c, "2\n")
		late := connect(t, addr) // is served as if nothing had been
		p.Resume(s)
		got := make([]byte, 4)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "a 2\n" {
			t.Errorf("answer %q, %v", got, err)
		}
		wantAnswer(t, late, "x", "a x")
		_ = late.Close()
		wantOpen(t, p, "A", 1)
	}
	_ = c.CloseWrite()
	if got := what(c); got != "|end" { // the copies were of the same connections
		t.Errorf("after its end the client saw %q", got)
	}
}

// TestMoveThatFailsLeavesConnectionsWhereTheyAre: the other process took them into its hands and gave up.
func TestMoveThatFailsLeavesConnectionsWhereTheyAre(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	var cs []*net.TCPConn
	for range 3 * batch {
		cs = append(cs, connect(t, addrOf(t, p)))
		wantAnswer(t, cs[len(cs)-1], "1", "a 1")
	}
	s, err := p.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("too few descriptors")
	var passed []int
	m, err := p.Move(t.Context(), func(s *State) (bool, error) {
		_, n := s.Counts()
		passed = append(passed, n)
		got := travel(t, s)
		got.Close()
		return false, failed
	})
	if !errors.Is(err, failed) || m.Conns != 0 || len(passed) != 1 || passed[0] != batch {
		t.Errorf("Move = %+v, %v, after %v connections; want none moved after one batch of %d", m, err, passed, batch)
	}
	p.Release(s)
	for _, c := range cs {
		wantAnswer(t, c, "2", "a 2")
	}
	wantOpen(t, p, "A", len(cs))
}

// TestConnectionsStandStillForTheirOwnBatchOnly: the others are carried on, however many there are.
func TestConnectionsStandStillForTheirOwnBatchOnly(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("A", named(t, "a"))
	apply(t, p, l)
	l.Addrs = []string{addrOf(t, p)}
	var cs []*net.TCPConn
	for range 3 * batch {
		cs = append(cs, connect(t, l.Addrs[0]))
		wantAnswer(t, cs[len(cs)-1], "1", "a 1")
	}
	s, err := p.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := newProxyWith(t, Options{Log: p.log, Inherit: travel(t, s)})
	apply(t, next, l)
	inHand := map[string]bool{} // clients that stand still now
	batches := 0
	m, err := p.Move(t.Context(), func(s *State) (bool, error) {
		clear(inHand)
		for _, c := range s.conns {
			inHand[c.Client.String()] = true
		}
		for _, c := range cs { // those before are carried there, those after are carried here
			if !inHand[c.LocalAddr().String()] {
				wantAnswer(t, c, "2", "a 2")
			}
		}
		batches++
		return true, next.Adopt(travel(t, s))
	})
	if err != nil || m.Conns != len(cs) || batches != 3 {
		t.Errorf("Move = %+v, %v, in %d batches; want %d in 3", m, err, batches, len(cs))
	}
	p.Release(s)
	next.Settle()
	wantOpen(t, p, "A", 0)
	wantOpen(t, next, "A", len(cs))
	for _, c := range cs {
		wantAnswer(t, c, "3", "a 3")
	}
}

// TestHandOverWithEverythingPending: bytes that the target does not read yet, ends that were passed on,
// and ends that were not.
func TestHandOverWithEverythingPending(t *testing.T) {
	t.Parallel()
	accepted := make(chan *net.TCPConn, 1)
	done := make(chan struct{})
	target := backend(t, func(c *net.TCPConn) { accepted <- c; <-done })
	t.Cleanup(func() { close(done) })
	p := newProxy(t)
	l := tcp("A", target)
	apply(t, p, l)
	l.Addrs = []string{addrOf(t, p)}
	c := connect(t, l.Addrs[0])
	var sent int
	_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	chunk := []byte(strings.Repeat("0123456789abcdef", 4096))
	for {
		n, err := c.Write(chunk)
		sent += n
		if err != nil {
			break
		}
	}
	_ = c.CloseWrite()
	next := succeed(t, p, l)
	server := <-accepted
	got := 0
	buf := make([]byte, 1<<16)
	for {
		n, err := server.Read(buf)
		for i, b := range buf[:n] {
			if want := chunk[(got+i)%len(chunk)]; b != want {
				t.Fatalf("byte %d is %q, want %q", got+i, b, want)
			}
		}
		got += n
		if err != nil {
			break
		}
	}
	if got != sent {
		t.Errorf("target read %d bytes of %d", got, sent)
	}
	_, _ = io.WriteString(server, "late")
	next = succeed(t, next, l)
	_ = server.Close()
	if got := what(c); got != "late|end" {
		t.Errorf("client saw %q", got)
	}
	wantOpen(t, next, "A", 0)
}

func TestSettleClosesWhatNobodyWants(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	one, two := tcp("A", named(t, "a")), alone(t, tcp("A", named(t, "a")))
	two.Name = "two"
	apply(t, p, one, two)
	gone := p.Addr("two")[0]
	one.Addrs = []string{addrOf(t, p)}
	next := succeed(t, p, one)
	wantAnswer(t, connect(t, one.Addrs[0]), "x", "a x")
	if got := outcomeAt(gone); !strings.Contains(got, "refused") {
		t.Errorf("a client of a listener that is gone saw %q", got)
	}
	if got := fmt.Sprint(next.Addr("two")); got != "[]" {
		t.Errorf("addresses %s", got)
	}
}

// TestReleaseServesAcceptedClients: an HTTP connection is not handed over, so its request is answered where
// it was accepted.
func TestReleaseServesAcceptedClients(t *testing.T) {
	t.Parallel()
	for _, d := range dialects[:2] {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			id, addr := site(t, "A", nil)
			apply(t, p, d.listener(t, id, addr))
			var c net.Conn = connect(t, addrOf(t, p))
			if d.tls {
				s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
				if err := s.HandshakeContext(t.Context()); err != nil {
					t.Fatal(err)
				}
				c = s
			}
			eventually(t, "connection is accepted", func() bool { return p.conns.Load() == 1 })
			s, err := p.Export(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p.Release(s)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				if err := p.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
			b, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") || !strings.Contains(string(b), "Connection: close\r\n") {
				t.Errorf("answer %q, %v", b, err)
			}
			wantOpen(t, p, "A", 0)
			p.Drain("A")
			if d := p.fronts["a:1"].route.dest; d != nil {
				t.Errorf("after Drain new requests still go to %q", d.id)
			}
		})
	}
}
