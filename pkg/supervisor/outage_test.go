package supervisor_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// A drained host closes its ports and touches nothing else; it stays so over a restart without the store, and comes to
// what was asked for once it is back in service.
func TestDrainedHostClosesItsPortsAndNothingElse(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.serving("c1", "c1")
		w.router.setConns("c1", 1)
		w.store.drain("h1", "kernel")
		w.after(3 * time.Second)
		w.serving("closed", "c1")
		if m := w.store.machine("h1"); m.Status != component.MachineDraining || m.Drain == 0 {
			t.Errorf("other hosts are told %+v", m)
		}
		if c := w.published().Containers[0]; c.DrainsSince.IsZero() || c.Connections != 1 {
			t.Errorf("published container %+v", c)
		}
		w.router.setConns("c1", 0)
		w.after(3 * time.Second)
		if m := w.store.machine("h1"); m.Status != component.MachineDrained {
			t.Errorf("with nobody left other hosts are told %+v", m)
		}

		w.store.fault(func(s *memStore) { s.silent, s.cluster = true, "" })
		w.restart()
		w.after(5 * time.Second)
		w.serving("closed", "c1")
		w.store.fault(func(s *memStore) { s.silent, s.cluster = false, "cluster" })
		w.update("v2", web())
		w.after(10 * time.Second)
		w.serving("closed", "c1")
		if st := w.published(); st.Step != component.StepWaiting || st.Detail != "drained by ann: kernel" {
			t.Errorf("it is %s: %s", st.Step, st.Detail)
		}
		w.told()
		w.store.drain("h1", "")
		w.after(10 * time.Second)
		w.serving("c2", "c2")
		if m := w.store.machine("h1"); m.Status != component.MachineRunning || m.Drain != 0 {
			t.Errorf("back in service other hosts are told %+v", m)
		}
		if story := w.told(); !slices.Contains(story, "Host is in service again") {
			t.Errorf("the story is %q", story)
		}
	})
}

// Whoever came just before is still led to the container, and ports close though Docker Engine does not answer.
func TestDrainedHostLeadsThoseWhoCame(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.engine.fault(func(e *memEngine) { e.silent = true })
		w.store.drain("h1", "kernel")
		w.after(20 * time.Second)
		if got := w.router.target("web"); got != "closed" {
			t.Errorf("new connections go to %q while the engine is silent", got)
		}
		w.engine.fault(func(e *memEngine) { e.silent = false })
		w.after(20 * time.Second)
		w.serving("closed", "c1")
		if ls := w.router.owned("web"); len(ls) != 1 || ls[0].TargetID != "c1" {
			t.Errorf("who had come is led by %+v", ls)
		}
	})
}

// Those who are still there at the component's drain deadline are cut, and the container goes on.
func TestDrainedHostCutsAtTheDeadline(t *testing.T) {
	inWorld(t, func(w *world) {
		spec := web()
		spec.Drain.Timeout = component.Duration(30 * time.Second)
		w.update("v1", spec)
		w.after(3 * time.Second)
		w.router.setConns("c1", 3)
		w.store.drain("h1", "kernel")
		w.after(29 * time.Second)
		if _, cut := w.router.retired(); len(cut) > 0 {
			t.Errorf("%v were cut before the deadline", cut)
		}
		w.after(2 * time.Second)
		if drained, cut := w.router.retired(); !slices.Equal(cut, []string{"c1"}) || len(drained) > 0 {
			t.Errorf("cut %v, drained %v", cut, drained)
		}
		w.after(time.Minute)
		w.serving("closed", "c1")
	})
}

// A cut under way ends when the host is taken back into service.
func TestUndrainEndsTheCut(t *testing.T) {
	inWorld(t, func(w *world) {
		spec := web()
		spec.Drain.Timeout = component.Duration(time.Second)
		w.update("v1", spec)
		w.after(3 * time.Second)
		w.router.setConns("c1", 3)
		w.router.mu.Lock()
		w.router.slow = make(chan struct{})
		w.router.mu.Unlock()
		w.store.drain("h1", "kernel")
		w.after(5 * time.Second)
		w.store.drain("h1", "")
		w.after(5 * time.Second)
		w.serving("c1", "c1")
		if _, cut := w.router.retired(); len(cut) != 1 || w.router.Conns("c1").Open != 3 {
			t.Errorf("cut %v, %d connections are left", cut, w.router.Conns("c1").Open)
		}
	}) // the bubble ends only when the cut has
}

// Links go to hosts in service only; the host's own exporter serves its own containers on.
func TestLinkLeavesADrainedHost(t *testing.T) {
	inWorld(t, func(w *world) {
		w.store.fault(func(s *memStore) { s.view("db").Config = db() })
		for host, addr := range map[string]string{"h2": "192.0.2.2:20000", "h3": "192.0.2.3:20000"} {
			if err := w.store.setMachine(host, component.Machine{Status: "running", Components: []string{"db"}, Links: map[string]string{"sql": addr}}); err != nil {
				t.Fatal(err)
			}
		}
		w.update("v1", app())
		w.after(5 * time.Second)
		for _, tt := range []struct{ drain, want string }{{"h2", "host:h3"}, {"h3", ""}} {
			w.store.drain(tt.drain, "kernel")
			w.after(time.Second)
			if got := w.router.target("link:sql"); got != tt.want {
				t.Errorf("with %s drained the link goes to %q, want %q", tt.drain, got, tt.want)
			}
		}
		w.store.drain("h2", "")
		w.after(time.Second)
		if got := w.router.target("link:sql"); got != "host:h2" {
			t.Errorf("the link goes to %q", got)
		}
		w.update("v2", db())
		w.after(5 * time.Second)
		local := w.router.target("link:sql")
		if len(w.store.machine("h1").Links) != 1 {
			t.Error("other hosts are not told of the exporter")
		}
		w.store.drain("h1", "kernel")
		w.after(3 * time.Second)
		if got := w.router.target("link:sql"); got != local || got == "host:h2" {
			t.Errorf("the link of a drained host's own containers goes to %q, want %q", got, local)
		}
		if m := w.store.machine("h1"); len(m.Links) != 0 {
			t.Errorf("other hosts are told %v", m.Links)
		}
	})
}
