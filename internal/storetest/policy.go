package storetest

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

// readyWith is ready with a rollout policy.
func (s *suite) readyWith(t *testing.T, imageID string, p component.RolloutPolicy) int64 {
	t.Helper()
	d := ready(imageID)
	d.Spec.Rollout = p
	g := s.set(t, "web", d)
	for _, r := range s.hosts {
		r.awaitGeneration(t, "web", g)
	}
	return g
}

func testCanary(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.readyWith(t, "sha256:aa", component.RolloutPolicy{Canary: 1})
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	wantEqual(t, "Rollout.Canaries", r.View("web").Rollout.Canaries, []string{r.name})
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, g), nil))
	wantNil(t, "TakeTurn again", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	wantEqual(t, "Rollout.Canaries", r.View("web").Rollout.Canaries, []string{r.name})
}

func testRepairTurn(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.readyWith(t, "sha256:aa", component.RolloutPolicy{Canary: 1})
	at := r.View("web")
	at.Turn.Repair = true
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, at))
	v := r.View("web")
	wantEqual(t, "Turn.State", v.Turn.State, component.TurnMine)
	wantEqual(t, "Turn.Repair", v.Turn.Repair, true)
	wantEqual(t, "RolloutRevision", v.RolloutRevision, int64(0))
	wantEqual(t, "Changing", len(v.Changing), 0)
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, 0), nil))
	wantNil(t, "TakeTurn for an update", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	wantEqual(t, "Turn.Repair", r.View("web").Turn.Repair, false)
	wantEqual(t, "Rollout.Generation", r.View("web").Rollout.Generation, g)
}

func testPassedOver(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.readyWith(t, "sha256:aa", component.RolloutPolicy{MaxFailures: 1})
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	failed := record(g, component.RolloutHalted)
	failed.Host, failed.Reason = r.name, "not ready"
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, 0), failed))
	v := r.View("web")
	wantEqual(t, "Rollout.Status", v.Rollout.Status, component.RolloutProgressing)
	wantEqual(t, "Rollout.Failed", v.Rollout.Failed, []string{r.name})
	wantNil(t, "TakeTurn again", r.TakeTurn(t.Context(), "web", 1, v))
	other := record(g, component.RolloutHalted)
	other.Host = "another"
	wantNil(t, "EndTurn of a second failure", r.EndTurn(t.Context(), "web", serving(r.name, 0), other))
	wantEqual(t, "Rollout.Status", r.View("web").Rollout.Status, component.RolloutHalted)
}

func testEarlierTry(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	second := record(g, component.RolloutProgressing)
	second.Attempt = 1
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *second, r.View("web")))
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, 0), record(g, component.RolloutHalted)))
	wantEqual(t, "Rollout", r.View("web").Rollout, *second)
}

func testRollback(t *testing.T, s *suite) {
	r := s.hosts[0]
	good := s.ready(t, "web", "sha256:aa")
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(good, component.RolloutDone), r.View("web")))
	bad := s.ready(t, "web", "sha256:bb")
	before := r.View("web")
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(bad, component.RolloutHalted), before))
	by := component.Desired{By: "gantryd@h", Operation: "rollback", Automatic: true, Reason: "not ready"}
	wantErr(t, "Rollback on an old view", r.Rollback(t.Context(), "web", by, before), component.ErrChanged)
	wantNil(t, "Rollback", r.Rollback(t.Context(), "web", by, r.View("web")))
	v := r.awaitGeneration(t, "web", bad+1)
	d := v.Desired
	wantEqual(t, "Desired.ImageID", d.ImageID, "sha256:aa")
	wantEqual(t, "Desired.Source", d.Source, good)
	wantEqual(t, "Desired.Reason", d.Reason, "not ready")
	wantEqual(t, "Desired.Automatic", d.Automatic, true)
	wantEqual(t, "Desired.Spec", d.Spec, ready("").Spec)
}

