package supervisor_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestFirstStart(t *testing.T) {
	inWorld(t, func(w *world) {
		gen := w.update("v1", web())
		w.after(100 * time.Millisecond)
		w.serving("c1", "c1")
		if r := w.rollout(); r.Status != component.RolloutProgressing {
			t.Errorf("rollout during bake = %v", r.Status)
		}
		w.after(2 * time.Second)
		want := []string{
			"Component web is not running; starting", "Starting container c1", "Waiting for health checks...",
			"Redirecting traffic to new container", "Checking container statuses...", "Updating proxy...",
			"Update completed for component web",
		}
		if d := cmp.Diff(want, w.told()); d != "" {
			t.Errorf("story (-want +got):\n%s", d)
		}
		if r := w.rollout(); r.Status != component.RolloutDone || r.Generation != gen {
			t.Errorf("rollout = %+v, want done", r)
		}
		if st := w.published(); st.Step != component.StepServing || st.Generation != gen {
			t.Errorf("published = %+v", st)
		}
	})
}

func TestUpdateRoutesBeforeItDrains(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.router.setConns("c1", 2)
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		w.told()
		w.update("v2", web())
		w.after(time.Second)
		w.serving("c1", "c1", "c2") // not ready yet: nothing changed for clients
		w.prober.set(func(p *memProber) { p.unready["c2"] = false })
		w.after(500 * time.Millisecond)
		w.serving("c2", "c1", "c2")
		if drained, _ := w.router.retired(); len(drained) > 0 {
			t.Errorf("drained %v while the new container bakes", drained)
		}
		w.after(time.Second)
		if drained, _ := w.router.retired(); !slices.Equal(drained, []string{"c1"}) {
			t.Errorf("drained after the turn: %v, want c1", drained)
		}
		if r := w.rollout(); r.Status != component.RolloutDone {
			t.Errorf("the rollout waits for a drain: %v", r.Status)
		}
		w.after(10 * time.Minute)
		w.serving("c2", "c1", "c2") // connections are never cut by default
		w.router.setConns("c1", 0)
		w.after(time.Second)
		w.serving("c2", "c2")
		want := []string{
			"Detected pushed update for component web", "Starting container c2", "Waiting for health checks...", "Health check failed",
			"Redirecting traffic to new container", "Checking container statuses...", "Updating proxy...",
			"Update completed for component web", "Draining container c1", "Starting monitoring...", "Monitor check started",
			"Shutting down container: c1", "Container removed: c1",
		}
		if d := cmp.Diff(want, w.told()); d != "" {
			t.Errorf("story (-want +got):\n%s", d)
		}
	})
}

func TestUnreadyReleaseHaltsAndTheOldOneServes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.prober.set(func(p *memProber) { p.unready["c2"] = true })
		gen := w.update("v2", web())
		w.after(15 * time.Second)
		w.serving("c1", "c1")
		r := w.rollout()
		if r.Status != component.RolloutHalted || r.Generation != gen || r.Kind != component.UpdateFail || r.Host != "h1" {
			t.Fatalf("rollout = %+v, want halted", r)
		}
		f := w.published().Failure
		if f == nil || f.Generation != gen || f.Reason != "not ready after 10s: 503" || len(f.Log) == 0 {
			t.Errorf("failure = %+v", f)
		}
		w.after(10 * time.Minute)
		if n := w.engine.count("start v2"); n != 1 {
			t.Errorf("halted release started %d times, want 1", n)
		}
		w.prober.set(func(p *memProber) { p.unready = map[string]bool{} })
		w.update("v2", web()) // a new try
		w.after(5 * time.Second)
		w.serving("c3", "c3")
	})
}

func TestStartErrorOfNewReleaseHalts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.engine.fault(func(e *memEngine) { e.startErr["v2"] = errors.New("no such command") })
		gen := w.update("v2", web())
		w.after(time.Second)
		if r := w.rollout(); r.Status != component.RolloutHalted || r.Generation != gen || !strings.Contains(r.Reason, "no such command") {
			t.Fatalf("rollout = %+v, want halted", r)
		}
		w.serving("c1", "c1")
		w.engine.crash("c1") // what serves is repaired all the same
		w.after(time.Second)
		w.serving("c2", "c2")
	})
}

