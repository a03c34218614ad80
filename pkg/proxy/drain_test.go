package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// opened makes n connections that the target knows of.
func openedTo(t testing.TB, p *Proxy, n int, want string) []*net.TCPConn {
	t.Helper()
	conns := make([]*net.TCPConn, n)
	for i := range conns {
		conns[i] = connect(t, addrOf(t, p))
		wantAnswer(t, conns[i], "x", want+" x")
	}
	return conns
}

func TestCutAllAtOnce(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	conns := openedTo(t, p, 20, "a")
	apply(t, p, tcp("B", named(t, "b")))
	p.Drain("A")
	p.Cut(t.Context(), "A", 0)
	if n, _ := p.Conns("A"); n != 0 {
		t.Errorf("%d connections left when Cut returned", n)
	}
	for _, c := range conns {
		if got := what(c); got != "|reset" && got != "|end" {
			t.Errorf("client saw %q, want a reset, or an end if it was silent for long", got)
		}
	}
	openedTo(t, p, 1, "b")
}

func TestCutAtARate(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	openedTo(t, p, 20, "a")
	start := time.Now()
	p.Cut(t.Context(), "A", 50)
	took := time.Since(start)
	if want := 19 * time.Second / 50; took < want-20*time.Millisecond || took > want+15*time.Second {
		t.Errorf("20 connections at 50 a second took %v, want about %v", took, want)
	}
	wantOpen(t, p, "A", 0)
}

func TestCutTakesSilentConnectionsFirstAndPolitely(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	conns := openedTo(t, p, 6, "a")
	silent, busy := conns[:3], conns[3:]
	eventually(t, "silence", func() bool {
		for _, c := range busy {
			wantAnswer(t, c, "y", "a y")
		}
		n := 0
		for _, i := range p.Connections("A") {
			if i.Idle > politeIdle {
				n++
			}
		}
		return n == len(silent)
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { p.Cut(ctx, "A", 1) })
	eventually(t, "the silent ones are cut", func() bool { n, _ := p.Conns("A"); return n <= len(busy) })
	cancel()
	wg.Wait()
	for _, c := range silent { // whatever else was cut before Cut was told to end
		if got := what(c); got != "|end" {
			t.Errorf("silent client saw %q, want a polite end", got)
		}
	}
	left := p.ledger.victims("A", nil) // without those that are about to end
	for _, c := range busy {
		if slices.ContainsFunc(left, func(e entry) bool { return e.client.String() == c.LocalAddr().String() }) {
			wantAnswer(t, c, "z", "a z")
		}
	}
}

// A leaver is the link of a session that ends as soon as it is cut.
type leaver struct {
	ledger  *ledger
	session *session
}

func (leaver) Hold(time.Duration) {}
func (leaver) Wake()              {}
func (leaver) Abort()             {}
func (l leaver) Cut(bool)         { go l.ledger.leave(l.session) } // the ledger is locked

// A slow cut goes by who is silent now, not by who was when it began.
func TestSlowCutSparesWhoBecameBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, r := &Proxy{ledger: newLedger()}, newRoute(0)
		p.ledger.do(func(a *aftermath) { p.ledger.point(r, &dest{id: "A"}, a) })
		var first, becomesBusy, becomesSilent *session
		for _, s := range []**session{&first, &becomesBusy, &becomesSilent} {
			*s = &session{route: r}
			(*s).link = leaver{p.ledger, *s}
			p.ledger.place(*s)
			p.ledger.opened(*s, nil) // it is active
			time.Sleep(200 * time.Millisecond)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { p.Cut(ctx, "A", 1) })
		left := func() (all []*session) {
			synctest.Wait()
			for _, e := range p.ledger.snapshot("A", 3) {
				all = append(all, e.session)
			}
			return all
		}
		if got := left(); !slices.Equal(got, []*session{becomesBusy, becomesSilent}) {
			t.Errorf("%d are left, want all but the one that was silent for longest", len(got))
		}
		for range 12 { // until behind the second cut
			time.Sleep(100 * time.Millisecond)
			becomesBusy.touch()
		}
		if got := left(); !slices.Equal(got, []*session{becomesBusy}) {
			t.Errorf("%d are left, want the busy one alone", len(got))
		}
		cancel()
		wg.Wait()
		p.ledger.leave(becomesBusy)
	})
}

func TestCutEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	openedTo(t, p, 5, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.Cut(ctx, "A", 1)
	wantOpen(t, p, "A", 4) // the first one is cut before it waits
	p.Cut(t.Context(), "unknown", 1)
}

func TestCutWhileDialling(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{TCP, HTTP} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: time.Minute})
			l := tcp("A", silentPort(t))
			l.Kind = kind
			apply(t, p, l)
			c := connect(t, addrOf(t, p))
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			wantOpen(t, p, "A", 1)
			p.Cut(t.Context(), "A", 0)
			if n, _ := p.Conns("A"); n != 0 {
				t.Errorf("%d connections left", n)
			}
			if got := what(c); kind == TCP && got != "|reset" || kind == HTTP && got[:12] != "HTTP/1.1 503" {
				t.Errorf("client saw %q", got)
			}
		})
	}
}

func TestCutRequests(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	stop := make(chan struct{})
	id, addr := site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/started" {
			_, _ = io.WriteString(w, "started")
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	t.Cleanup(func() { close(stop) })
	apply(t, p, web1(id, addr))
	url := "http://" + addrOf(t, p)
	waiting := make(chan string)
	go func() { waiting <- status(t, url) }()
	res, err := browser(t).Get(url + "/started")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	wantOpen(t, p, "A", 2)
	p.Cut(t.Context(), "A", 0)
	if got := <-waiting; got != "503 Service Unavailable" {
		t.Errorf("request without an answer: %s, want 503", got)
	}
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("answer that was cut looks whole: %q", b)
	}
	wantOpen(t, p, "A", 0)
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	p := New(context.Background(), Options{Log: newProxy(t).log})
	ls := []Listener{alone(t, tcp("A", named(t, "a"))), web1(site(t, "W", nil))}
	ls[1].Name = "w:1"
	apply(t, p, ls...)
	addr := addrOf(t, p)
	c := connect(t, addr)
	wantAnswer(t, c, "x", "a x")
	if got := status(t, "http://"+p.Addr("w:1")[0]); got != "200 OK" {
		t.Error(got)
	}
	idle := connect(t, p.Addr("w:1")[0])
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "listener is closed", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	wantAnswer(t, c, "y", "a y") // open connections go on
	_ = c.Close()
	wg.Wait()
	if got := what(idle); got != "|end" && got != "|reset" {
		t.Errorf("idle client saw %q", got)
	}
	if err := p.Apply("test", ls); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply after Shutdown: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestShutdownCutsAtItsDeadline(t *testing.T) {
	t.Parallel()
	p := New(context.Background(), Options{Log: newProxy(t).log})
	apply(t, p, tcp("A", named(t, "a")))
	c := openedTo(t, p, 1, "a")[0]
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := p.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown = %v, want the deadline", err)
	}
	if got := what(c); got != "|reset" {
		t.Errorf("client saw %q", got)
	}
}

// TestCloseWithEverythingUnderWay closes a proxy with held, dialling, open, idle and upgraded
// connections; the goroutine check of the package sees what it leaves.
func TestCloseWithEverythingUnderWay(t *testing.T) {
	t.Parallel()
	p := New(context.Background(), Options{Log: newProxy(t).log})
	names := []string{"held", "dial", "open", "web held", "web dial", "web open"}
	targets := []string{"", silentPort(t), named(t, "a"), "", silentPort(t), upgrader(t)}
	var ls []Listener
	for i, name := range names {
		l := tcp(name, targets[i])
		if targets[i] == "" {
			l.TargetID = ""
		}
		if i >= 3 {
			l.Kind = HTTP
		}
		l.Name = name
		ls = append(ls, l)
	}
	apply(t, p, ls...)
	for _, name := range names {
		c := connect(t, p.Addr(name)[0])
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	}
	for _, id := range []string{"dial", "open", "web dial", "web open"} {
		wantOpen(t, p, id, 1)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"dial", "open", "web dial", "web open"} {
		wantOpen(t, p, id, 0)
	}
}
