package supervisor_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// say is an operator's word: it changes the rollout record.
func (s *memStore) say(name string, f func(*component.Rollout)) {
	_ = s.write(name, func(v *component.View) error {
		r := v.Record()
		f(&r)
		s.revision++
		v.Rollout, v.RolloutRevision = r, s.revision
		return nil
	})
}

// machineOf makes another host known, which runs web and never gets anywhere.
func (w *world) machineOf(host string) {
	w.t.Helper()
	if err := w.store.setMachine(host, component.Machine{Components: []string{"web"}}); err != nil {
		w.t.Fatal(err)
	}
}

// policed is web with a policy.
func policed(f func(*component.RolloutPolicy)) *component.Spec {
	s := web()
	f(&s.Rollout)
	return s
}

func back(p *component.RolloutPolicy) { p.OnFailure = component.OnFailureRollback }

func TestFailureIsRolledBackOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", policed(back))
		w.after(3 * time.Second)
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		bad := w.update("v2", policed(back))
		w.after(15 * time.Second)
		w.serving("c1", "c1")
		d := w.store.View("web").Desired
		if d.Generation <= bad || d.ImageID != "v1" || !d.Automatic || d.By != "gantryd@h1" || !strings.Contains(d.Reason, "not ready after 10s: 503") {
			t.Errorf("desired state = %+v", d)
		}
		if r := w.rollout(); r.Status != component.RolloutDone || r.Generation != d.Generation {
			t.Errorf("rollout = %+v, want done", r)
		}
		w.after(10 * time.Minute)
		if w.store.rollbacks != 1 {
			t.Errorf("rolled back %d times", w.store.rollbacks)
		}
	})
}

func TestFirstReleaseHasNothingToGoBackTo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.prober.set(func(p *memProber) { p.unready["c1"] = true })
		gen := w.update("v1", policed(back))
		w.after(15 * time.Second)
		r := w.rollout()
		if r.Status != component.RolloutHalted || !r.Stays || !strings.HasSuffix(r.Reason, "there is no past release to go back to") {
			t.Errorf("rollout = %+v", r)
		}
		w.after(10 * time.Minute)
		if w.store.View("web").Desired.Generation != gen || w.rollout().Reason != r.Reason {
			t.Errorf("it is tried again: %+v", w.rollout())
		}
	})
}

func TestPauseKeepsRepairing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.store.fault(func(s *memStore) { s.others["web"] = []string{"h2"} }) // another host begins
		w.update("v2", web())
		w.after(time.Second)
		w.store.say("web", func(r *component.Rollout) { r.Paused = &component.Word{By: "ann"} })
		w.store.fault(func(s *memStore) { s.others["web"] = nil })
		w.after(time.Hour)
		w.serving("c1", "c1")
		if st := w.published(); st.Step != component.StepWaiting || st.Detail != "paused by ann" {
			t.Errorf("published = %s %s", st.Step, st.Detail)
		}
		w.engine.crash("c1")
		w.after(5 * time.Second)
		w.serving("c2", "c2")
		if n := w.engine.count("start v2"); n != 0 {
			t.Errorf("the new release was started %d times in a pause", n)
		}
		w.store.say("web", func(r *component.Rollout) { r.Paused = nil })
		w.after(5 * time.Second)
		w.serving("c3", "c3")
		if r := w.rollout(); r.Status != component.RolloutDone {
			t.Errorf("rollout = %+v", r)
		}
	})
}

// A host that was lost in its turn may never be back; what turns sick on another one is replaced meanwhile.
func TestSickContainerIsReplacedThoughAHostWasLost(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.machineOf("h2")
		w.store.fault(func(s *memStore) { s.view("web").Changing = map[string]int64{"h2": 7} })
		w.update("v2", web())
		w.store.say("web", func(r *component.Rollout) { r.Paused = &component.Word{By: "ann"} }) // no deadline runs
		w.after(time.Minute)
		w.prober.set(func(p *memProber) { p.sick["c1"] = true })
		w.after(time.Minute)
		w.serving("c2", "c2")
		if n := w.engine.count("start v2"); n != 0 {
			t.Errorf("the new release was started %d times", n)
		}
	})
}

// An Engine that starts anew in the middle of a turn takes all containers along: the turn goes on with new ones.
func TestEngineThatRestartsInATurnIsNoFailure(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		gen := w.update("v2", web())
		w.after(5 * time.Second)
		w.restartEngine(20 * time.Second)
		w.after(10 * time.Second)
		w.serving("c4", "c4") // c3 is the old release once more
		if n := w.engine.count("start v1"); n != 2 {
			t.Errorf("the old release was started %d times, want it again before the new one", n)
		}
		if r := w.rollout(); r.Status != component.RolloutDone || r.Generation != gen {
			t.Errorf("rollout = %+v", r)
		}
		w.restartEngine(time.Second)
		w.after(10 * time.Second)
		w.serving("c5", "c5")
		if st := w.published(); st.Failure != nil || st.Restarts != 0 {
			t.Errorf("published %+v, %d restarts", st.Failure, st.Restarts)
		}
	})
}

