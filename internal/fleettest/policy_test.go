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

// pastOf is the history of web, the newest first.
func pastOf(t *testing.T, f *fleettest.Fleet) []struct {
	Generation int64
	Outcome    component.Outcome
	Source     int64
	By, Reason string
	Rollout    component.Rollout
} {
	t.Helper()
	var h struct {
		Items []struct {
			Generation int64
			Outcome    component.Outcome
			Source     int64
			By, Reason string
			Rollout    component.Rollout
		}
	}
	if err := json.Unmarshal([]byte(f.Must(t, "history", f.Project, "-c", "web", "-o", "json").Out), &h); err != nil {
		t.Fatal(err)
	}
	return h.Items
}

// A release that fails is taken back by itself, once, and costs no request. The history says why, with
// the container's last words.
func TestFailedReleaseGoesBackByItself(t *testing.T) {
	t.Parallel()
	f, ds := three(t, func(s *component.Spec) {
		s.ReadyTimeout = 10_000 // good ones too have to be ready in time
		s.Rollout.OnFailure = component.OnFailureRollback
	})
	var loads []*fleettest.Load
	for _, d := range ds {
		loads = append(loads, fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 1, KeepAlive: 1}))
	}
	good := f.State(t).Components["web"].Desired.Generation
	bad := version("bad")
	bad.Env = []string{"NEVER_READY=1", "PRINT=looking for my key"}
	f.Release(t, "web", bad)
	r := f.Gantryd(t, "update", f.Project, "-c", "web", "--wait", "--timeout", "3m")
	t.Log(r)
	if r.Code != 1 || !strings.Contains(r.Err, "failed and was rolled back: host h") || !strings.Contains(r.Out, fmt.Sprintf("rolled back to generation %d", good)) {
		t.Errorf("update --wait = %v", r)
	}
	for i, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v1")
		loads[i].Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive)
	}
	past := pastOf(t, f)
	now, failed := past[0], past[1]
	if now.Outcome != component.OutcomeDone || now.Source != good || !strings.HasPrefix(now.By, "gantryd@h") {
		t.Errorf("what is asked for now = %+v", now)
	}
	if failed.Outcome != component.OutcomeRolledBack || !strings.Contains(failed.Rollout.Reason, ":8080/ready: ") ||
		!strings.Contains(strings.Join(failed.Rollout.Log, "\n"), "looking for my key") {
		t.Errorf("what failed = %+v", failed)
	}
	if n := len(past); n != 3 {
		t.Errorf("%d entries in the history, want 3: the rollback is written once", n)
	}
}

func TestAbortedRolloutGoesBackOnHostsThatHadTheirTurn(t *testing.T) {
	t.Parallel()
	f, ds := three(t, func(s *component.Spec) {
		s.Rollout.OnFailure = component.OnFailureRollback
	})
	f.Release(t, "web", version("v2"))
	f.Must(t, "update", f.Project, "-c", "web", "--canary", "1")
	fleettest.Await(t, fleettest.Finally, "the canary serves", func() error { return standsAt(t, f, "the canaries serve: waits for promote") })
	f.Must(t, "abort", f.Project, "-c", "web", "--reason", "wrong logo")
	fleettest.Await(t, fleettest.Finally, "it is rolled back", func() error {
		if past := pastOf(t, f); past[0].Outcome != component.OutcomeDone || past[0].Source == 0 || !strings.Contains(past[0].Reason, "wrong logo") {
			return fmt.Errorf("newest entry = %+v", past[0])
		}
		return nil
	})
	for _, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v1")
	}
}

// standsAt returns an error unless list tells so of the rollout.
func standsAt(t *testing.T, f *fleettest.Fleet, text string) error {
	t.Helper()
	if out := f.Must(t, "list", f.Project, "-o", "json").Out; !strings.Contains(out, text) {
		return fmt.Errorf("list says %s", out)
	}
	return nil
}

