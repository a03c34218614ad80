package supervisor_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// listeners are those of an owner.
func (r *memRouter) owned(owner string) []supervisor.Listener {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.listeners[owner])
}

// matches are the listeners of web as name, path and target.
func (w *world) matches() []string {
	var out []string
	for _, l := range w.router.owned("web") {
		out = append(out, strings.Join([]string{l.Name, l.Port.Match.Path, l.TargetID}, " "))
	}
	return out
}

func routed(paths ...string) *component.Spec {
	s := web()
	s.Ports = nil
	for _, p := range paths {
		s.Ports = append(s.Ports, component.Port{External: 80, Container: 8080, Kind: component.KindHTTP, Match: component.Match{Path: p}})
	}
	return s
}

func (w *world) wantMatches(want ...string) {
	w.t.Helper()
	if d := cmp.Diff(want, w.matches()); d != "" {
		w.t.Errorf("listeners (-want +got):\n%s", d)
	}
}

func TestSettingsOfPortsReachTheRouter(t *testing.T) {
	inWorld(t, func(w *world) {
		spec := routed("/a", "/b")
		spec.Maintenance = true
		spec.Ports[0].MaxConns, spec.Ports[0].Pages = 7, "/srv"
		spec.Ports[0].TLS.Certs = []component.KeyPair{{Cert: "/c", Key: "/k"}}
		w.update("v1", spec)
		w.after(3 * time.Second)
		w.wantMatches("web:80 /a c1", "web:80#2 /b c1")
		l := w.router.owned("web")[0]
		if d := cmp.Diff(spec.Ports[0], l.Port); d != "" || !l.Maintenance || l.Kind != component.KindHTTP {
			t.Errorf("listener %+v (-want +got):\n%s", l, d)
		}
	})
}

// A stored config whose news need no new container is in effect at once, and survives what comes after.
func TestChangedRouteNeedsNoNewContainer(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", routed("/a"))
		w.after(3 * time.Second)
		w.store.configure(*routed("/b", "/c"))
		w.after(100 * time.Millisecond)
		w.wantMatches("web:80 /b c1", "web:80#2 /c c1")
		w.serving("c1", "c1")

		w.restart() // with etcd away, what was accepted is all there is
		w.store.fault(func(s *memStore) { s.silent = true; s.views["web"].Config = nil })
		w.after(3 * time.Second)
		w.wantMatches("web:80 /b c1", "web:80#2 /c c1")
		w.store.fault(func(s *memStore) { s.silent = false })

		// A release with routes of its own: the old one keeps its own until the new one serves.
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		w.update("v2", routed("/d"))
		w.after(2 * time.Second)
		w.wantMatches("web:80 /b c1", "web:80#2 /c c1")
		w.prober.set(func(p *memProber) { p.unready["c2"] = false })
		w.after(5 * time.Second)
		w.wantMatches("web:80 /d c2")
	})
}

// So is one that comes while another release is halted: what serves follows the config, though it is not what
// is asked for.
func TestChangedRouteReachesWhatServesWhileARolloutIsHalted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", routed("/a"))
		w.after(3 * time.Second)
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		w.update("v2", routed("/a"))
		w.after(15 * time.Second)
		if r := w.rollout(); r.Status != component.RolloutHalted {
			t.Fatalf("rollout = %+v", r)
		}
		w.store.configure(*routed("/b"))
		w.after(100 * time.Millisecond)
		w.wantMatches("web:80 /b c1")
		w.serving("c1", "c1")
		w.engine.crash("c1") // its successor has the same settings
		w.after(5 * time.Second)
		w.wantMatches("web:80 /b c3")

		other := routed("/c")
		other.User = "nobody"
		w.store.configure(*other)
		w.after(time.Minute)
		w.wantMatches("web:80 /b c3")
		w.serving("c3", "c3")
	})
}

func TestConfigThatNeedsANewContainerWaitsForTheUpdate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", routed("/a"))
		w.after(3 * time.Second)
		news := routed("/b")
		news.User = "nobody"
		w.store.configure(*news)
		w.after(time.Minute)
		w.wantMatches("web:80 /a c1")
		w.serving("c1", "c1")
	})
}

