package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
)

// A script answers exec checks by the name in argv[0]: one exit code per run, the last one for ever.
type script struct {
	mu    sync.Mutex
	codes map[string][]int
	ran   map[string][]time.Time
}

// prober has a Prober without jitter.
func (s *script) prober() *Prober {
	p := New(Options{Runner: fakeRunner{exec: s.exec}})
	p.random = func() float64 { return 0.5 }
	return p
}

func (s *script) exec(_ context.Context, argv []string) (int, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := argv[0]
	if s.ran == nil {
		s.ran = map[string][]time.Time{}
	}
	i := len(s.ran[name])
	s.ran[name] = append(s.ran[name], time.Now())
	codes := s.codes[name]
	return codes[min(i, len(codes)-1)], fmt.Sprintf("run %d", i+1), nil
}

func (s *script) check(name string, retries int) component.Check {
	return component.Check{ID: name, Kind: "exec", Command: []string{name}, Retries: retries, Interval: component.Duration(10 * time.Second)}
}

// follow runs Health for a while and returns what it told and when.
func follow(t *testing.T, p *Prober, target component.ProbeTarget, checks []component.Check, d time.Duration) []string {
	t.Helper()
	because := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, because)
	defer cancel()
	start := time.Now()
	var told []string
	err := p.Health(ctx, target, checks, func(healthy bool, problem error) {
		told = append(told, fmt.Sprintf("%v %v %v", time.Since(start), healthy, problem))
	})
	if !errors.Is(err, because) {
		t.Errorf("got error %v, want %v", err, because)
	}
	if got := time.Since(start); got != d {
		t.Errorf("ran for %v, want %v", got, d)
	}
	return told
}

func TestHealth(t *testing.T) {
	tests := []struct {
		name    string
		codes   map[string][]int
		retries map[string]int
		want    []string
	}{
		{"healthy for ever is told once", map[string][]int{"a": {0}}, nil, []string{"0s true <nil>"}},
		{"unhealthy for ever is told once", map[string][]int{"a": {1}}, nil, []string{`0s false check "a": exec ["a"]: exit code 1: run 1`}},
		{"each change is told", map[string][]int{"a": {0, 1, 0, 1, 1, 0}}, nil, []string{
			"0s true <nil>", `10s false check "a": exec ["a"]: exit code 1: run 2`, "20s true <nil>",
			`30s false check "a": exec ["a"]: exit code 1: run 4`, "50s true <nil>",
		}},
		{"retries forgive", map[string][]int{"a": {0, 1, 1, 0, 1, 1, 1, 0}}, map[string]int{"a": 2}, []string{
			"0s true <nil>", `1m0s false check "a": exec ["a"]: exit code 1: run 7`, "1m10s true <nil>",
		}},
		{"first answer waits for the retries", map[string][]int{"a": {1, 1, 1}}, map[string]int{"a": 2}, []string{
			`20s false check "a": exec ["a"]: exit code 1: run 3`,
		}},
		{"first answer waits for every check", map[string][]int{"a": {0}, "b": {1, 1, 0}}, map[string]int{"b": 9}, []string{"20s true <nil>"}},
		{"one bad check is enough", map[string][]int{"a": {0}, "b": {0, 1, 0}}, nil, []string{
			"0s true <nil>", `10s false check "b": exec ["b"]: exit code 1: run 2`, "20s true <nil>",
		}},
		{"all that failed must pass", map[string][]int{"a": {0, 1, 0}, "b": {0, 0, 0, 0, 1, 0}, "c": {0, 1, 1, 1, 1, 1, 1, 0}}, nil, []string{
			"0s true <nil>", `10s false …`, "1m10s true <nil>",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{codes: tt.codes}
				var checks []component.Check
				for _, name := range []string{"a", "b", "c"} {
					if tt.codes[name] != nil {
						checks = append(checks, s.check(name, tt.retries[name]))
					}
				}
				told := follow(t, s.prober(), container, checks, 100*time.Second)
				for i := range told { // several checks may fail first
					if i < len(tt.want) && strings.HasSuffix(tt.want[i], "…") && strings.HasPrefix(told[i], strings.TrimSuffix(tt.want[i], "…")) {
						told[i] = tt.want[i]
					}
				}
				if diff := cmp.Diff(tt.want, told); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestHealthWithoutChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := follow(t, New(Options{}), container, nil, 24*time.Hour)
		if diff := cmp.Diff([]string{"0s true <nil>"}, told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// A check that hangs holds up neither the others nor the end.
func TestHealthSlowCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{codes: map[string][]int{"quick": {0, 0, 1}}}
		p := s.prober()
		p.runner = fakeRunner{exec: s.exec, docker: func(ctx context.Context) (string, string, error) {
			<-ctx.Done()
			return "", "", ctx.Err()
		}}
		slow := component.Check{ID: "slow", Kind: "docker", RequestTimeout: component.Duration(time.Hour)}
		told := follow(t, p, container, []component.Check{slow, s.check("quick", 0)}, 25*time.Second)
		want := []string{`20s false check "quick": exec ["quick"]: exit code 1: run 3`}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if n := len(s.ran["quick"]); n != 3 {
			t.Errorf("quick ran %d times, want 3", n)
		}
	})
}

// Intervals run from start to start, differ by up to a tenth, and go on for ever.
func TestHealthInterval(t *testing.T) {
	tests := []struct {
		name        string
		check       component.Check
		least, most time.Duration
	}{
		{"default", component.Check{}, 27 * time.Second, 33 * time.Second},
		{"interval", component.Check{Interval: component.Duration(10 * time.Second)}, 9 * time.Second, 11 * time.Second},
		{"timeout is not the interval of health checks", component.Check{Timeout: 1}, 27 * time.Second, 33 * time.Second},
		{"interval below the floor", component.Check{Interval: 1}, 100 * time.Millisecond, 100 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{codes: map[string][]int{"x": {0}}}
				p := New(Options{Runner: fakeRunner{exec: s.exec}})
				tt.check.Kind, tt.check.Command = "exec", []string{"x"}
				start := time.Now()
				follow(t, p, container, []component.Check{tt.check}, 100*tt.most)
				ran := s.ran["x"]
				if ran[0] != start {
					t.Errorf("first ran after %v", ran[0].Sub(start))
				}
				if len(ran) < 100 {
					t.Errorf("ran %d times in %v", len(ran), 100*tt.most)
				}
				lengths := map[time.Duration]bool{}
				for i := 1; i < len(ran); i++ {
					d := ran[i].Sub(ran[i-1])
					lengths[d] = true
					if d < tt.least || d > tt.most {
						t.Errorf("interval %d is %v, want %v to %v", i, d, tt.least, tt.most)
					}
				}
				if tt.least != tt.most && len(lengths) < 50 {
					t.Errorf("only %d different intervals", len(lengths))
				}
			})
		})
	}
}