func TestCanaryWaitsForPromotion(t *testing.T) {
	t.Parallel()
	f, ds := three(t)
	f.Release(t, "web", version("v2"))
	f.Must(t, "update", f.Project, "-c", "web", "--canary", "1")
	fleettest.Await(t, fleettest.Finally, "the canary serves", func() error { return standsAt(t, f, "the canaries serve: waits for promote") })
	v := f.State(t).Components["web"]
	if len(v.Rollout.Canaries) != 1 || len(v.Turn.Holders) != 0 {
		t.Errorf("canaries %v, turns %v", v.Rollout.Canaries, v.Turn.Holders)
	}
	fleettest.Pass(t, time.Second)
	for _, d := range ds {
		want := "v1"
		if d.Host == v.Rollout.Canaries[0] {
			want = "v2"
		}
		answeredBy(t, d.URL(f.Port, "/"), want)
	}
	if r := f.Gantryd(t, "promote", f.Project, "-c", "web", "--generation", "1"); r.Code != 4 {
		t.Errorf("promote of another generation: %v", r)
	}
	f.Must(t, "promote", f.Project, "-c", "web")
	fleettest.Await(t, fleettest.Finally, "the rollout is done", func() error { return doneWith(t, f) })
	for _, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v2")
	}

	// A rollback does not wait for anybody's word; and canaries may be promoted by time.
	f.Must(t, "rollback", f.Project, "-c", "web", "--wait", "--timeout", "3m")
	f.Must(t, "update", f.Project, "-c", "web", "--canary", "1", "--auto-promote", "1s", "--wait", "--timeout", "3m")
	if w := f.State(t).Components["web"].Rollout.Promoted; w == nil || w.By != "autoPromote" {
		t.Errorf("promoted: %+v", w)
	}
}

func doneWith(t *testing.T, f *fleettest.Fleet) error {
	t.Helper()
	v := f.State(t).Components["web"]
	if v.Rollout.Generation != v.Desired.Generation || v.Rollout.Status != component.RolloutDone {
		return fmt.Errorf("record is %+v, generation %d is wanted", v.Rollout, v.Desired.Generation)
	}
	return nil
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	f, ds := three(t)
	slow := version("v2")
	slow.Env = []string{"READY_AFTER=6s"} // the word comes in the first turn
	f.Release(t, "web", slow)
	f.Must(t, "update", f.Project, "-c", "web")
	fleettest.Await(t, fleettest.Soon, "a host has the turn", func() error {
		if len(f.State(t).Components["web"].Turn.Holders) == 0 {
			return fmt.Errorf("none has")
		}
		return nil
	})
	f.Must(t, "pause", f.Project, "-c", "web", "--reason", "lunch")
	if r := f.Gantryd(t, "pause", f.Project, "-c", "web"); r.Code != 4 || !strings.Contains(r.Err, "paused already") {
		t.Errorf("second pause: %v", r)
	}
	// The host in its turn ends it; the others do not begin.
	fleettest.Await(t, fleettest.Soon, "the turn ends", func() error {
		if hs := f.State(t).Components["web"].Turn.Holders; len(hs) > 0 {
			return fmt.Errorf("%v has it", hs)
		}
		return nil
	})
	fleettest.Pass(t, time.Second)
	done := 0
	for _, st := range f.State(t).Components["web"].Hosts {
		if st.Generation == f.State(t).Components["web"].Desired.Generation {
			done++
		} else if !strings.HasPrefix(st.Detail, "paused by ") {
			t.Errorf("host %s: %s %s", st.Host, st.Step, st.Detail)
		}
	}
	if done != 1 {
		t.Errorf("%d hosts changed, want 1", done)
	}
	if err := standsAt(t, f, "paused by "); err != nil {
		t.Error(err)
	}
	f.Must(t, "resume", f.Project, "-c", "web")
	fleettest.Await(t, fleettest.Finally, "the rollout is done", func() error { return doneWith(t, f) })
	for _, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v2")
	}
}

// killHolder starts a slow rollout and kills the first host in its turn.
func killHolder(t *testing.T, f *fleettest.Fleet, ds []*fleettest.Daemon, args ...string) (holder *fleettest.Daemon) {
	t.Helper()
	slow := version("v2")
	slow.Env = []string{"READY_AFTER=6s"}
	f.Release(t, "web", slow)
	f.Must(t, append([]string{"update", f.Project, "-c", "web"}, args...)...)
	fleettest.Await(t, fleettest.Soon, "a host has the turn", func() error {
		for _, d := range ds {
			if hs := f.State(t).Components["web"].Turn.Holders; len(hs) > 0 && hs[0] == d.Host {
				holder = d
				return nil
			}
		}
		return fmt.Errorf("none has")
	})
	holder.Kill(t)
	return holder
}

// awaitLost waits until the others say that they wait for the host, and makes sure that they do.
func awaitLost(t *testing.T, f *fleettest.Fleet, ds []*fleettest.Daemon, holder *fleettest.Daemon) {
	t.Helper()
	fleettest.Await(t, fleettest.Finally, "the others wait", func() error { return standsAt(t, f, "host "+holder.Host+" was lost in its turn") })
	fleettest.Pass(t, time.Second)
	v := f.State(t).Components["web"]
	for _, d := range ds {
		if d != holder && v.Hosts[d.Host].Generation == v.Desired.Generation {
			t.Errorf("host %s went on although %s was lost", d.Host, holder.Host)
		}
	}
}