// A disk that stores nothing, such as a data directory that was removed, keeps nothing that broke from being
// repaired, and takes nothing away.
func TestRepairGoesOnWithoutAMemory(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		fail := func(err error) {
			w.memory.mu.Lock()
			defer w.memory.mu.Unlock()
			w.memory.fail = err
		}
		fail(errors.New("directory is gone"))
		w.engine.crash("c1")
		w.after(5 * time.Second)
		w.serving("c2", "c2")
		w.restartEngine(time.Second)
		w.after(5 * time.Second)
		w.serving("c3", "c3")
		w.update("v2", web())
		w.after(time.Minute)
		if r := w.engine.running(); !slices.Contains(r, "c3") {
			t.Errorf("running are %v: the old one is gone, although nothing of the new one is stored", r)
		}
		fail(nil)
		w.after(time.Minute)
		w.serving("c4", "c4")
		if r := w.rollout(); r.Status != component.RolloutDone {
			t.Errorf("rollout = %+v", r)
		}
	})
}

// A pull that the Engine's end cut off says nothing of the image.
func TestEngineThatRestartsInPullsIsNoFailure(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.engine.fault(func(e *memEngine) {
			delete(e.images, "v2")
			e.remote["v2"], e.pullErr = true, component.ErrEngineUnreachable
		})
		w.update("v2", web())
		w.after(20 * time.Second)
		if n := w.engine.count("pull v2"); n < 5 {
			t.Errorf("pulled %d times", n)
		}
		w.engine.fault(func(e *memEngine) { e.pullErr = nil })
		w.after(10 * time.Second)
		w.serving("c2", "c2")
		if r := w.rollout(); r.Status != component.RolloutDone {
			t.Errorf("rollout = %+v", r)
		}
	})
}

func TestNoProgressHalts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.store.fault(func(s *memStore) { s.others["web"] = []string{"h2"} }) // it hangs
		gen := w.update("v2", policed(func(p *component.RolloutPolicy) { p.ProgressDeadline = component.Duration(time.Minute) }))
		w.store.say("web", func(*component.Rollout) {})
		w.after(59 * time.Second)
		if r := w.rollout(); r.Status != component.RolloutProgressing {
			t.Fatalf("rollout = %+v before the deadline", r)
		}
		w.after(3 * time.Second)
		r := w.rollout()
		if r.Status != component.RolloutHalted || r.Generation != gen || !strings.Contains(r.Reason, "no progress for 1m0s: host h1: waiting: turn of h2") {
			t.Errorf("rollout = %+v", r)
		}
		w.serving("c1", "c1")
	})
}

func TestRetryIsANewTry(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		gen := w.update("v2", web())
		w.after(15 * time.Second)
		if r := w.rollout(); r.Status != component.RolloutHalted {
			t.Fatalf("rollout = %+v", r)
		}
		w.store.say("web", func(r *component.Rollout) {
			*r = component.Rollout{Generation: gen, Status: component.RolloutProgressing, Attempt: 1}
		})
		w.after(5 * time.Second)
		w.serving("c3", "c3")
		if r := w.rollout(); r.Status != component.RolloutDone || r.Generation != gen || r.Attempt != 1 {
			t.Errorf("rollout = %+v", r)
		}
	})
}

func TestHostThatFailedIsPassedOver(t *testing.T) {
	inWorld(t, func(w *world) {
		spec := policed(func(p *component.RolloutPolicy) { p.MaxFailures = 1 })
		w.update("v1", spec)
		w.after(3 * time.Second)
		w.machineOf("h2")
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		gen := w.update("v2", spec)
		w.after(time.Minute)
		r := w.rollout()
		if r.Status != component.RolloutProgressing || len(r.Failed) != 1 || r.Failed[0] != "h1" {
			t.Fatalf("rollout = %+v", r)
		}
		if st := w.published(); st.Step != component.StepFailed || st.Failure == nil {
			t.Errorf("published = %+v", st)
		}
		_ = w.store.write("web", func(v *component.View) error {
			v.Hosts["h2"] = component.HostStatus{Host: "h2", Generation: gen, Step: component.StepServing}
			return nil
		})
		w.after(time.Minute)
		if r := w.rollout(); r.Status != component.RolloutDone || len(r.Failed) != 1 {
			t.Errorf("rollout = %+v", r)
		}
		w.serving("c1", "c1")
		if n := w.engine.count("start v2"); n != 1 {
			t.Errorf("what failed was started %d times", n)
		}
	})
}

