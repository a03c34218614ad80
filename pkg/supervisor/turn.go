package supervisor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// endTurn publishes what this host sees and gives the turn up, in one transaction. Nothing older is
// published after it.
func (s *Supervisor) endTurn(ctx context.Context, u *unit, st component.HostStatus, r *component.Rollout) error {
	u.publishing.Lock()
	defer u.publishing.Unlock()
	st.At = now()
	err := s.Store.EndTurn(ctx, u.name, st, r)
	if err == nil {
		u.mu.Lock()
		u.next = nil // whatever was to be published is older
		u.mu.Unlock()
		u.published = st
		s.Log.Info("turn ended", "component", u.name, "generation", st.Target, "step", st.Step)
	}
	return err
}

// discard keeps a broken container for inspection and counts a restart.
func (s *Supervisor) discard(ctx context.Context, st step) (time.Time, error) {
	f := s.failure(ctx, st, component.UpdateFail)
	f.Generation = st.u.generationOf(f.Container)
	s.rememberOrNote(st.u, func(rec *component.Record) {
		rec.Failure = &f
		rec.Restarts = rec.Restarts.Add(now())
		spoil(rec, st, f.Reason)
	})
	s.report(st.u, component.EventCrashed, f.Container, "Component "+st.u.name+" is not healthy. Restarting...", f.Reason)
	s.Log.Warn("container discarded", "component", st.u.name, "container", component.Short(f.Container), "reason", f.Reason)
	return again()
}

// spoil marks the step's container as failed.
func spoil(rec *component.Record, st step, reason string) {
	c, ok := rec.Containers[st.act.Container]
	if !ok {
		return
	}
	c.Failed = reason
	if !running(st.have, st.act.Container) {
		c.Stage, c.StageSince = component.Stopped, now()
		if rec.Primary == st.act.Container {
			rec.Primary = ""
		}
	}
	rec.Containers[st.act.Container] = c
}

func running(have component.Observed, id string) bool {
	for _, c := range have.Containers {
		if c.ID == id {
			return c.Running
		}
	}
	return false
}

// serving reports whether the container serves.
func serving(have component.Observed, id string) bool {
	return slices.ContainsFunc(have.Containers, func(c component.Container) bool { return c.ID == id && c.Stage == component.Serving })
}

// late reports whether the container failed by not getting ready in time.
func late(have component.Observed, id string) bool {
	return slices.ContainsFunc(have.Containers, func(c component.Container) bool {
		return c.ID == id && c.Running && c.Stage == component.Starting
	})
}

// fail halts the rollout: this host could not bring the release up, so nobody else tries.
func (s *Supervisor) fail(ctx context.Context, st step) (time.Time, error) {
	f := s.failure(ctx, st, st.act.Kind)
	if p := st.have.Failure; p != nil && p.Generation == f.Generation && p.Attempt == f.Attempt {
		f = *p // it failed before, and could not tell
	}
	if late(st.have, st.act.Container) {
		s.report(st.u, component.EventReadyTimeout, st.act.Container, "Timed out waiting for health checks. Stopping container...", f.Reason)
	}
	r := component.Rollout{
		Generation: st.want.Generation, Status: component.RolloutHalted, Kind: f.Kind, Host: s.Host,
		Reason: summary(s.Host, f), Log: f.Log[max(0, len(f.Log)-keepLogHistory):], At: f.At, Attempt: f.Attempt,
	}
	err := s.remember(st.u, func(rec *component.Record) {
		rec.Failure = &f
		spoil(rec, st, f.Reason)
	})
	if err != nil {
		return time.Time{}, err
	}
	st.u.startErr = startError{}
	st.status.Failure, st.status.Step, st.status.Detail = &f, component.StepFailed, f.Reason
	if st.turn.State == component.TurnMine {
		err = s.endTurn(ctx, st.u, st.status, &r)
	} else {
		var news bool
		if r, news = st.view.Rollout.After(r, st.want.Spec.Rollout.MaxFailures); news {
			err = s.Store.PutRollout(ctx, st.u.name, r, st.view)
		}
	}
	if err != nil && !errors.Is(err, component.ErrTurnLost) {
		return time.Time{}, err
	}
	s.report(st.u, component.EventFailed, f.Container, failText(st, f), f.Reason)
	s.Log.Error("update failed", "component", st.u.name, "generation", st.want.Generation, "kind", string(f.Kind), "reason", f.Reason)
	return again()
}

func failText(st step, f component.Failure) string {
	if f.Kind == component.PullFail {
		return "Pull failed of image " + component.Short(st.want.ImageID) + " for component " + st.u.name
	}
	return "Could not update component " + st.u.name
}

// failure gathers why a container failed, with its last words.
func (s *Supervisor) failure(ctx context.Context, st step, kind component.FailureKind) component.Failure {
	f := component.Failure{
		Generation: st.want.Generation, Attempt: st.view.Record().Attempt, Kind: kind, Reason: st.act.Reason,
		Container: st.act.Container, At: now(),
	}
	if f.Container == "" {
		return f
	}
	if !running(st.have, f.Container) && !st.act.Task {
		if why, err := s.Engine.ExitReason(ctx, f.Container); err == nil && why != "" {
			f.Reason = "container ended: " + why
		}
	}
	if lines, err := s.Engine.Logs(ctx, f.Container, keepLogLines); err == nil {
		f.Log = lines
	}
	return f
}

// summary is a failure in the rollout record: who, why and the container's last words.
func summary(host string, f component.Failure) string {
	text := "host " + host + ": " + f.Reason
	if n := len(f.Log); n > 0 {
		text += "; last log lines: " + strings.Join(f.Log[max(0, n-3):], " | ")
	}
	return text
}

// finish ends the turn: the new release has served and stayed healthy.
func (s *Supervisor) finish(ctx context.Context, st step) (time.Time, error) {
	err := s.remember(st.u, func(rec *component.Record) {
		r := st.want.Release()
		rec.Proven, rec.Served, rec.Failure = &r, true, nil
	})
	if err != nil {
		return time.Time{}, err
	}
	st.status.Generation, st.status.Hash = st.want.Generation, st.want.Release().Hash()
	st.status.Step, st.status.Detail, st.status.Failure = component.StepServing, "", nil
	if err := s.endTurn(ctx, st.u, st.status, nil); err != nil {
		return time.Time{}, err
	}
	s.report(st.u, component.EventDone, st.act.Container, "Update completed for component "+st.u.name, "")
	return again()
}