func TestFailedRepairSaysNothingOfTheReleaseThatWaits(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.store.fault(func(s *memStore) { s.others["web"] = []string{"h2"} }) // another host has the turn
		w.engine.fault(func(e *memEngine) { e.startErr["v1"] = errors.New("disk full") })
		w.update("v2", web())
		w.after(time.Second)
		w.engine.crash("c1")
		w.after(10 * time.Second)
		w.engine.fault(func(e *memEngine) { delete(e.startErr, "v1") })
		w.store.fault(func(s *memStore) { s.others["web"] = nil })
		w.after(10 * time.Minute)
		if r := w.rollout(); r.Status != component.RolloutDone {
			t.Errorf("rollout = %+v, want done", r)
		}
	})
}

func TestPullFailureHalts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.update("v9", web())
		w.after(time.Minute)
		if r := w.rollout(); r.Status != component.RolloutHalted || r.Kind != component.PullFail {
			t.Errorf("rollout = %+v, want halted by pullfail", r)
		}
		if n := w.engine.count("pull v9"); n != component.PullTries {
			t.Errorf("pulled %d times, want %d", n, component.PullTries)
		}
		w.serving("c1", "c1")
	})
}

func TestCrashIsRepairedWithBackOff(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		for i := 1; i <= 4; i++ {
			w.engine.crash(fmt.Sprintf("c%d", i))
			w.after(time.Minute)
		}
		w.serving("c5", "c5")
		w.engine.crash("c5") // the fifth in a row waits 8 s
		w.after(5 * time.Second)
		w.serving("")
		w.after(5 * time.Second)
		w.serving("c6", "c6")
		if n := w.engine.total(); n > 1+component.KeepFailed {
			t.Errorf("%d containers are kept, want at most %d", n, 1+component.KeepFailed)
		}
	})
}

func TestSickContainerServesUntilItsSuccessorDoes(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.prober.set(func(p *memProber) { p.sick["c1"], p.unready["c2"] = true, true })
		w.after(3 * time.Second)
		w.serving("c1", "c1", "c2")
		w.prober.set(func(p *memProber) { p.unready["c2"] = false })
		w.after(3 * time.Second)
		w.serving("c2", "c2")
	})
}

func TestSilentEngineChangesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.engine.fault(func(e *memEngine) { e.silent = true })
		w.update("v2", web())
		w.after(time.Minute)
		w.serving("c1", "c1")
		st := w.published()
		if st.Step != component.StepWaiting || len(st.Containers) != 1 {
			t.Errorf("published = %+v, want that it waits, with the container it saw last", st)
		}
		w.end(component.StatusStopped)
		w.after(time.Minute)
		if st := w.sup.Status("web"); st.Step == component.StepStopped {
			t.Error("the host says stopped without having seen it")
		}
		w.engine.fault(func(e *memEngine) { e.silent = false })
		w.after(time.Minute)
		w.serving("closed")
	})
}

func TestLostEndOfTurnIsRepeated(t *testing.T) {
	for _, image := range []string{"good", "bad"} {
		t.Run(image, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.update("v1", web())
				w.after(3 * time.Second)
				w.prober.set(func(p *memProber) { p.unready["c2"] = image == "bad" })
				w.store.fault(func(s *memStore) { s.endErr = component.ErrUnreachable })
				w.update("v2", web())
				w.after(20 * time.Second)
				if r := w.rollout(); r.Status != component.RolloutProgressing {
					t.Fatalf("rollout = %+v", r)
				}
				w.store.fault(func(s *memStore) { s.endErr = nil })
				w.after(time.Minute)
				want := map[string]component.RolloutStatus{"good": component.RolloutDone, "bad": component.RolloutHalted}[image]
				if r := w.rollout(); r.Status != want {
					t.Errorf("rollout = %+v, want %v", r, want)
				}
				if n := w.engine.count("start v2"); n != 1 {
					t.Errorf("started %d times, want 1", n)
				}
			})
		})
	}
}

// TestSettledOnceAllIsKnown starts a host again that remembers nothing.
func TestSettledOnceAllIsKnown(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		if !w.sup.Settled() {
			t.Error("a host that serves is not settled")
		}
		cluster := w.store.cluster
		w.memory = &memMemory{}
		w.store.fault(func(s *memStore) { s.cluster = "" })
		w.engine.fault(func(e *memEngine) { e.silent = true })
		w.restart()
		w.after(time.Hour)
		if w.sup.Settled() {
			t.Error("settled, and the store was never read")
		}
		w.store.fault(func(s *memStore) { s.cluster = cluster })
		w.after(time.Hour)
		if w.sup.Settled() {
			t.Error("settled, and the engine never answered")
		}
		w.engine.fault(func(e *memEngine) { e.silent = false })
		w.after(time.Hour)
		if !w.sup.Settled() {
			t.Error("not settled, and all is known")
		}
	})
}