// A crash of one of several ports' container is repaired although another port is not as it should be.
func TestRouteErrorIsToldAndHoldsNothingUp(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.router.mu.Lock()
		w.router.applyErr = errors.New(`open listener "web:443": read certificate "/c": no such file`)
		w.router.mu.Unlock()
		w.engine.crash("c1")
		w.after(5 * time.Second)
		if st := w.published(); !strings.Contains(st.RouteErr, "no such file") || st.Step != component.StepServing {
			t.Errorf("published %q, %q, want the route error of a host that serves", st.RouteErr, st.Step)
		}
		if got := w.engine.running(); !slices.Equal(got, []string{"c2"}) {
			t.Errorf("running are %v, want c2", got)
		}
		w.router.mu.Lock()
		w.router.applyErr = nil
		w.router.mu.Unlock()
		w.after(time.Minute)
		if st := w.published(); st.RouteErr != "" {
			t.Errorf("published %q after it went away", st.RouteErr)
		}
	})
}

// draining is a world with c1 draining, three connections left, and the spec's deadline.
func draining(w *world, drain component.DrainPolicy) component.Spec {
	w.t.Helper()
	spec := web()
	spec.Drain = drain
	w.update("v1", spec)
	w.after(3 * time.Second)
	w.router.setConns("c1", 3)
	w.store.configure(*spec)
	w.update("v2", spec)
	w.after(5 * time.Second)
	w.serving("c2", "c1", "c2")
	return *spec
}

func TestDeadlineStoredDuringADrainCounts(t *testing.T) {
	tests := []struct {
		name        string
		first, then time.Duration
		cutBy       time.Duration // after the change
	}{
		{"a first one", 0, time.Minute, time.Minute},
		{"a sooner one", time.Hour, time.Minute, time.Minute},
		{"one that is over", time.Hour, time.Second, time.Second},
		{"a later one", 30 * time.Second, time.Hour, time.Hour},
		{"none any more", 30 * time.Second, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				spec := draining(w, component.DrainPolicy{Timeout: component.Duration(tt.first)})
				spec.Drain.Timeout = component.Duration(tt.then)
				w.store.configure(spec)
				if tt.cutBy == 0 {
					w.after(24 * time.Hour)
					w.serving("c2", "c1", "c2")
					return
				}
				w.after(tt.cutBy - 10*time.Second)
				if tt.cutBy > 10*time.Second {
					w.serving("c2", "c1", "c2")
				}
				w.after(15 * time.Second)
				w.serving("c2", "c2")
			})
		})
	}
}

func TestRestartKeepsTheDeadlineOfADrain(t *testing.T) {
	inWorld(t, func(w *world) {
		draining(w, component.DrainPolicy{Timeout: component.Duration(time.Minute)})
		w.after(30 * time.Second)
		w.restart()
		w.after(15 * time.Second)
		w.serving("c2", "c1", "c2")
		w.after(15 * time.Second)
		w.serving("c2", "c2")
		if _, cut := w.router.retired(); !slices.Equal(cut, []string{"c1"}) {
			t.Errorf("cut %v, want c1 a minute after its drain began", cut)
		}
	})
}

// A cut that goes slowly is ended by a later deadline, and goes on at another rate.
func TestCutUnderWayFollowsTheConfig(t *testing.T) {
	inWorld(t, func(w *world) {
		w.router.slow = make(chan struct{})
		spec := draining(w, component.DrainPolicy{Timeout: component.Duration(10 * time.Second), Rate: 1})
		w.after(20 * time.Second)
		spec.Drain.Rate = 50
		w.store.configure(spec)
		w.after(time.Second)
		w.router.mu.Lock()
		if !slices.Equal(w.router.cuts, []int{1, 50}) {
			t.Errorf("rates of the cuts are %v, want 1, then 50", w.router.cuts)
		}
		w.router.slow = nil // another cut would end all
		w.router.mu.Unlock()
		spec.Drain.Timeout = component.Duration(time.Hour)
		w.store.configure(spec)
		w.after(time.Minute)
		w.serving("c2", "c1", "c2")
	})
}
