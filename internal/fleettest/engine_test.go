package fleettest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// That its containers ended with it is no failure of a release: the turn goes on with new ones.
func TestEngineThatRestartsInTheMiddleOfAnUpdate(t *testing.T) {
	for name, end := range map[string]func(testing.TB, *fleettest.Engine){
		"stopped": func(t testing.TB, e *fleettest.Engine) { e.Stop(t) },
		"killed":  func(t testing.TB, e *fleettest.Engine) { e.Kill(t) },
	} {
		t.Run(name, func(t *testing.T) { restartInTheMiddle(t, end) })
	}
}

func restartInTheMiddle(t *testing.T, end func(testing.TB, *fleettest.Engine)) {
	e := fleettest.StartEngine(t, fleettest.EngineOptions{})
	f := fleettest.New(t, fleettest.On(e))
	d := f.Daemon(t, "h1")
	d.Start(t)
	f.Configure(t, f.Web())
	f.Release(t, "web", version("v1"))
	f.Update(t, "web")

	// Without live-restore its containers end with it: nothing can serve, and requests are held.
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 2, KeepAlive: 2})
	slow := version("v2")
	slow.Env = []string{"READY_AFTER=5s"}
	image := f.Release(t, "web", slow)
	f.Must(t, "update", f.Project, "-c", "web")
	fleettest.Await(t, fleettest.Soon, "the new container starts", func() error {
		if n := len(f.Running(t, "h1", "web")); n != 2 {
			return fmt.Errorf("%d containers run", n)
		}
		return nil
	})
	end(t, e)
	fleettest.Pass(t, time.Second)
	starts := time.Now()
	e.Start(t)
	back := time.Now()
	fleettest.Await(t, fleettest.Soon, "requests are answered again", func() error {
		before := load.Tally()
		fleettest.Pass(t, 100*time.Millisecond)
		if after := load.Tally(); after.Total() == before.Total() || len(after.Failures) > len(before.Failures) {
			return fmt.Errorf("%v", after)
		}
		return nil
	})
	recovered := time.Since(back)
	t.Logf("answered again %v after the Engine", recovered.Round(10*time.Millisecond))
	if own := back.Sub(starts); recovered > max(10*time.Second, 5*own) { // on a busy machine both take longer
		t.Errorf("requests were answered only %v after the Engine, which took %v to start", recovered, own)
	}
	cut := load.Stop()
	t.Log(cut)
	if n := len(cut.Failures); n > 4 { // each client may lose the request that was under way
		t.Errorf("%d requests failed, first %v; want at most one of each client", n, cut.Failures[0])
	}

	fleettest.Await(t, fleettest.Finally, "the rollout ends", func() error {
		c := f.State(t).Components["web"]
		if r := c.Rollout; r.Generation != c.Desired.Generation || r.Status == component.RolloutProgressing {
			return fmt.Errorf("it is %+v", r)
		}
		return nil
	})
	if c := f.State(t).Components["web"]; c.Rollout.Status != component.RolloutDone {
		t.Fatalf("rollout = %+v, want it done", c.Rollout)
	}
	if st := f.State(t).Components["web"].Hosts["h1"]; st.Failure != nil {
		t.Errorf("h1 tells a failure: %+v", st.Failure)
	}
	answeredBy(t, d.URL(f.Port, "/"), "v2")
	fleettest.Await(t, fleettest.Soon, "one container runs", func() error {
		if cs := f.Running(t, "h1", "web"); len(cs) != 1 || cs[0].ImageID != image {
			return fmt.Errorf("%d run", len(cs))
		}
		return nil
	})
}

func TestEngineWithLiveRestoreRestartsUnnoticed(t *testing.T) {
	e := fleettest.StartEngine(t, fleettest.EngineOptions{LiveRestore: true})
	f := fleettest.New(t, fleettest.On(e))
	d := f.Daemon(t, "h1")
	d.Start(t)
	f.Configure(t, f.Web())
	f.Release(t, "web", version("v1"))
	f.Update(t, "web")
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 2, KeepAlive: 2, Streams: 2, StreamFor: 8 * time.Second})
	before := f.Containers(t, "h1", "web")
	for _, end := range []func(testing.TB){e.Stop, e.Kill} {
		end(t)
		fleettest.Pass(t, 2*time.Second)
		e.Start(t)
		if diff := cmp.Diff(before, f.Containers(t, "h1", "web")); diff != "" {
			t.Errorf("containers (-before +after):\n%s", diff)
		}
	}
	f.Release(t, "web", version("v2"))
	f.Update(t, "web")
	answeredBy(t, d.URL(f.Port, "/"), "v2")
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream)
}
