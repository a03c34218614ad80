package supervisor_test

import (
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// both asks for db and for web, which follows it, in one write.
func (w *world) both(together ...string) {
	w.store.fault(func(s *memStore) {
		s.revision++
		for _, name := range []string{"db", "web"} {
			spec := web()
			spec.Name, spec.Ports = name, nil
			d := component.Desired{Status: component.StatusReady, ImageID: "v1", Spec: spec, Generation: s.revision, Together: together}
			if name == "web" {
				d.Follows = "db"
			}
			s.view(name).Desired = d
		}
	})
}

func TestComponentBeginsOnceTheOneBeforeIsDone(t *testing.T) {
	inWorld(t, func(w *world) {
		w.both()
		w.after(500 * time.Millisecond)
		if n := w.engine.total(); n != 1 {
			t.Fatalf("%d containers run while db bakes, want its own", n)
		}
		if st := w.published(); st.Detail != "component db comes first" {
			t.Errorf("web = %q: %q", st.Step, st.Detail)
		}
		w.after(5 * time.Second) // long before a resync would see it
		if r := w.rollout(); r.Status != component.RolloutDone || !r.Begun {
			t.Errorf("rollout of web = %+v, want done", r)
		}
	})
}

func TestComponentIsSkippedWhenTheOneBeforeHalts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.prober.set(func(p *memProber) { p.unready["c1"] = true })
		w.both()
		w.after(15 * time.Second)
		r := w.rollout()
		if r.Status != component.RolloutHalted || r.Kind != component.Skipped {
			t.Errorf("rollout of web = %+v, want skipped", r)
		}
		if n := w.engine.count("start v1"); n != 1 {
			t.Errorf("%d containers were started, want that of db alone", n)
		}
	})
}

// TestStateThatAnOlderDaemonAcceptedIsReadAgain: what that one did not know is not in its memory, and counts all the same.
func TestStateThatAnOlderDaemonAcceptedIsReadAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.both()
		w.after(100 * time.Millisecond)
		w.stop()
		rec := w.memory.recs.Components["web"]
		if rec.Accepted.Follows != "db" || rec.Generation == 0 {
			t.Fatalf("remembered of web: %+v", rec)
		}
		rec.Accepted.Follows, rec.Accepted.Together, rec.Accepted.Prepared = "", nil, false
		w.memory.recs.Components["web"] = rec
		w.start()
		w.after(100 * time.Millisecond)
		if st := w.published(); st.Detail != "component db comes first" || w.engine.total() != 1 {
			t.Errorf("web = %q: %q, with %d containers; want it to wait for db", st.Step, st.Detail, w.engine.total())
		}
		w.after(5 * time.Second) // long before a resync would see it
		if r := w.rollout(); r.Status != component.RolloutDone {
			t.Errorf("rollout of web = %+v, want done", r)
		}
	})
}
