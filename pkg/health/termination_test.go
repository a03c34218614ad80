package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestSignal(t *testing.T) {
	var mu sync.Mutex
	var got []string
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %s %s %q %d %s", r.Proto, r.Method, r.URL, body, r.ContentLength, r.Header.Get("X-Why")))
		switch r.URL.Path {
		case "/fail":
			w.WriteHeader(http.StatusInternalServerError)
		case "/moved":
			http.Redirect(w, r, "/moved/", http.StatusPermanentRedirect)
		}
	}
	srv, open := web(t, handler)
	srv.Start()
	secure := httptest.NewTLSServer(http.HandlerFunc(handler))
	t.Cleanup(secure.Close)
	target, port := at(t, srv.Listener.Addr())
	_, securePort := at(t, secure.Listener.Addr())
	p := New(Options{Runner: fakeRunner{exec: func(_ context.Context, argv []string) (int, string, error) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, "exec "+strings.Join(argv, "|"))
		return len(argv) - 1, "says", nil
	}}})
	j := newJournal()
	p.Signal(t.Context(), target, []component.Signal{
		{Kind: "http", Port: port, Path: "/quit?now=1", Headers: map[string]string{"X-Why": "update"}, RequestTimeout: patient},
		{Kind: "http", Port: port, Path: "/fail", ID: "web", RequestTimeout: patient},
		{Kind: "smoke"},
		{Kind: "http"},
		{Kind: "exec", ExecCommand: "'a b'"},
		{Kind: "exec", Command: []string{"a", "b"}},
		{Kind: "https", Port: securePort, RequestTimeout: patient},
		{Kind: "http", Port: port, Path: "/moved", RequestTimeout: patient},
	}, j.report)

	wantTexts := []string{
		"signal: Sending 8 termination signals",
		"signal: Sending termination signal: http",
		"signal: Sending termination signal: web",
		"signal: Termination signal failed (POST " + srv.URL + "/fail: 500 Internal Server Error)",
		"signal: Sending termination signal: smoke",
		"signal: Termination signal failed (Unknown termination signal kind: smoke)",
		"signal: Sending termination signal: http",
		"signal: Termination signal failed (http: no port)",
		"signal: Sending termination signal: exec",
		"signal: Sending termination signal: exec",
		`signal: Termination signal failed (exec ["a" "b"]: exit code 1: says)`,
		"signal: Sending termination signal: https",
		"signal: Sending termination signal: http",
	}
	if diff := cmp.Diff(wantTexts, j.texts()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	wantGot := []string{
		`HTTP/1.1 POST /quit?now=1 "" 0 update`,
		`HTTP/1.1 POST /fail "" 0 `,
		"exec a b",
		"exec a|b",
		`HTTP/1.1 POST / "" 0 `,
		`HTTP/1.1 POST /moved "" 0 `,
		`HTTP/1.1 POST /moved/ "" 0 `,
	}
	if diff := cmp.Diff(wantGot, got); diff != "" {
		t.Errorf("signals that arrived (-want +got):\n%s", diff)
	}
	eventually(t, "no connection is left", func() bool { return open.Load() == 0 })
}

func TestSignalIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := newPipeNet(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		n.up.Store(true)
		j := newJournal()
		p.Signal(t.Context(), container, []component.Signal{
			{Kind: "http", Port: 80},
			{Kind: "http", Port: 80, RequestTimeout: component.Duration(5 * time.Second)},
		}, j.report)
		want := []string{
			"0s signal: Sending 2 termination signals",
			"0s signal: Sending termination signal: http",
			"2s signal: Termination signal failed (POST http://172.17.0.4:80/: no answer within 2s)",
			"2s signal: Sending termination signal: http",
			"7s signal: Termination signal failed (POST http://172.17.0.4:80/: no answer within 5s)",
		}
		if diff := cmp.Diff(want, j.lines); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestSignalAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("daemon stops"))
	j := newJournal()
	New(Options{}).Signal(ctx, container, []component.Signal{{Kind: "http", Port: 80}}, j.report)
	want := []string{
		"signal: Sending 1 termination signals",
		"signal: Sending termination signal: http",
		"signal: Termination signal failed (daemon stops)",
	}
	if diff := cmp.Diff(want, j.texts()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	New(Options{}).Signal(t.Context(), container, nil, func(component.Event) { t.Error("reported nothing to report") })
}

