package supervisor_test

import (
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// A daemon that starts after the clock was set back by an hour waits no hour more for the end of a bake, or a drain.
func TestClockSetBackWhileNoDaemonRan(t *testing.T) {
	inWorld(t, func(w *world) {
		spec := web()
		spec.Drain.Timeout = component.Duration(10 * time.Second)
		w.update("v1", spec)
		w.after(3 * time.Second)
		w.router.setConns("c1", 1) // somebody stays
		w.update("v2", spec)
		w.after(500 * time.Millisecond) // in the bake of v2
		w.stop()
		for id, c := range w.memory.recs.Components["web"].Containers {
			c.StageSince = c.StageSince.Add(time.Hour)
			w.memory.recs.Components["web"].Containers[id] = c
		}
		w.start()
		w.after(3 * time.Second)
		if got := w.rollout().Status; got != component.RolloutDone {
			t.Errorf("rollout is %s 3 s after the start, want it done", got)
		}
		w.stop()
		for id, c := range w.memory.recs.Components["web"].Containers {
			if c.DrainingSince.IsZero() {
				continue
			}
			c.DrainingSince = c.DrainingSince.Add(time.Hour)
			w.memory.recs.Components["web"].Containers[id] = c
		}
		w.start()
		w.after(15 * time.Second)
		w.serving("c2", "c2")
	})
}
