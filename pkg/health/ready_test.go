package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
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

// A pipeNet is a network for a synctest bubble: a container that serves over pipes once it is up.
type pipeNet struct {
	up    atomic.Bool
	dials atomic.Int64
	conns chan net.Conn
	left  atomic.Int64 // connections that are taken and never answered
}

func newPipeNet(t *testing.T, handler http.HandlerFunc) (*pipeNet, *Prober) {
	n := &pipeNet{conns: make(chan net.Conn)}
	srv := &http.Server{Handler: handler, ErrorLog: quiet()}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(n) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	p := New(Options{})
	p.dial = n.dial
	return n, p
}

func (n *pipeNet) dial(ctx context.Context, _ string) (net.Conn, error) {
	n.dials.Add(1)
	if !n.up.Load() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	client, server := net.Pipe()
	if n.left.Add(-1) >= 0 {
		go func() { _, _ = io.Copy(io.Discard, server) }() // ends when the client closes
		return client, nil
	}
	select {
	case n.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept, Close and Addr make it a net.Listener.
func (n *pipeNet) Accept() (net.Conn, error) {
	if c, ok := <-n.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (n *pipeNet) Close() error   { close(n.conns); return nil }
func (n *pipeNet) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(172, 17, 0, 4), Port: 80} }

func fine(http.ResponseWriter, *http.Request) {}

var (
	container = component.ProbeTarget{ID: containerID, Addr: "172.17.0.4"}
	webCheck  = component.Check{Kind: component.CheckHTTP, Port: 80, Path: "/ping"}
)

func TestReadyWithoutChecks(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	verify(t, New(Options{}).Ready(ctx, container, nil, nil), "")
}

// Readiness is noticed within 5 ms when it comes in the first 2 s, later within what has passed since
// then, at last within the interval.
func TestReadyIsNoticed(t *testing.T) {
	for _, tt := range []struct{ after, within time.Duration }{
		{0, 0},
		{time.Millisecond, 5 * time.Millisecond},
		{301 * time.Millisecond, 5 * time.Millisecond},
		{1999 * time.Millisecond, 5 * time.Millisecond},
		{2100 * time.Millisecond, 110 * time.Millisecond},
		{3 * time.Second, 1100 * time.Millisecond},
		{20 * time.Second, 3 * time.Second},
		{time.Hour, 3 * time.Second},
	} {
		t.Run(tt.after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, p := newPipeNet(t, fine)
				start := time.Now()
				if tt.after == 0 {
					n.up.Store(true)
				}
				time.AfterFunc(tt.after, func() { n.up.Store(true) })
				verify(t, p.Ready(t.Context(), container, []component.Check{webCheck}, nil), "")
				if late := time.Since(start) - tt.after; late < 0 || late > tt.within {
					t.Errorf("noticed %v late, want at most %v", late, tt.within)
				}
			})
		})
	}
}