func TestSilentStoreStopsReleasesButNoRepairs(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.update("v2", web())
		w.store.fault(func(s *memStore) { s.silent = true; s.view("web").Turn = component.Turn{} })
		w.after(time.Minute)
		if n := w.engine.count("start v2"); n > 1 {
			t.Errorf("new release started %d times without the store", n)
		}
		before := w.router.target("web")
		w.engine.crash(before)
		w.after(time.Minute)
		if got := w.router.target("web"); got == before || got == "" || got == "closed" {
			t.Errorf("after a crash connections go to %q", got)
		}
	})
}

func TestStrangeStoreIsNotFollowed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.told()
		w.store.fault(func(s *memStore) { s.cluster = "another" })
		w.end(component.StatusKilled)
		w.after(time.Minute)
		w.serving("c1", "c1")
		if ok, why := w.sup.Trusted(); ok || why == "" {
			t.Error("the store is trusted")
		}
		if s := strings.Join(w.told(), "\n"); strings.Count(s, "gantryd adopt") != 1 {
			t.Errorf("story = %s, want one line on adopt", s)
		}
		w.store.fault(func(s *memStore) { s.adoption = component.Adoption{Nonce: "n", Cluster: "another"} })
		w.after(time.Minute)
		w.serving("closed")
	})
}

// The generations of two stores have nothing to do with each other, and soon are the same numbers.
func TestGenerationOfAnotherStoreProvesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		old := w.update("v1", web())
		w.after(3 * time.Second)
		w.store.fault(func(s *memStore) {
			s.cluster, s.revision = "another", old-1
			s.views["web"].Rollout = component.Rollout{}
		})
		if again := w.update("v2", web()); again != old {
			t.Fatalf("generation %d in the other store, want %d again", again, old)
		}
		w.after(time.Minute)
		if st := w.published(); st.Generation == old {
			t.Errorf("the other store is told that the host has proven %d", st.Generation)
		}
		w.store.fault(func(s *memStore) {
			s.puts = nil
			s.adoption = component.Adoption{Nonce: "n", Cluster: "another"}
		})
		w.after(time.Minute)
		w.serving("c2", "c2")
		for _, st := range w.store.puts {
			if st.Generation == old && len(st.Containers) > 0 && st.Containers[0].ImageID == "v1" && len(st.Containers) == 1 {
				t.Errorf("generation %d counts as proven while v1 serves", old)
			}
		}
		if st := w.published(); st.Generation != old {
			t.Errorf("generation %d is proven, want %d", st.Generation, old)
		}
	})
}

func TestRestartAdopts(t *testing.T) {
	for _, memory := range []string{"kept", "lost"} {
		t.Run(memory, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.update("v1", web())
				w.after(3 * time.Second)
				if memory == "lost" {
					w.memory.recs, w.memory.used = component.Records{}, false
				}
				w.restart()
				w.after(time.Minute)
				w.serving("c1", "c1")
				if n := w.engine.count("start v1"); n != 1 {
					t.Errorf("started %d times, want 1", n)
				}
			})
		})
	}
}

// The old container still drains when the memory is lost: it must not get new connections again.
func TestLostMemoryAdoptsWhatIsRolledOut(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.router.setConns("c1", 1)
		w.update("v2", web())
		w.after(10 * time.Second)
		w.serving("c2", "c1", "c2")
		w.memory.recs, w.memory.used = component.Records{}, false
		w.restart()
		w.router.setConns("c1", 0) // they ended with the daemon
		w.told()
		w.after(time.Minute)
		w.serving("c2", "c2")
		if s := strings.Join(w.told(), "\n"); strings.Contains(s, "Redirecting") {
			t.Errorf("story = %s, want no switch: the container that is rolled out serves from the first look on", s)
		}
	})
}

func TestNewHostTrustsNoContainerItStarted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.prober.set(func(p *memProber) { p.unready["*"] = true })
		w.update("v1", web())
		w.after(time.Second)
		w.serving("", "c1") // memory is new, and the container is not adopted as serving
	})
}

func TestContainerOfKilledDaemonIsRemoved(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.engine.fault(func(e *memEngine) { e.halfDone = true })
		w.update("v2", web())
		w.after(50 * time.Millisecond)
		w.engine.fault(func(e *memEngine) { e.halfDone, e.silent = false, false })
		w.restart()
		w.after(10 * time.Second)
		if r := w.rollout(); r.Status != component.RolloutDone {
			t.Errorf("rollout = %+v, want done", r)
		}
		if st := w.published(); st.Restarts != 0 || st.Failure != nil {
			t.Errorf("counted as a failure: %+v", st)
		}
		if n := w.engine.total(); n != 1 {
			t.Errorf("%d containers are there, want 1", n)
		}
	})
}

