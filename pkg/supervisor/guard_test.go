package supervisor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// guarded is a component whose rollouts are judged by errors, and go back.
func guarded() *component.Spec {
	return policed(func(p *component.RolloutPolicy) {
		back(p)
		p.Guard = component.Guard{Errors: 100}
	})
}

// users lets time pass in which ten users a second come to web; those of the containers named in bad fail.
func (w *world) users(d time.Duration, bad ...string) {
	w.t.Helper()
	for range int(d / (100 * time.Millisecond)) {
		target, failed := w.router.target("web"), int64(0)
		for _, c := range bad {
			if c == target {
				failed = 1
			}
		}
		w.router.visited(target, 1, failed)
		w.after(100 * time.Millisecond)
	}
}

func TestGuardBringsTheReleaseBeforeBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", guarded())
		w.users(time.Minute)
		bad := w.update("v2", guarded())
		w.users(25*time.Second, "c2")
		d := w.store.View("web").Desired
		if d.Generation <= bad || d.ImageID != "v1" || !d.Automatic {
			t.Fatalf("desired state = %+v, rollout %+v", d, w.rollout())
		}
		for _, want := range []string{"guard: of the new release 100.0% of ", "of the one before 0.0% of ", " before; at most 1% more may"} {
			if !strings.Contains(d.Reason, want) {
				t.Errorf("reason %q, want %q in it", d.Reason, want)
			}
		}
		w.users(10 * time.Second)
		if r := w.rollout(); r.Status != component.RolloutDone || r.Generation != d.Generation || w.store.rollbacks != 1 {
			t.Errorf("rollout = %+v after %d rollbacks, want done without a watch", r, w.store.rollbacks)
		}
	})
}

func TestGuardLeavesARolloutAloneThatIsNoWorse(t *testing.T) {
	tests := []struct {
		name string
		bad  []string
	}{
		{"healthy", nil},
		{"both bad", []string{"c1", "c2"}},
		{"only the old one bad", []string{"c1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.update("v1", guarded())
				w.users(time.Minute, tt.bad...)
				gen := w.update("v2", guarded())
				before := w.store.writes()
				w.users(50*time.Second, tt.bad...)
				if r := w.rollout(); r.Generation != gen || r.Status != component.RolloutProgressing {
					t.Errorf("rollout = %+v while it is watched", r)
				}
				if n := w.store.writes() - before; n > 25+10 {
					t.Errorf("%d statuses published in 50 s, want one for each slot of 2 s, and those of the turn", n)
				}
				w.users(20*time.Second, tt.bad...)
				if r := w.rollout(); r.Generation != gen || r.Status != component.RolloutDone {
					t.Errorf("rollout = %+v after the watch, want done", r)
				}
				w.users(20*time.Second, tt.bad...)
				before = w.store.writes()
				w.users(20*time.Second, tt.bad...)
				if n := w.store.writes() - before; n > 0 || w.published().Traffic != nil {
					t.Errorf("%d statuses published when there is nothing to judge: %+v", n, w.published().Traffic)
				}
			})
		})
	}
}

// What other hosts say of the release before, at the same time, counts: both are hit here.
func TestGuardComparesWithOtherHosts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", guarded())
		w.users(time.Minute)
		w.machineOf("h2")
		w.store.fault(func(s *memStore) { s.others["web"] = []string{} })
		gen := w.update("v2", guarded())
		said := component.Traffic{Old: true, Before: component.Tally{Tries: 1000}}
		say := func(failed int64) {
			said.Slots = append(said.Slots, component.Slot{Slot: component.SlotAt(time.Now()) - 1, Old: component.Tally{Tries: 20, Errors: failed}})
			tr := said
			tr.Slots = append([]component.Slot{}, said.Slots[max(0, len(said.Slots)-4):]...)
			w.store.fault(func(s *memStore) {
				s.view("web").Hosts["h2"] = component.HostStatus{Host: "h2", Target: gen, Step: component.StepWaiting, Traffic: &tr}
			})
		}
		for range 20 {
			say(20)
			w.users(component.SlotLength, "c2")
		}
		if r := w.rollout(); r.Generation != gen || r.Status != component.RolloutProgressing {
			t.Fatalf("rollout = %+v while both are bad", r)
		}
		for range 20 {
			say(0)
			w.users(component.SlotLength, "c2")
		}
		if d := w.store.View("web").Desired; d.Generation == gen || !strings.Contains(d.Reason, "at the same time") {
			t.Errorf("desired state = %+v, rollout %+v, want a rollback once only the new one is bad", d, w.rollout())
		}
	})
}