// A rollback brings image and containers back, and not settings that setconfig changed since; what came with
// a config that needs other containers belongs to that release.
func testRollbackKeepsSettings(t *testing.T, s *suite) {
	r := s.hosts[0]
	was := *ready("").Spec
	was.Drain.Timeout = component.Duration(time.Minute)
	d := ready("sha256:aa")
	d.Spec = &was
	good := s.set(t, "web", d)
	r.awaitGeneration(t, "web", good)
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(good, component.RolloutDone), r.View("web")))
	back := func(config component.Spec) component.Desired {
		t.Helper()
		s.put(t, config)
		r.await(t, "config", func() bool { return cmp.Equal(r.View("web").Config, &config) })
		bad := s.set(t, "web", component.Desired{Status: component.StatusReady, ImageID: "sha256:bb", Spec: &config})
		r.awaitGeneration(t, "web", bad)
		wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(bad, component.RolloutHalted), r.View("web")))
		by := component.Desired{Operation: "rollback of " + strconv.FormatInt(bad, 10)}
		wantNil(t, "Rollback", r.Rollback(t.Context(), "web", by, r.View("web")))
		return r.awaitGeneration(t, "web", bad+1).Desired
	}
	steered := was
	steered.Drain.Timeout, steered.Hold.Max = component.Duration(time.Hour), 7
	got := back(steered)
	wantEqual(t, "Desired.ImageID", got.ImageID, "sha256:aa")
	wantEqual(t, "Desired.Spec with the settings since", got.Spec, &steered)
	other := steered
	other.User, other.Drain.Timeout = "nobody", component.Duration(time.Second)
	got = back(other)
	wantEqual(t, "Desired.ImageID", got.ImageID, "sha256:aa")
	wantEqual(t, "Desired.Spec of another container", got.Spec, &was)
}

func testRollbackNowhere(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(g, component.RolloutHalted), r.View("web")))
	wantErr(t, "Rollback", r.Rollback(t.Context(), "web", component.Desired{Operation: "rollback"}, r.View("web")), component.ErrNoRelease)
	wantEqual(t, "Desired.Generation", r.View("web").Desired.Generation, g)
}

func testTaskTurn(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.readyWith(t, "sha256:cc", component.RolloutPolicy{Canary: 1})
	at := r.View("web")
	at.Turn.Task = true
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, at))
	v := r.View("web")
	wantEqual(t, "Turn.Task", v.Turn.Task, true)
	wantEqual(t, "Turn.Tasker", v.Turn.Tasker, r.name)
	wantEqual(t, "Rollout.Canaries", len(v.Rollout.Canaries), 0)
	paused := v.Rollout
	paused.Paused = &component.Word{By: "ann"}
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", paused, v))
	done := record(g, component.RolloutProgressing)
	done.Prepared = &component.Preparation{Host: r.name}
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, 0), done))
	v = r.View("web")
	wantEqual(t, "Rollout.Prepared", v.Rollout.Prepared, done.Prepared)
	wantEqual(t, "Rollout.Paused", v.Rollout.Paused, paused.Paused)
	wantEqual(t, "Turn.Tasker", v.Turn.Tasker, "")
}

func testPrepared(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	done := record(g, component.RolloutProgressing)
	done.Prepared = &component.Preparation{Host: r.name}
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *done, r.View("web")))
	for _, d := range []component.Desired{ready("sha256:aa"), {Status: component.StatusStopped}, ready("sha256:aa")} {
		v := r.awaitGeneration(t, "web", s.set(t, "web", d))
		wantEqual(t, "Desired.Prepared", v.Desired.Prepared, true)
	}
	v := r.awaitGeneration(t, "web", s.set(t, "web", ready("sha256:bb")))
	wantEqual(t, "Desired.Prepared of another release", v.Desired.Prepared, false)
}

func testTasker(t *testing.T, s *suite) {
	a, b := s.hosts[0], s.hosts[1]
	s.ready(t, "web", "sha256:aa")
	at := a.View("web")
	at.Turn.Task = true
	wantNil(t, "TakeTurn", a.TakeTurn(t.Context(), "web", 1, at))
	b.await(t, "the other host's turn", func() bool { return b.View("web").Turn.Tasker == a.name })
	at = b.View("web")
	at.Turn.Task = true
	wantErr(t, "TakeTurn beside it", b.TakeTurn(t.Context(), "web", 1, at), component.ErrTurnTaken)
}
