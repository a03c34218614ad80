package fleettest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// TestGuardGoesByWhatUsersSee rolls three components out at once, whose containers all pass their checks: one fails its
// users in its new release only, one did so before, and one is fine.
func TestGuardGoesByWhatUsersSee(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	var (
		ds    []*fleettest.Daemon
		loads []*fleettest.Load
	)
	for i := range 3 {
		d := f.Daemon(t, fmt.Sprintf("h%d", i+1))
		d.Start(t)
		ds = append(ds, d)
	}
	fine, fails := version("v1"), version("v1")
	fails.Env = []string{"UNHEALTHY_AFTER=1ns"} // what users ask for then answers 503
	names := []string{"worse", "both", "fine"}
	var specs []component.Spec
	for i, name := range names {
		s := f.Web()
		s.Name, s.Repo, s.Ports[0].External = name, f.Repo(name), f.Port+i
		s.Rollout.Guard = component.Guard{Errors: 100, Watch: component.Duration(10 * time.Second)}
		s.Rollout.OnFailure = component.OnFailureRollback
		if name == "worse" {
			s.Rollout.Canary = 1
		}
		specs = append(specs, s)
		was := fine
		if name == "both" {
			was = fails
		}
		f.Release(t, name, was)
	}
	f.Configure(t, specs...)
	f.Must(t, "update", f.Project, "-c", "both", "-c", "fine", "--wait", "--timeout", "60s")
	f.Must(t, "update", f.Project, "-c", "worse", "--wait", "--timeout", "60s", "--canary", "3")
	for _, d := range ds {
		for i := range names {
			load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port+i, "/healthz"), Short: 1, KeepAlive: 1, Think: 80 * time.Millisecond})
			loads = append(loads, load)
		}
	}
	fleettest.Await(t, fleettest.Finally, "there were users everywhere", func() error {
		for _, l := range loads {
			if n := l.Tally().Total(); n < 50 {
				return fmt.Errorf("only %d requests", n)
			}
		}
		return nil
	})
	good := f.State(t).Components["worse"].Desired.Generation

	fine.Version, fails.Version = "v2", "v2"
	worse := f.Release(t, "worse", fails)
	f.Release(t, "both", fails)
	f.Release(t, "fine", fine)
	f.Must(t, "update", f.Project, "-c", "worse", "-c", "both", "-c", "fine")
	fleettest.Await(t, fleettest.Finally, "all three rollouts end", func() error {
		for name, v := range f.State(t).Components {
			if r := v.Record(); r.Status != component.RolloutDone || name == "worse" && v.Desired.Source == 0 {
				return fmt.Errorf("%s: %+v", name, r)
			}
		}
		return nil
	})
	comps := f.State(t).Components
	for _, name := range []string{"both", "fine"} {
		if d := comps[name].Desired; d.Source != 0 {
			t.Errorf("%s was rolled back: %s", name, d.Reason)
		}
	}
	if d := comps["worse"].Desired; d.Source != good || !d.Automatic {
		t.Errorf("worse is %+v, want generation %d back", d, good)
	}
	wentBack(t, f, "worse")
	changed := map[string]bool{}
	for _, d := range ds {
		for _, c := range f.Containers(t, d.Host, "worse") {
			if c.ImageID == worse {
				changed[d.Host] = true
			}
		}
		fleettest.Await(t, fleettest.Finally, "users are well again on "+d.Host, func() error {
			return fleettest.PageAt(d.URL(f.Port, "/healthz"))(t.Context())
		})
	}
	if len(changed) > 1 {
		t.Errorf("more hosts than the canary started the release: %v", changed)
	}
}

// wentBack asserts that the history says what users saw of the release that was taken back.
func wentBack(t *testing.T, f *fleettest.Fleet, name string) {
	t.Helper()
	var h struct {
		Items []struct {
			Outcome component.Outcome
			Rollout component.Rollout
		}
	}
	if err := json.Unmarshal([]byte(f.Must(t, "history", f.Project, "-c", name, "-o", "json").Out), &h); err != nil {
		t.Fatal(err)
	}
	failed := h.Items[1]
	t.Log(failed.Rollout.Reason)
	if failed.Outcome != component.OutcomeRolledBack || failed.Rollout.Kind != component.GuardFail {
		t.Errorf("what failed = %+v", failed)
	}
	for _, want := range []string{"guard: of the new release 100.0% of ", " answered 5xx", "of the one before 0.0% of ", "at the same time; at most 1% more may"} {
		if !strings.Contains(failed.Rollout.Reason, want) {
			t.Errorf("reason %q, want %q in it", failed.Rollout.Reason, want)
		}
	}
	if out := f.Must(t, "why", f.Project, "-c", name).Out; !strings.Contains(out, "because: guard: of the new release") {
		t.Errorf("why says %s", out)
	}
}