func TestStopDrains(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.router.setConns("c1", 1)
		w.told()
		w.end(component.StatusStopped)
		w.after(10 * time.Minute)
		w.serving("closed", "c1")
		if st := w.published(); st.Step != component.StepStopping {
			t.Errorf("step = %q, want stopping", st.Step)
		}
		w.router.setConns("c1", 0)
		w.after(time.Second)
		w.serving("closed")
		want := []string{
			"Component web is marked as stopped", "Draining all containers...", "Checking container statuses...",
			"Updating proxy...", "Starting monitoring...", "Monitor check started", "Shutting down container: c1", "Container removed: c1",
		}
		if d := cmp.Diff(want, w.told()); d != "" {
			t.Errorf("story (-want +got):\n%s", d)
		}
		w.restart() // sticky
		w.after(time.Minute)
		w.serving("closed")
	})
}

func TestKillDoesNotWait(t *testing.T) {
	for _, during := range []string{"drain", "grace"} {
		t.Run(during, func(t *testing.T) {
			inWorld(t, func(w *world) {
				spec := web()
				spec.StopTimeout = component.Duration(time.Hour)
				w.update("v1", spec)
				w.after(3 * time.Second)
				if during == "drain" {
					w.router.setConns("c1", 1)
				}
				w.engine.fault(func(e *memEngine) { e.stubborn = true })
				w.end(component.StatusStopped)
				w.after(time.Minute)
				w.serving("closed", "c1")
				w.end(component.StatusKilled)
				w.after(time.Second)
				w.serving("closed")
				if n := w.engine.count("kill c1"); n != 1 {
					t.Errorf("killed %d times, want 1", n)
				}
			})
		})
	}
}

func TestRefusedStopIsTriedAgainInPeace(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.engine.fault(func(e *memEngine) { e.stopErr = errors.New("cannot stop") })
		w.end(component.StatusStopped)
		w.after(time.Minute)
		if n := w.engine.count("stop c1"); n < 10 || n > 100 {
			t.Errorf("tried %d times in a minute", n)
		}
		w.engine.fault(func(e *memEngine) { e.stopErr = nil })
		w.after(5 * time.Second)
		w.serving("closed")
	})
}

func TestDrainDeadlineCuts(t *testing.T) {
	inWorld(t, func(w *world) {
		spec := web()
		spec.Drain.Timeout = component.Duration(30 * time.Second)
		w.update("v1", spec)
		w.after(3 * time.Second)
		w.router.setConns("c1", 3)
		w.update("v2", spec)
		w.after(20 * time.Second)
		w.serving("c2", "c1", "c2")
		w.after(20 * time.Second)
		w.serving("c2", "c2")
		if _, cut := w.router.retired(); !slices.Equal(cut, []string{"c1"}) {
			t.Errorf("cut = %v", cut)
		}
	})
}

func TestUnopenedPortIsKnownBeforeAnythingStarts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.router.applyErr = errors.New("address in use")
		w.update("v1", web())
		w.after(time.Second)
		if r := w.rollout(); r.Status != component.RolloutHalted || !strings.Contains(r.Reason, "address in use") {
			t.Errorf("rollout = %+v, want halted", r)
		}
		w.serving("closed")
	})
}

func TestConnectionCountsAreNotWorthAWriteEach(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(10 * time.Second)
		before := w.store.writes()
		for i := range 1000 {
			w.router.setConns("c1", 1+i%2)
			w.store.fault(func(*memStore) {})
			w.after(10 * time.Millisecond)
		}
		if n := w.store.writes() - before; n > 5 {
			t.Errorf("%d writes in 10 s for mere counts", n)
		}
	})
}

func TestConnectionsAreToldThoughNothingElseHappens(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(10 * time.Second)
		w.router.setConns("c1", 3)
		w.after(6 * time.Second)
		if got := w.published().Containers[0].Connections; got != 3 {
			t.Errorf("published %d connections, want 3 within 5 s", got)
		}
		before := w.store.writes()
		w.after(time.Minute)
		if n := w.store.writes() - before; n > 2 {
			t.Errorf("%d writes in a minute in which nothing changed", n)
		}
	})
}

func TestStatusOfNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		if st := w.sup.Status("nobody"); st.Step != component.StepIdle {
			t.Errorf("status = %+v", st)
		}
		w.after(time.Minute)
		if m := w.store.machine("h1"); len(m.Components) > 0 {
			t.Errorf("asking made a component: %v", m.Components)
		}
	})
}
