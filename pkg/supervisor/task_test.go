package supervisor_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// prepares is web with a pre-deploy task.
func prepares() *component.Spec {
	s := web()
	s.PreDeploy = component.PreDeploy{Command: []string{"migrate"}, Timeout: component.Duration(time.Minute)}
	return s
}

// fresh is a host that serves v1 of a component with a task, whose v2 is asked for.
func (w *world) fresh() int64 {
	w.update("v1", web())
	w.after(3 * time.Second)
	w.told()
	gen := w.update("v2", prepares())
	w.after(time.Second)
	return gen
}

func TestTaskRunsBeforeTheRelease(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fresh()
		w.serving("c1", "c1", "c2")
		if st := w.published(); st.Step != component.StepPreparing {
			t.Errorf("step = %q, want preparing", st.Step)
		}
		w.engine.exit("c2", true)
		w.after(5 * time.Second)
		w.serving("c3", "c3")
		if n := w.engine.total(); n != 1 {
			t.Errorf("%d containers are left, want the one that serves", n)
		}
		r := w.rollout()
		if r.Status != component.RolloutDone || r.Prepared == nil || r.Prepared.Host != "h1" {
			t.Errorf("rollout = %+v, want done and prepared by h1", r)
		}
	})
}

func TestFailedTaskChangesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		gen := w.fresh()
		w.engine.exit("c2", false)
		w.after(5 * time.Second)
		w.serving("c1", "c1")
		r := w.rollout()
		if r.Status != component.RolloutHalted || r.Kind != component.PreDeployFail || !strings.Contains(r.Reason, "exit code 1") {
			t.Errorf("rollout = %+v, want halted by the task", r)
		}
		if len(r.Log) != 1 || r.Log[0] != "last words of c2" {
			t.Errorf("log = %q, want the task's last lines", r.Log)
		}
		if f := w.published().Failure; f == nil || f.Generation != gen || f.Kind != component.PreDeployFail {
			t.Errorf("failure = %+v", f)
		}
		if n := w.engine.total(); n != 1 {
			t.Errorf("%d containers are left, want the one that serves", n)
		}
		w.after(time.Hour)
		if n := w.engine.count("start v2"); n != 1 {
			t.Errorf("%d containers of v2 were started, want the task alone", n)
		}
	})
}

func TestTaskThatTakesTooLongIsEnded(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fresh()
		w.after(50 * time.Second)
		w.serving("c1", "c1", "c2")
		w.engine.fault(func(e *memEngine) { e.succeeded["c2"] = true }) // what a program does on SIGTERM
		w.after(20 * time.Second)
		w.serving("c1", "c1")
		if r := w.rollout(); r.Status != component.RolloutHalted || !strings.Contains(r.Reason, "did not end within 1m0s") {
			t.Errorf("rollout = %+v, want halted by the deadline", r)
		}
	})
}

// TestTaskWhoseEndIsUnknownFails: what the engine cannot tell of is no success, and keeps nobody from being looked after.
func TestTaskWhoseEndIsUnknownFails(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fresh()
		w.engine.fault(func(e *memEngine) {
			e.inspectErr = map[string]error{"c2": errors.New("inspect container c2: layer store: no such file")}
		})
		w.engine.exit("c2", true)
		w.after(5 * time.Second)
		r := w.rollout()
		if r.Status != component.RolloutHalted || r.Kind != component.PreDeployFail || !strings.Contains(r.Reason, "nobody knows how it ended: inspect container c2") {
			t.Errorf("rollout = %+v, want halted by the task", r)
		}
		w.engine.crash("c1")
		w.after(20 * time.Second)
		w.serving("c3", "c3") // what served is repaired
	})
}

// TestTaskIsNotBlamedForTheEngine: an engine that does not answer says nothing of the task.
func TestTaskIsNotBlamedForTheEngine(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fresh()
		w.engine.fault(func(e *memEngine) { e.inspectErr = map[string]error{"c2": component.ErrEngineUnreachable} })
		w.engine.exit("c2", true)
		w.after(10 * time.Second)
		if r := w.rollout(); r.Status != component.RolloutProgressing || r.Prepared != nil {
			t.Errorf("rollout = %+v, want that it waits", r)
		}
		w.engine.fault(func(e *memEngine) { e.inspectErr = nil })
		w.after(time.Minute)
		if r := w.rollout(); r.Status != component.RolloutDone || r.Prepared == nil {
			t.Errorf("rollout = %+v, want done", r)
		}
	})
}

func TestTaskThatCannotStartFails(t *testing.T) {
	inWorld(t, func(w *world) {
		w.engine.startErr["v2"] = errors.New("no such program")
		w.fresh()
		w.after(5 * time.Second)
		w.serving("c1", "c1")
		if r := w.rollout(); r.Status != component.RolloutHalted || r.Kind != component.PreDeployFail || !strings.Contains(r.Reason, "no such program") {
			t.Errorf("rollout = %+v, want halted by the task", r)
		}
	})
}