func TestCanariesArePromotedByTime(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.machineOf("h2")
		gen := w.update("v2", policed(func(p *component.RolloutPolicy) { p.Canary, p.AutoPromote = 1, component.Duration(time.Minute) }))
		w.after(3 * time.Second)
		if r := w.rollout(); len(r.Canaries) != 1 || r.Canaries[0] != "h1" || r.Promoted != nil {
			t.Fatalf("rollout = %+v", r)
		}
		w.after(50 * time.Second)
		if r := w.rollout(); r.Promoted != nil {
			t.Errorf("promoted too early: %+v", r)
		}
		w.after(15 * time.Second)
		if r := w.rollout(); r.Generation != gen || r.Promoted == nil || r.Promoted.By != "autoPromote" {
			t.Errorf("rollout = %+v", r)
		}
	})
}

// A host that is back, and serves, says so: others wait for it no longer.
func TestHostThatIsBackSaysSo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.store.fault(func(s *memStore) {
			s.others["web"] = []string{"h2"}
			s.view("web").Changing = map[string]int64{"h1": 7}
		})
		w.update("v2", web())
		w.after(time.Second)
		if c := w.store.View("web").Changing; len(c) != 0 {
			t.Errorf("lost hosts: %v", c)
		}
	})
}

// The write of a rollback that is not permitted is tried again, and harms nothing.
func TestRollbackThatIsNotPermitted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", policed(back))
		w.after(3 * time.Second)
		w.store.fault(func(s *memStore) { s.forbid = true })
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		w.update("v2", policed(back))
		w.after(time.Minute)
		if r := w.rollout(); r.Status != component.RolloutHalted || r.Stays {
			t.Errorf("rollout = %+v", r)
		}
		w.serving("c1", "c1")
		w.store.fault(func(s *memStore) { s.forbid = false })
		w.after(11 * time.Second)
		if d := w.store.View("web").Desired; !d.Automatic || d.ImageID != "v1" {
			t.Errorf("desired state = %+v", d)
		}
	})
}

// After a minute the record says that it stays, and why: nobody tries for ever. A new try has its own.
func TestRollbackThatIsNeverPermitted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", policed(back))
		w.after(3 * time.Second)
		w.store.fault(func(s *memStore) { s.forbid = true })
		w.prober.set(func(p *memProber) { p.unready["c2"], p.unready["c3"] = true, true })
		gen := w.update("v2", policed(back))
		w.after(15*time.Second + time.Minute + 10*time.Second)
		r := w.rollout()
		if r.Status != component.RolloutHalted || !r.Stays || !strings.HasSuffix(r.Reason, "; it could not be rolled back: permission denied") {
			t.Fatalf("rollout = %+v", r)
		}
		tries := w.store.tries
		w.after(10 * time.Minute)
		if got := w.rollout(); w.store.tries != tries || got.Reason != r.Reason {
			t.Errorf("tried %d times, then %d times; rollout = %+v", tries, w.store.tries, got)
		}
		w.serving("c1", "c1")
		w.store.fault(func(s *memStore) { s.forbid = false })
		w.store.say("web", func(r *component.Rollout) {
			*r = component.Rollout{Generation: gen, Status: component.RolloutProgressing, Attempt: 1}
		})
		w.after(time.Minute)
		if d := w.store.View("web").Desired; !d.Automatic || d.ImageID != "v1" {
			t.Errorf("desired state after a new try = %+v", d)
		}
	})
}

// A host that only starts its daemon anew is given the time to be back before what the others failed at halts.
func TestAllFailedIsJudgedOverHostsThatStay(t *testing.T) {
	inWorld(t, func(w *world) {
		spec := policed(func(p *component.RolloutPolicy) { p.MaxFailures = 1 })
		w.update("v1", spec)
		w.after(3 * time.Second)
		w.machineOf("h2")
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		w.update("v2", spec)
		w.after(9 * time.Second)
		w.store.dies("h2")
		w.after(20 * time.Second)
		if r := w.rollout(); r.Status != component.RolloutProgressing || len(r.Failed) != 1 {
			t.Fatalf("rollout while h2 is away = %+v", r)
		}
		w.machineOf("h2")
		w.after(5 * time.Minute)
		if r := w.rollout(); r.Status != component.RolloutProgressing {
			t.Fatalf("rollout when h2 is back = %+v", r)
		}
		w.store.dies("h2")
		w.after(40 * time.Second)
		if r := w.rollout(); r.Status != component.RolloutHalted || !strings.HasPrefix(r.Reason, "every host failed") {
			t.Errorf("rollout without h2 = %+v", r)
		}
	})
}
