package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/porttest"
)

func TestSwitchLeavesOpenConnectionsAlone(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	addr := addrOf(t, p)
	old := connect(t, addr)
	wantAnswer(t, old, "1", "a 1")

	apply(t, p, tcp("B", named(t, "b")))
	if got := addrOf(t, p); got != addr {
		t.Errorf("address changed from %s to %s", addr, got)
	}
	p.Drain("A")
	wantAnswer(t, connect(t, addr), "2", "b 2")
	wantAnswer(t, old, "3", "a 3")
	wantOpen(t, p, "A", 1)
	if _, oldest := p.Conns("A"); oldest <= 0 {
		t.Errorf("oldest connection is %v old", oldest)
	}
	_ = old.Close()
	wantOpen(t, p, "A", 0)
	wantOpen(t, p, "B", 1)
}

func TestOneIDOverListenersAndAddresses(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	ls := []Listener{tcp("A", named(t, "a1")), tcp("A", named(t, "a2"))}
	ls[1].Name = "a:2"
	apply(t, p, ls...)
	wantAnswer(t, connect(t, p.Addr("a:1")[0]), "x", "a1 x")
	wantAnswer(t, connect(t, p.Addr("a:2")[0]), "x", "a2 x")
	wantOpen(t, p, "A", 2)
	ls[0].Target = named(t, "a3") // restarted with another address
	apply(t, p, ls...)
	wantAnswer(t, connect(t, p.Addr("a:1")[0]), "x", "a3 x")
	wantOpen(t, p, "A", 3)
}

func TestOnIdle(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	idle := make(chan string, 10)
	p.OnIdle(func(id string) {
		_, _ = p.Conns(id) // must be possible here
		idle <- id
	})
	apply(t, p, tcp("A", named(t, "a")))
	first, second := connect(t, addrOf(t, p)), connect(t, addrOf(t, p))
	wantAnswer(t, first, "x", "a x")
	wantAnswer(t, second, "x", "a x")
	apply(t, p, tcp("B", named(t, "b")))
	p.Drain("A")
	_ = first.Close()
	wantOpen(t, p, "A", 1)
	select {
	case id := <-idle:
		t.Fatalf("%q reported idle with a connection left", id)
	default:
	}
	_ = second.Close()
	if got := <-idle; got != "A" {
		t.Errorf("%q is idle, want A", got)
	}
	if n, _ := p.Conns("A"); n != 0 {
		t.Errorf("%d connections when reported idle", n)
	}
	if len(idle) != 0 {
		t.Error("reported twice")
	}
}

func TestDialIsTriedAgain(t *testing.T) {
	t.Parallel()
	p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: patience})
	dead := deadPort(t)
	apply(t, p, tcp("A", dead))
	c := connect(t, addrOf(t, p))
	_, _ = io.WriteString(c, "early ")
	wantOpen(t, p, "A", 1)
	apply(t, p, tcp("B", named(t, "b")))
	wantAnswer(t, c, "x", "b early x")
	wantOpen(t, p, "A", 0)
	wantOpen(t, p, "B", 1)
}

func TestDialSucceedsOnceTheTargetListens(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	port := porttest.Refusing(t)
	apply(t, p, tcp("A", port.Addr))
	c := connect(t, addrOf(t, p))
	_, _ = io.WriteString(c, "hello")
	wantOpen(t, p, "A", 1)
	s, err := port.Listen().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := make([]byte, 5)
	if _, err := io.ReadFull(s, got); err != nil || string(got) != "hello" {
		t.Errorf("target read %q, %v", got, err)
	}
}

// TestSwitchAbortsDial: the old target neither answers nor refuses.
func TestSwitchAbortsDial(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{TCP, HTTP} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			silent := silentPort(t)
			p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: time.Minute})
			l := tcp("A", silent)
			l.Kind = kind
			apply(t, p, l)
			answer := make(chan string)
			go func() { answer <- status(t, "http://"+addrOf(t, p)) }()
			wantOpen(t, p, "A", 1)
			during(t, 50*time.Millisecond, "silent target was left", func() bool {
				n, _ := p.Conns("A")
				return n == 1
			})
			l.TargetID, l.Target = site(t, "B", nil)
			apply(t, p, l)
			if got := <-answer; got != "200 OK" {
				t.Errorf("client got %q, want an answer of the new target", got)
			}
			wantOpen(t, p, "A", 0)
		})
	}
}

// silentPort is an address where a connection is neither accepted nor refused: its queue is full.
func silentPort(t testing.TB) string {
	t.Helper()
	addr, fill := fullQueue(t)
	eventually(t, "queue is full", fill)
	return addr
}

func TestDialDeadline(t *testing.T) {
	t.Parallel()
	p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: 100 * time.Millisecond})
	apply(t, p, tcp("A", deadPort(t)))
	start := time.Now()
	if got := outcomeAt(addrOf(t, p)); got != "|reset" {
		t.Errorf("client saw %q, want a reset", got)
	}
	if took := time.Since(start); took < 90*time.Millisecond || took > DefaultConnectTimeout {
		t.Errorf("refused after %v, want about 100ms", took)
	}
	wantOpen(t, p, "A", 0)
}

func TestDrainOfTheOnlyTargetHolds(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("A", named(t, "a"))
	apply(t, p, l)
	old := connect(t, addrOf(t, p))
	wantAnswer(t, old, "x", "a x")
	p.Drain("A")
	apply(t, p, l) // the same again changes nothing
	c := connect(t, addrOf(t, p))
	wantHeld(t, p, 1)
	wantOpen(t, p, "A", 1)
	wantAnswer(t, old, "y", "a y")
	apply(t, p, tcp("B", named(t, "b")))
	wantAnswer(t, c, "z", "b z")
}