// The default check: connections, noticed at once, told seldom.
func TestTerminatedByConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		open.Store(3)
		target := container
		target.Conns = func() int { return int(open.Load()) }
		for after, n := range map[time.Duration]int64{time.Second: 2, 2 * time.Second: 4, 4 * time.Second: 1, 36001 * time.Millisecond: 0} {
			time.AfterFunc(after, func() { open.Store(n) })
		}
		j := newJournal()
		verify(t, New(Options{}).Terminated(t.Context(), target, nil, j.report), "")
		want := []string{
			"0s termination-check: Waiting for 1 termination checks",
			"0s termination-check: Running termination check: connection",
			"0s termination-check: Container still has existing connections: 4ae76210a4fe (connections: 3 open)",
			"0s termination-check: Termination check failed (connections: 3 open)",
			"3s termination-check: Container still has existing connections: 4ae76210a4fe (connections: 4 open)",
			"3s termination-check: Termination check failed (connections: 4 open)",
			"6s termination-check: Container still has existing connections: 4ae76210a4fe (connections: 1 open)",
			"6s termination-check: Termination check failed (connections: 1 open)",
			"36.01s termination-check: Container has no remaining connections: 4ae76210a4fe",
			"36.01s termination-check: Monitor check finished",
		}
		if diff := cmp.Diff(want, j.lines); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// A connection that ends is noticed in real time as well, by the next look; how far looks are apart is above.
func TestTerminatedLatency(t *testing.T) {
	var open, looks atomic.Int64
	open.Store(1)
	target := container
	target.Conns = func() int { looks.Add(1); return int(open.Load()) }
	type end struct {
		at    time.Time
		looks int64
	}
	ended := make(chan end, 1)
	time.AfterFunc(35*time.Millisecond, func() { open.Store(0); ended <- end{time.Now(), looks.Load()} })
	verify(t, New(Options{}).Terminated(t.Context(), target, nil, nil), "")
	e := <-ended
	t.Logf("noticed after %v", time.Since(e.at))
	if n := looks.Load() - e.looks; n > 1 {
		t.Errorf("noticed by look %d after the end, want the first one", n)
	}
}

// Each check is waited for by itself: what has passed is not asked again.
func TestTerminatedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{codes: map[string][]int{"a": {1, 1, 0, 1}, "b": {1, 0}}}
		b := s.check("b", 0)
		b.Interval, b.Timeout = 0, 1.5
		j := newJournal()
		verify(t, s.prober().Terminated(t.Context(), container, []component.Check{s.check("a", 0), b}, j.report), "")
		want := []string{
			"0s termination-check: Waiting for 2 termination checks",
			"0s termination-check: Running termination check: a",
			`0s termination-check: Termination check failed (exec ["a"]: exit code 1: run 1)`,
			`10s termination-check: Termination check failed (exec ["a"]: exit code 1: run 2)`,
			"20s termination-check: Running termination check: b",
			`20s termination-check: Termination check failed (exec ["b"]: exit code 1: run 1)`,
			"21.5s termination-check: Monitor check finished",
		}
		if diff := cmp.Diff(want, j.lines); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if len(s.ran["a"]) != 3 {
			t.Errorf("a ran %d times", len(s.ran["a"]))
		}
	})
}

// A container that is gone never passes an http check; the caller's ctx ends the wait. A failure that
// stays the same is told once.
func TestTerminatedWaitsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		p.dial = func(context.Context, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
		because := errors.New("container is gone")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 24*time.Hour, because)
		defer cancel()
		j := newJournal()
		check := webCheck
		check.ID = "idle"
		err := p.Terminated(ctx, container, []component.Check{check}, j.report)
		verify(t, err, `check "idle": GET http://172.17.0.4:80/ping: connection refused`)
		if !errors.Is(err, because) {
			t.Errorf("%v does not wrap %v", err, because)
		}
		want := []string{
			"0s termination-check: Waiting for 1 termination checks",
			"0s termination-check: Running termination check: idle",
			"0s termination-check: Checking HTTP address in container 4ae76210a4fe: http://172.17.0.4:80/ping",
			"0s termination-check: Termination check failed (GET http://172.17.0.4:80/ping: connection refused)",
		}
		if diff := cmp.Diff(want, j.lines); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}