// silence makes the engine say nothing, or answer again, and tells of it.
func (w *world) silence(silent bool) {
	w.engine.fault(func(e *memEngine) { e.silent = silent })
	w.engine.mu.Lock()
	changed := w.engine.changed
	w.engine.mu.Unlock()
	changed("")
	w.after(0)
}

// While the engine is away, connections go to where the containers were. No release is to blame for what becomes of them.
func TestGuardLooksAwayWhileTheEngineIsAway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", guarded())
		w.users(time.Minute)
		gen := w.update("v2", guarded())
		w.users(20 * time.Second)
		w.silence(true)
		if w.published().Traffic != nil {
			t.Errorf("published of users while the engine is away: %+v", w.published().Traffic)
		}
		w.users(10*time.Second, "c2")
		w.silence(false)
		w.users(20 * time.Second)
		if r := w.rollout(); r.Generation != gen || r.Status != component.RolloutProgressing {
			t.Errorf("rollout = %+v, want it to go on", r)
		}
		if tr := w.published().Traffic; tr == nil || tr.Newest() < component.SlotAt(time.Now())-2 { // the last one may not be told yet
			t.Errorf("published of users when the engine is back: %+v", tr)
		}
		w.users(20*time.Second, "c2")
		if d := w.store.View("web").Desired; d.Generation == gen {
			t.Errorf("rollout = %+v, want a rollback for what is seen", w.rollout())
		}
	})
}

// A new rollout is not said of users in the last one's name, while the containers cannot be seen.
func TestGuardTellsOnlyOfItsRollout(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", guarded())
		w.users(time.Minute)
		w.update("v2", guarded())
		w.users(20 * time.Second)
		w.engine.fault(func(e *memEngine) { e.silent, e.images["v3"] = true, true })
		gen := w.update("v3", guarded())
		w.users(10 * time.Second)
		if st := w.published(); st.Target != gen || st.Traffic != nil {
			t.Errorf("published for generation %d: %+v, want nothing of users", st.Target, st.Traffic)
		}
		w.silence(false)
		w.users(10 * time.Second)
		if tr := w.published().Traffic; tr == nil || tr.Before.Tries == 0 {
			t.Errorf("published of users: %+v, want the release before", tr)
		}
	})
}

// What a release had that was rolled back is not held to the credit of the next one.
func TestGuardComparesWithWhatServed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", guarded())
		w.users(time.Minute)
		bad := w.update("v2", guarded())
		w.users(25*time.Second, "c2")
		w.users(10 * time.Second)
		if d := w.store.View("web").Desired; d.Generation == bad || w.store.rollbacks != 1 {
			t.Fatalf("desired state = %+v", d)
		}
		w.engine.fault(func(e *memEngine) { e.images["v3"] = true })
		w.update("v3", guarded())
		w.users(10 * time.Second)
		if tr := w.published().Traffic; tr == nil || tr.Old || tr.Before.Tries < 400 || tr.Before.Failed() > 0 {
			t.Errorf("published of users: %+v, want of the release before what v1 had", tr)
		}
	})
}

// What becomes of a connection in a slot without another one is counted with the next one.
func TestGuardCountsWhatHappensLater(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", guarded())
		w.users(time.Minute)
		w.update("v2", guarded())
		w.users(10 * time.Second)
		target := w.router.target("web")
		w.after(3 * component.SlotLength)
		w.router.visited(target, 0, 3)
		w.after(3 * component.SlotLength)
		w.router.visited(target, 4, 0)
		w.after(3 * component.SlotLength)
		var newest component.Slot
		if tr := w.published().Traffic; tr != nil {
			newest = tr.In(tr.Newest())
		}
		if newest.New.Tries != 4 || newest.New.Errors != 3 {
			t.Errorf("newest slot %+v, want 4 tries of which 3 failed", newest)
		}
	})
}
