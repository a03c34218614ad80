package fleettest_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// both gives the component a TCP port beside its HTTP port.
func both(s *component.Spec) {
	s.Ports = append(s.Ports, component.Port{External: s.Ports[0].External + 1, Container: 9000})
}

func echoAddr(f *fleettest.Fleet, d *fleettest.Daemon) string {
	return net.JoinHostPort(d.IP, strconv.Itoa(f.Port+1))
}

// longest is the longest wait of a visit that was served, and how many failed.
func longest(vs []fleettest.Visit) (wait time.Duration, failed []fleettest.Visit) {
	for _, v := range vs {
		if v.Err != nil {
			failed = append(failed, v)
			continue
		}
		wait = max(wait, v.Took)
	}
	return wait, failed
}

// A component whose two containers cannot run at once has a gap in each update; clients wait in it.
func TestStopFirstUpdateRefusesNobody(t *testing.T) {
	for _, order := range []string{"exclusive", component.OrderStopFirst} {
		t.Run(order, func(t *testing.T) {
			f, d := serving(t, both, func(s *component.Spec) {
				s.Exclusive = order == "exclusive"
				if !s.Exclusive {
					s.Rollout.Order = order
				}
				s.Drain.Timeout = component.Duration(2 * time.Second)
				s.Hold.Timeout = component.Duration(time.Minute) // as slow as an Engine may be
			})
			load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 3, KeepAlive: 3})
			tcp := fleettest.StartVisits(t, 20*time.Millisecond, fleettest.EchoAt(echoAddr(f, d)))
			updates := max(2, count(5))
			for i := range updates {
				f.Release(t, "web", version(fmt.Sprintf("v%d", 2-i%2)))
				f.Update(t, "web")
			}
			tally, visits := load.Stop(), tcp.Stop()
			tally.NoFailures(t, fleettest.Short, fleettest.KeepAlive)
			wait, failed := longest(visits)
			t.Logf("%d updates: %d connections, %d refused or lost, longest wait of a connection %v, of a request %v",
				updates, len(visits), len(failed), wait.Round(time.Millisecond), tally.Longest.Round(time.Millisecond))
			for _, v := range failed {
				t.Errorf("connection of %v failed after %v: %v", v.Begun, v.Took, v.Err)
			}
			if n := len(f.Running(t, "", "web")); n != 1 {
				t.Errorf("%d containers run, want 1", n)
			}
		})
	}
}

// servesAnother waits until one container of web runs, other than old.
func servesAnother(t *testing.T, f *fleettest.Fleet, old string) {
	t.Helper()
	fleettest.Await(t, fleettest.Finally, "another container serves", func() error {
		if cs := f.Running(t, "h1", "web"); len(cs) != 1 || cs[0].ID == old {
			return fmt.Errorf("%d containers run", len(cs))
		}
		return nil
	})
}

// Whoever comes after a crash is served by the next container; what was in flight is lost.
func TestCrashLosesOnlyWhatWasInFlight(t *testing.T) {
	// On an Engine of its own, so that no container of another test gets the address of the one that crashed.
	f := fleettest.New(t, fleettest.On(fleettest.StartEngine(t, fleettest.EngineOptions{})))
	d := f.Daemon(t, "h1")
	d.Start(t)
	spec := f.Web()
	both(&spec)
	spec.Restart.MinDelay = component.Duration(100 * time.Millisecond)
	spec.Hold = component.Hold{Max: 10_000, Timeout: component.Duration(time.Minute)} // as slow as an Engine may be
	f.Configure(t, spec)
	f.Release(t, "web", version("v1"))
	f.Update(t, "web")
	http := fleettest.StartVisits(t, 10*time.Millisecond, fleettest.PageAt(d.URL(f.Port, "/")))
	slow := fleettest.StartVisits(t, 50*time.Millisecond, fleettest.PageAt(d.URL(f.Port, "/slow?seconds=0.2")))
	tcp := fleettest.StartVisits(t, 10*time.Millisecond, fleettest.EchoAt(echoAddr(f, d)))
	kept := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), KeepAlive: 3})
	type crash struct{ from, to time.Time }
	var crashes []crash
	for range max(2, count(3)) {
		fleettest.Pass(t, time.Second)
		old := f.Running(t, "h1", "web")[0]
		c := crash{from: time.Now()}
		f.Docker.Crash(t, old.ID)
		c.to = time.Now()
		crashes = append(crashes, c)
		servesAnother(t, f, old.ID)
		if err := fleettest.PageAt(d.URL(f.Port, "/"))(t.Context()); err != nil { // waits until it is routed to
			t.Error(err)
		}
	}
	inFlight := func(begun, ended time.Time) bool {
		for _, c := range crashes {
			if begun.Before(c.to) && ended.After(c.from) {
				return true
			}
		}
		return false
	}
	for name, vs := range map[string][]fleettest.Visit{"requests": http.Stop(), "slow requests": slow.Stop(), "connections": tcp.Stop()} {
		wait, failed := longest(vs)
		t.Logf("%d crashes: %d %s, %d lost, longest wait %v", len(crashes), len(vs), name, len(failed), wait.Round(time.Millisecond))
		for _, v := range failed {
			if !inFlight(v.Begun, v.Begun.Add(v.Took)) {
				t.Errorf("%s: one of %v, not in flight at a crash, failed after %v: %v", name, v.Begun, v.Took, v.Err)
			}
		}
	}
	tally := kept.Stop()
	t.Log(tally)
	for _, e := range tally.Failures {
		if !inFlight(e.At.Add(-e.Took), e.At) {
			t.Errorf("request on a kept connection failed at %v, not at a crash: %v", e.At, e.Err)
		}
	}
}