// The pauses between attempts, kind by kind.
func TestReadyPace(t *testing.T) {
	second := component.Duration(time.Second)
	tests := []struct {
		name     string
		check    component.Check
		first    []time.Duration // of the first pauses
		in2s     int             // attempts in the first 2 s, at most
		last     time.Duration   // longest pause
		refusing bool
	}{
		{"tcp", component.Check{Kind: "tcp", Port: 1}, []time.Duration{2e6, 2e6, 2e6}, 1001, 3 * time.Second, true},
		{"interval", component.Check{Kind: "http", Port: 1, Interval: second}, []time.Duration{2e6, 2e6, 2e6}, 1001, time.Second, true},
		{"interval below the floor", component.Check{Kind: "tcp", Port: 1, Interval: 1}, []time.Duration{2e6, 2e6}, 1001, 2 * time.Millisecond, true},
		{"docker", component.Check{Kind: "docker", Interval: second}, []time.Duration{20e6, 20e6}, 101, time.Second, false},
		{"connection", component.Check{Kind: "connection", Timeout: 0.5}, []time.Duration{10e6, 10e6}, 201, time.Second / 2, false},
		{"exec", component.Check{Kind: "exec", Command: []string{"x"}}, []time.Duration{100e6, 100e6, 100e6}, 18, 3 * time.Second, false},
		{"exec with a short interval", component.Check{Kind: "exec", Command: []string{"x"}, Interval: 1}, []time.Duration{100e6, 100e6}, 21, 100 * time.Millisecond, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries []time.Time
				try := func() { tries = append(tries, time.Now()) }
				target := container
				target.Conns = func() int { try(); return 1 }
				p := New(Options{Runner: fakeRunner{
					exec:   func(context.Context, []string) (int, string, error) { try(); return 1, "", nil },
					docker: func(context.Context) (string, string, error) { try(); return "starting", "", nil },
				}})
				p.dial = func(context.Context, string) (net.Conn, error) { try(); return nil, syscall.ECONNREFUSED }
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				start := time.Now()
				if err := p.Ready(ctx, target, []component.Check{tt.check}, nil); err == nil {
					t.Fatal("passed")
				}
				var pauses []time.Duration
				early := 0
				for i, at := range tries {
					if i > 0 {
						pauses = append(pauses, at.Sub(tries[i-1]))
					}
					if at.Sub(start) <= eager {
						early++
					}
				}
				if got := pauses[:len(tt.first)]; !slices.Equal(got, tt.first) {
					t.Errorf("first pauses %v, want %v", got, tt.first)
				}
				if got := slices.Max(pauses); got != tt.last {
					t.Errorf("longest pause %v, want %v", got, tt.last)
				}
				if early > tt.in2s {
					t.Errorf("%d attempts in the first 2s, want at most %d", early, tt.in2s)
				}
				for i := 1; i < len(pauses); i++ {
					if pauses[i] > 2*pauses[i-1]+time.Millisecond || pauses[i] < pauses[i-1] {
						t.Errorf("pause %d is %v after %v", i, pauses[i], pauses[i-1])
					}
				}
			})
		})
	}
}

// An expensive check in front of a cheap one that fails is not run at the pace of the cheap one.
func TestReadyPaceOfTheDearest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		p := New(Options{Runner: fakeRunner{exec: func(context.Context, []string) (int, string, error) { runs++; return 0, "", nil }}})
		p.dial = func(context.Context, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := p.Ready(ctx, container, []component.Check{{Kind: "exec", Command: []string{"x"}}, {ID: "web", Kind: "tcp", Port: 80}}, nil)
		verify(t, err, `check "web": connect 172.17.0.4:80: connection refused`)
		if runs > 20 {
			t.Errorf("the command ran %d times in 2s", runs)
		}
	})
}

// All checks must pass in one pass; a failure starts over from the first.
func TestReadyStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		answers := map[string][]int{"a": {1, 0, 0, 1, 0}, "b": {1, 0, 0}, "c": {1, 0}}
		p := New(Options{Runner: fakeRunner{exec: func(_ context.Context, argv []string) (int, string, error) {
			name := argv[0]
			code := answers[name][0]
			answers[name] = answers[name][1:]
			ran = append(ran, fmt.Sprint(name, code))
			return code, "", nil
		}}})
		var checks []component.Check
		for _, name := range []string{"a", "b", "c"} {
			checks = append(checks, component.Check{ID: name, Kind: "exec", Command: []string{name}})
		}
		verify(t, p.Ready(t.Context(), container, checks, nil), "")
		want := []string{"a1", "a0", "b1", "a0", "b0", "c1", "a1", "a0", "b0", "c0"}
		if diff := cmp.Diff(want, ran); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
	})
}

func TestReadyReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		n, p := newPipeNet(t, func(w http.ResponseWriter, _ *http.Request) {
			if broken.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		broken.Store(true)
		time.AfterFunc(301*time.Millisecond, func() { n.up.Store(true) })
		time.AfterFunc(9*time.Second, func() { broken.Store(false) })
		target := container
		target.Conns = func() int { return 0 }
		j := newJournal()
		verify(t, p.Ready(t.Context(), target, []component.Check{webCheck, {ID: "quiet", Kind: "connection"}}, j.report), "")
		const run = "check: Running health check: http"
		const address = "check: Checking HTTP address in container 4ae76210a4fe: http://172.17.0.4:80/ping"
		const failed = "check-failed: Health check failed (GET http://172.17.0.4:80/ping: 503 Service Unavailable)"
		want := []string{
			"0s " + run, "0s " + address,
			"0s check-failed: Health check failed (GET http://172.17.0.4:80/ping: connection refused)",
			"302ms " + failed,
			"3.02s " + failed, "3.02s check: Sleeping 1 second(s)...",
			"4.044s " + run, "4.044s " + address, "4.044s " + failed, "4.044s check: Sleeping 2 second(s)...",
			"6.092s " + run, "6.092s " + address, "6.092s " + failed, "6.092s check: Sleeping 3 second(s)...",
			"9.092s " + run, "9.092s " + address,
			"9.092s check: Running health check: quiet",
			"9.092s check: Container has no remaining connections: 4ae76210a4fe",
		}
		if diff := cmp.Diff(want, j.lines); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// Whatever changes with each attempt is reported ten times a second, not five hundred times.
func TestReadyReportsFewChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := 0
		p := New(Options{})
		p.dial = func(context.Context, string) (net.Conn, error) { i++; return nil, fmt.Errorf("attempt %d", i) }
		j := newJournal()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_ = p.Ready(ctx, container, []component.Check{{Kind: "tcp", Port: 1}}, j.report)
		if len(j.lines) > 30 || i < 900 {
			t.Errorf("%d events of %d attempts", len(j.lines), i)
		}
	})
}