func TestHealthEveryOfExtremes(t *testing.T) {
	p := New(Options{})
	for _, d := range []component.Duration{1, 1 << 62, 1<<63 - 1, -1} {
		if got := p.healthEvery(component.Check{Interval: d}); got <= 0 {
			t.Errorf("interval %d: got %v", d, got)
		}
	}
}

// An attempt that the end of ctx cut short is no verdict.
func TestHealthEndIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Runner: fakeRunner{docker: func(ctx context.Context) (string, string, error) {
			<-ctx.Done()
			return "", "", ctx.Err()
		}}})
		if told := follow(t, p, container, []component.Check{{Kind: "docker"}}, time.Second); told != nil {
			t.Errorf("told %q", told)
		}
	})
}

// The first of the failures in a row that are forgiven is logged, with short ID and cause.
func TestHealthLogsForgivenFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := &script{codes: map[string][]int{"a": {0, 1, 1, 0, 1, 0}}}
		p := s.prober()
		p.log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		follow(t, p, container, []component.Check{s.check("a", 2)}, 100*time.Second)
		want := `level=WARN msg="health check failed once" container=4ae76210a4fe err="check \"a\": exec [\"a\"]: exit code 1: run 2"
level=WARN msg="health check failed once" container=4ae76210a4fe err="check \"a\": exec [\"a\"]: exit code 1: run 5"
`
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

// Against a real server that flaps.
func TestHealthOfARealServer(t *testing.T) {
	ln, err := net.Listen("tcp", porttest.Addr(t)) // nobody else listens there when it is closed
	if err != nil {
		t.Fatal(err)
	}
	target, port := at(t, ln.Addr())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := make(chan bool, 16)
	check := component.Check{Kind: "tcp", Port: port, Interval: component.Duration(5 * time.Millisecond), RequestTimeout: patient}
	done := make(chan error, 1)
	go func() {
		done <- New(Options{}).Health(ctx, target, []component.Check{check}, func(h bool, _ error) { changes <- h })
	}()
	if !<-changes {
		t.Error("not healthy at first")
	}
	_ = ln.Close()
	if <-changes {
		t.Error("healthy though nobody listens")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