// fleet is a target that counts what reaches it after it was said to be drained.
type fleet struct {
	id, addr string
	drained  atomic.Bool
	late     atomic.Int64
}

// TestSwitchUnderLoad replaces the target again and again below short, long and busy connections,
// stops each old one when its count is zero, and counts failures.
func TestSwitchUnderLoad(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	idle := make(chan string, 1000)
	p.OnIdle(func(id string) { idle <- id })
	start := func(i int) (*fleet, func()) {
		f := &fleet{id: fmt.Sprintf("t%d", i)}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				drained := f.drained.Load()
				wg.Go(func() {
					defer c.Close()
					// A dial that the switch aborted may be accepted late, too, but says nothing.
					if n, _ := io.Copy(c, c); n > 0 && drained {
						f.late.Add(1)
					}
				})
			}
		})
		f.addr = ln.Addr().String()
		return f, func() { _ = ln.Close(); wg.Wait() }
	}
	current, stopCurrent := start(0)
	apply(t, p, tcp(current.id, current.addr))
	load := newLoad(t, addrOf(t, p))
	for i := 1; i <= 40; i++ {
		next, stopNext := start(i)
		apply(t, p, tcp(next.id, next.addr))
		p.Drain(current.id)
		load.renew() // long connections end some time after the switch
		before := load.done.Load()
		eventually(t, "connections go on", func() bool { return load.done.Load() > before+20 })
		eventually(t, "old target is idle", func() bool {
			n, _ := p.Conns(current.id)
			return n == 0
		})
		current.drained.Store(true)
		stopCurrent()
		if n := current.late.Load(); n > 0 {
			t.Errorf("%d connections reached a drained target", n)
		}
		current, stopCurrent = next, stopNext
	}
	done, failed := load.stop()
	stopCurrent()
	t.Logf("%d connections, %d failures", done, failed)
	if failed > 0 || done == 0 {
		t.Errorf("%d of %d connections failed", failed, done)
	}
}

// load makes connections to addr, short ones and long ones.
type load struct {
	t            *testing.T
	wg           sync.WaitGroup
	quit         chan struct{}
	generation   atomic.Int64
	done, failed atomic.Int64
}

func newLoad(t *testing.T, addr string) *load {
	l := &load{t: t, quit: make(chan struct{})}
	for i := range 6 {
		l.wg.Go(func() {
			for !l.over() {
				l.done.Add(1)
				if err := l.use(addr, i); err != nil {
					l.failed.Add(1)
					t.Log(err)
				}
			}
		})
	}
	return l
}

func (l *load) over() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}

// use makes one connection: one message if i is even, else messages until the next renew.
func (l *load) use(addr string, i int) error {
	born := l.generation.Load()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	for n := 0; ; n++ {
		msg := fmt.Sprintf("message %d", n)
		if got, err := ask(c, msg); err != nil || got != msg {
			return fmt.Errorf("message %d: got %q, %w", n, got, err)
		}
		if i%2 == 0 || l.generation.Load() > born || l.over() {
			return nil
		}
	}
}

func (l *load) renew() { l.generation.Add(1) }

func (l *load) stop() (done, failed int64) {
	close(l.quit)
	l.wg.Wait()
	return l.done.Load(), l.failed.Load()
}

// TestSwitchUnderRequests does the same for HTTP: keep-alive, connection per request, uploads and
// streams. The old target refuses and cuts everything as soon as it has no request.
func TestSwitchUnderRequests(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	start := func(i int) (id string, l Listener, stop func()) {
		mux := http.NewServeMux()
		mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
		mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
			for n := range 5 {
				_, _ = fmt.Fprintf(w, "%d", n)
				_ = http.NewResponseController(w).Flush()
			}
		})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: mux}
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Serve(ln) })
		id = fmt.Sprintf("t%d", i)
		return id, web1(id, ln.Addr().String()), func() { _ = s.Close(); wg.Wait() }
	}
	id, l, stop := start(0)
	apply(t, p, l)
	url := "http://" + addrOf(t, p)
	quit, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var done, failed atomic.Int64
	for i := range 6 {
		client := browser(t)
		client.Transport.(*http.Transport).DisableKeepAlives = i == 5
		wg.Go(func() {
			for n := 0; quit.Err() == nil; n++ {
				want, res, err := "payload", (*http.Response)(nil), error(nil)
				if i%2 == 0 {
					want = "01234"
					res, err = client.Get(url + "/stream")
				} else {
					res, err = client.Post(url+"/echo", "text/plain", strings.NewReader(want))
				}
				done.Add(1)
				if err != nil {
					failed.Add(1)
					t.Log(err)
					continue
				}
				got, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || string(got) != want || res.StatusCode != 200 {
					failed.Add(1)
					t.Logf("%s: %q, %v", res.Status, got, err)
				}
			}
		})
	}
	for i := 1; i <= 40; i++ {
		nextID, next, stopNext := start(i)
		apply(t, p, next)
		p.Drain(id)
		eventually(t, "old target is idle", func() bool { n, _ := p.Conns(id); return n == 0 })
		stop()
		id, stop = nextID, stopNext
		before := done.Load()
		eventually(t, "requests go on", func() bool { return done.Load() > before+10 })
	}
	cancel()
	wg.Wait()
	stop()
	t.Logf("%d requests, %d failures", done.Load(), failed.Load())
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), done.Load())
	}
}
