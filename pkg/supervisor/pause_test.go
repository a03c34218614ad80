package supervisor_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestPauseBeginsNothingUntilResume(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		if err := w.sup.Pause(w.t.Context()); err != nil {
			t.Fatalf("Pause of a host at rest = %v", err)
		}
		w.update("v2", web())
		w.after(time.Minute)
		w.serving("c1", "c1")
		w.sup.Resume()
		w.after(10 * time.Second)
		w.serving("c2", "c2")
	})
}

// TestPauseWaitsForAStop: a container that is being stopped is waited for, or nothing is paused.
func TestPauseWaitsForAStop(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.engine.fault(func(e *memEngine) { e.stubborn = true })
		w.end(component.StatusStopped)
		w.after(time.Second)
		short, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		if err := w.sup.Pause(short); err == nil || !strings.Contains(err.Error(), `stop of component "web"`) {
			t.Errorf("Pause during a stop = %v, want it to say so", err)
		}
		long, cancel := context.WithTimeout(w.t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		if err := w.sup.Pause(long); err != nil {
			t.Errorf("Pause = %v", err)
		}
		if took := time.Since(begin); took < 5*time.Second {
			t.Errorf("Pause returned after %v, before the container had stopped", took)
		}
		w.sup.Resume()
	})
}