// A gate is a component whose program is on the host, where it can be taken away: so no container of it
// starts for as long as the test wants.
type gate struct {
	*fleettest.Fleet
	daemon *fleettest.Daemon
	spec   component.Spec
	path   string // of the program
}

func newGate(t *testing.T, hold component.Hold) *gate {
	t.Helper()
	dir := t.TempDir()
	g := &gate{path: filepath.Join(dir, "app")}
	if err := os.WriteFile(g.path, dockertest.Program(t), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	g.Fleet, g.daemon = serving(t, both, func(s *component.Spec) {
		s.Entrypoint = []string{"/gate/app"}
		s.Bindings = []component.Binding{{External: dir, Volume: "/gate"}}
		s.Hold = hold
		s.Restart = component.Restart{MinDelay: component.Duration(100 * time.Millisecond), MaxDelay: component.Duration(200 * time.Millisecond)}
		g.spec = *s
	})
	return g
}

// says waits until the daemon has said text.
func (g *gate) says(t *testing.T, text string) {
	t.Helper()
	fleettest.Await(t, fleettest.Finally, fmt.Sprintf("the daemon says %q", text), func() error {
		if !strings.Contains(g.daemon.Fresh(), text) {
			return errors.New("it does not")
		}
		return nil
	})
}

// shut crashes the container and lets no other one start.
func (g *gate) shut(t *testing.T) {
	t.Helper()
	if err := os.Rename(g.path, g.path+".away"); err != nil {
		t.Fatal(err)
	}
	g.Docker.Crash(t, g.Running(t, "h1", "web")[0].ID)
	g.says(t, "start container")
}

func (g *gate) open(t *testing.T) {
	t.Helper()
	if err := os.Rename(g.path+".away", g.path); err != nil {
		t.Fatal(err)
	}
}

// come lets n clients of each kind come at once. Refused tells how many have failed so far, all waits for them.
func (g *gate) come(t *testing.T, n int) (refused func() int, all func() map[string][]fleettest.Visit) {
	t.Helper()
	const never = time.Hour
	tcp := fleettest.StartVisits(t, never, fleettest.EchoAt(echoAddr(g.Fleet, g.daemon)))
	http := fleettest.StartVisits(t, never, fleettest.PageAt(g.daemon.URL(g.Port, "/")))
	tcp.Visit(n - 1) // the first one is there
	http.Visit(n - 1)
	refused = func() int { return tcp.Failed() + http.Failed() }
	return refused, func() map[string][]fleettest.Visit {
		return map[string][]fleettest.Visit{"connections": tcp.Stop(), "requests": http.Stop()}
	}
}

// refusal is how clients of a kind are refused.
func refusal(kind string) string {
	if kind == "requests" {
		return "503"
	}
	return "reset"
}

// For as long as no container can be started, hold.max clients wait, for hold.timeout, and are served if one
// starts in time. Only those beyond it are refused. Both can be changed meanwhile.
func TestClientsWaitForAContainerThatDoesNotStart(t *testing.T) {
	const limit, most, surplus = 2 * time.Second, 10, 7
	g := newGate(t, component.Hold{Timeout: component.Duration(limit)})
	g.shut(t)
	_, clients := g.come(t, 5)
	for kind, visits := range clients() {
		if _, failed := longest(visits); len(failed) != len(visits) {
			t.Errorf("%d of %d %s were refused, want all", len(failed), len(visits), kind)
		}
		for _, v := range visits {
			if v.Err == nil || !strings.Contains(v.Err.Error(), refusal(kind)) || v.Took < limit-100*time.Millisecond || v.Took > limit+fleettest.Soon {
				t.Errorf("%s: one ended after %v with %v, want %s after %v", kind, v.Took, v.Err, refusal(kind), limit)
			}
		}
	}

	g.spec.Hold = component.Hold{Max: most, Timeout: component.Duration(time.Minute)}
	g.Configure(t, g.spec)
	const changed = "settings changed that need no new container"
	g.says(t, changed)
	fleettest.Await(t, fleettest.Soon, "that pass, which gives them to the proxy, is over", func() error {
		if _, since, _ := strings.Cut(g.daemon.Fresh(), changed); !strings.Contains(since, "start container") {
			return errors.New("it is not")
		}
		return nil
	})
	refused, clients := g.come(t, most+surplus)
	fleettest.Await(t, fleettest.Soon, "those beyond it are refused, while the others wait", func() error {
		if got := refused(); got != 2*surplus {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
	fleettest.Pass(t, 2*limit)
	g.open(t)
	for kind, visits := range clients() {
		wait, failed := longest(visits)
		t.Logf("%d %s, %d refused, longest wait %v", len(visits), kind, len(failed), wait.Round(time.Millisecond))
		if len(failed) != surplus {
			t.Errorf("%d %s were refused, want %d of %d", len(failed), kind, surplus, most+surplus)
		}
		for _, v := range failed {
			if !strings.Contains(v.Err.Error(), refusal(kind)) {
				t.Errorf("%s: refused after %v with %q, want %s", kind, v.Took, v.Err, refusal(kind))
			}
		}
	}
}