func TestReadyWhenTheContextEnds(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	because := errors.New("not ready in time")
	tests := []struct {
		name  string
		up    time.Duration
		after time.Duration
		want  string
	}{
		{"last failure", time.Hour, time.Second, `check "web": GET http://172.17.0.4:80/ping: connection refused`},
		{"the failure before the one cut short", 900 * time.Millisecond, time.Second, `check "web": GET http://172.17.0.4:80/ping: connection refused`},
		{"only one, cut short", 0, time.Second, `check "web": GET http://172.17.0.4:80/ping: not ready in time`},
		{"attempts that took too long", 0, 5 * time.Second, `check "web": GET http://172.17.0.4:80/ping: no answer within 2s`},
		{"at once", 0, 0, `check "web": not ready in time`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, p := newPipeNet(t, hang)
				n.up.Store(tt.up == 0)
				time.AfterFunc(tt.up, func() { n.up.Store(true) })
				ctx, cancel := context.WithTimeoutCause(t.Context(), tt.after, because)
				defer cancel()
				check := webCheck
				check.ID = "web"
				start := time.Now()
				err := p.Ready(ctx, container, []component.Check{check}, nil)
				verify(t, err, tt.want)
				if !errors.Is(err, because) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v does not wrap the context's error and cause", err)
				}
				if d := time.Since(start); d != tt.after {
					t.Errorf("returned after %v", d)
				}
			})
		})
	}
}

// A container may take connections and never answer them, and be ready for others soon after.
func TestReadyInSpiteOfSwallowedConnections(t *testing.T) {
	for _, swallowed := range []int64{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			n, p := newPipeNet(t, fine)
			n.up.Store(true)
			n.left.Store(swallowed)
			start := time.Now()
			verify(t, p.Ready(t.Context(), container, []component.Check{webCheck}, nil), "")
			if got, want := time.Since(start), (25<<swallowed-25)*time.Millisecond; got != want {
				t.Errorf("%d swallowed: noticed after %v, want %v", swallowed, got, want)
			}
		})
	}
}

// A slow answer is waited for; company is limited.
func TestReadySlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := newPipeNet(t, func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(1900 * time.Millisecond):
			case <-r.Context().Done():
			}
		})
		n.up.Store(true)
		start := time.Now()
		verify(t, p.Ready(t.Context(), container, []component.Check{webCheck}, nil), "")
		if got, want := time.Since(start), 1900*time.Millisecond; got != want {
			t.Errorf("ready after %v, want %v", got, want)
		}
		if got := n.dials.Load(); got != hedges {
			t.Errorf("%d attempts at once, want %d", got, hedges)
		}
	})
}

// Many may wait at once over one Prober.
func TestReadyConcurrently(t *testing.T) {
	srv, open := web(t, fine)
	srv.Start()
	target, port := at(t, srv.Listener.Addr())
	p := New(Options{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			j := newJournal()
			checks := []component.Check{
				{Kind: "tcp", Port: port, RequestTimeout: patient}, {Kind: "http", Port: port, RequestTimeout: patient},
			}
			if err := p.Ready(t.Context(), target, checks, j.report); err != nil {
				t.Error(err)
			}
			if got := strings.Join(j.texts(), "\n"); strings.Count(got, "Running health check") != 2 {
				t.Errorf("reported\n%s", got)
			}
		})
	}
	wg.Wait()
	eventually(t, "no connection is left", func() bool { return open.Load() == 0 })
}