// A daemon that comes back finds the task where it left it, whatever came of it meanwhile.
func TestRestartAdoptsTheTask(t *testing.T) {
	tests := []struct {
		name string
		ends func(w *world)
		want component.RolloutStatus
		runs int // containers of v2
	}{
		{"ended with the engine", func(w *world) {
			w.restartEngine(time.Second)
			w.after(20 * time.Second)
			w.engine.exit("c4", true)
			w.after(20 * time.Second)
		}, component.RolloutDone, 3},
		{"running", func(w *world) { w.restart(); w.after(time.Second); w.engine.exit("c2", true) }, component.RolloutDone, 2},
		{"running, and etcd does not answer at first", func(w *world) {
			w.stop()
			w.store.fault(func(s *memStore) { s.silent = true })
			record := w.store.view("web").Rollout
			w.store.view("web").Rollout = component.Rollout{} // nor is it known how the rollout stood
			w.engine.fault(func(e *memEngine) { e.containers[1].Attempt, record.Attempt = 1, 1 })
			w.start()
			w.after(10 * time.Second)
			w.store.fault(func(s *memStore) { s.silent, s.view("web").Rollout = false, record })
			w.after(time.Second)
			w.engine.exit("c2", true)
		}, component.RolloutDone, 2},
		{"succeeded", func(w *world) { w.stop(); w.engine.exit("c2", true); w.start() }, component.RolloutDone, 2},
		{"failed", func(w *world) { w.stop(); w.engine.exit("c2", false); w.start() }, component.RolloutHalted, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.fresh()
				tt.ends(w)
				w.after(5 * time.Second)
				if r := w.rollout(); r.Status != tt.want {
					t.Errorf("rollout = %+v, want %s", r, tt.want)
				}
				if n := w.engine.count("start v2"); n != tt.runs {
					t.Errorf("%d containers of v2 were started, want %d", n, tt.runs)
				}
				if n := w.engine.total(); n != 1 {
					t.Errorf("%d containers are left, want the one that serves", n)
				}
			})
		})
	}
}

func TestTaskThatIsNotWantedEnds(t *testing.T) {
	tests := []struct {
		name string
		say  func(w *world)
		want []string
	}{
		{"stop", func(w *world) { w.end(component.StatusStopped) }, nil},
		{"kill", func(w *world) { w.end(component.StatusKilled) }, nil},
		{"another update", func(w *world) { w.update("v1", web()) }, []string{"c1"}},
		{"abort", func(w *world) {
			v := w.store.View("web")
			r := v.Record()
			r.Status, r.Kind, r.Reason = component.RolloutHalted, component.Aborted, "aborted"
			if err := w.store.PutRollout(t.Context(), "web", r, v); err != nil {
				t.Error(err)
			}
		}, []string{"c1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.fresh()
				tt.say(w)
				w.after(5 * time.Second)
				if n := w.engine.total(); n != len(tt.want) {
					t.Errorf("%d containers are left, want %v", n, tt.want)
				}
				if v := w.store.View("web"); v.Turn.State == component.TurnMine {
					t.Error("the turn was not given back")
				}
				if f := w.published().Failure; f != nil {
					t.Errorf("counts as a failure: %+v", f)
				}
			})
		})
	}
}

// The host holds its turn until the task it ends has ended: nobody is to run one beside it.
func TestTurnLastsAsLongAsTheTask(t *testing.T) {
	inWorld(t, func(w *world) {
		w.fresh()
		w.engine.fault(func(e *memEngine) { e.stubborn = true })
		w.update("v1", web())
		w.after(5 * time.Second)
		w.serving("c1", "c1", "c2")
		if v := w.store.View("web"); v.Turn.State != component.TurnMine {
			t.Error("the turn is free while the task runs")
		}
		w.after(10 * time.Second)
		w.serving("c1", "c1")
		if v := w.store.View("web"); v.Turn.State == component.TurnMine {
			t.Error("the turn was not given back")
		}
	})
}

// Where hosts do not wait for one that is lost, another may run the task by now.
func TestTaskEndsWithTheTurn(t *testing.T) {
	for _, waits := range []bool{true, false} {
		inWorld(t, func(w *world) {
			spec := prepares()
			if !waits {
				spec.Rollout.OnHostLost = component.OnLostContinue
			}
			w.update("v1", web())
			w.after(3 * time.Second)
			w.update("v2", spec)
			w.after(time.Second)
			w.store.fault(func(s *memStore) {
				s.silent = true
				v := s.view("web")
				v.Turn, v.Changing = component.Turn{}, map[string]int64{"h1": 1}
			})
			w.after(5 * time.Second)
			if waits {
				w.serving("c1", "c1", "c2")
				return
			}
			w.serving("c1", "c1")
			w.store.fault(func(s *memStore) { s.silent = false })
			w.after(time.Second)
			w.serving("c1", "c1", "c3") // it counts for nothing: the task runs again
		})
	}
}