func TestRolloutWaitsForAHostThatDiedInItsTurn(t *testing.T) {
	t.Parallel()
	t.Run("until it is back", func(t *testing.T) {
		t.Parallel()
		f, ds := three(t)
		holder := killHolder(t, f, ds)
		awaitLost(t, f, ds, holder)
		holder.Start(t)
		fleettest.Await(t, fleettest.Finally, "the rollout is done", func() error { return doneWith(t, f) })
		if v := f.State(t).Components["web"]; len(v.Changing) != 0 {
			t.Errorf("lost hosts: %v", v.Changing)
		}
	})
	t.Run("until it is forgotten", func(t *testing.T) {
		t.Parallel()
		f, ds := three(t)
		holder := killHolder(t, f, ds)
		awaitLost(t, f, ds, holder)
		if out := f.Must(t, "hosts", f.Project).Out; !strings.Contains(out, "lost") {
			t.Errorf("hosts:\n%s", out)
		}
		f.Must(t, "forget", f.Project, holder.Host)
		fleettest.Await(t, fleettest.Finally, "the rollout is done", func() error { return doneWith(t, f) })
	})
	t.Run("until the deadline", func(t *testing.T) {
		t.Parallel()
		f, ds := three(t, func(s *component.Spec) { s.ReadyTimeout = 15_000 }) // which the deadline has to exceed
		holder := killHolder(t, f, ds, "--progress-deadline", "20s")
		fleettest.Await(t, fleettest.Finally, "the rollout halts", func() error {
			r := f.State(t).Components["web"].Rollout
			if r.Status != component.RolloutHalted || !strings.Contains(r.Reason, "no progress for 20s: host "+holder.Host+" was lost in its turn") {
				return fmt.Errorf("record is %+v", r)
			}
			return nil
		})
		// What halted is tried again once the host is back.
		holder.Start(t)
		f.Must(t, "retry", f.Project, "-c", "web")
		fleettest.Await(t, fleettest.Finally, "the rollout is done", func() error { return doneWith(t, f) })
	})
}

// One host may fail: the rollout passes it over, and a retry brings it along.
func TestOneHostMayFail(t *testing.T) {
	t.Parallel()
	f, ds := three(t, func(s *component.Spec) {
		s.ReadyTimeout = 10_000
		s.Rollout.MaxFailures = 2
	})
	bad := version("bad")
	bad.Env = []string{"NEVER_READY=1"}
	f.Release(t, "web", bad)
	r := f.Gantryd(t, "update", f.Project, "-c", "web", "--wait", "--timeout", "3m")
	if r.Code != 1 || !strings.Contains(r.Err, "halted") {
		t.Errorf("update: %v", r)
	}
	v := f.State(t).Components["web"]
	if len(v.Rollout.Failed) != 2 {
		t.Errorf("record = %+v, want two hosts that were passed over before the third one halted it", v.Rollout)
	}
	for _, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v1")
	}
}

func TestPlanTellsWhatUpdateWouldDo(t *testing.T) {
	t.Parallel()
	f, _ := serving(t)
	if r := f.Gantryd(t, "plan", f.Project, "-c", "web"); r.Code != 0 || !strings.Contains(r.Out, "web: nothing to do") {
		t.Errorf("plan of nothing: %v", r)
	}
	f.Release(t, "web", version("v2"))
	before := f.State(t).Components["web"].Desired.Generation
	r := f.Gantryd(t, "plan", f.Project, "-c", "web", "--max-parallel", "50%")
	for _, want := range []string{fmt.Sprintf("web: update of generation %d", before), "- image: ", "+ image: ", "+ rollout.maxParallel: 50%", "hosts: h1 (1 at a time)", "image not in use yet on: h1"} {
		if r.Code != 10 || !strings.Contains(r.Out, want) {
			t.Errorf("plan without %q: %v", want, r)
		}
	}
	if after := f.State(t).Components["web"].Desired.Generation; after != before {
		t.Errorf("plan changed generation %d to %d", before, after)
	}
	if r := f.Gantryd(t, "update", f.Project, "-c", "web", "--if-revision", fmt.Sprint(before-1)); r.Code != 4 {
		t.Errorf("update of another revision: %v", r)
	}
	f.Must(t, "update", f.Project, "-c", "web", "--if-revision", fmt.Sprint(before), "--wait", "--timeout", "3m")
	if r := f.Gantryd(t, "plan", f.Project, "-c", "web"); r.Code != 0 {
		t.Errorf("plan after the update: %v", r)
	}
	if r := f.Gantryd(t, "plan", f.Project, "-c", "nope"); r.Code != 3 {
		t.Errorf("plan of an unknown component: %v", r)
	}
}
