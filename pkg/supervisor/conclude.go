package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// A mark is how something stood, and since when this process has seen it so.
type mark struct {
	text  string
	since time.Time
}

// at is for how long it has stood as text says.
func (m *mark) at(text string) time.Duration {
	if text != m.text || m.since.IsZero() {
		*m = mark{text, now()}
	}
	return now().Sub(m.since)
}

// conclude does what any host may do for the rollout as a whole: record that it is done, promote
// canaries, halt it when it comes no further, bring the last good release back. It says when to look
// again. All writes depend on the state and the record being what was judged, so one host's counts.
func (s *Supervisor) conclude(ctx context.Context, u *unit, view component.View) (time.Time, error) {
	if ok, _ := s.Trusted(); !ok || view.DesiredErr != nil || view.Turn.State == component.TurnUnreachable {
		u.mark, u.hosts, u.refused = mark{}, mark{}, mark{}
		return time.Time{}, nil
	}
	if at, ok := rollout.Returned(view, s.Host); ok && u.atRest {
		if err := s.Store.Returned(ctx, u.name, at); err != nil {
			return time.Time{}, err
		}
	}
	if view.Partial { // those who see all hosts do the rest
		u.mark, u.hosts, u.refused = mark{}, mark{}, mark{}
		return time.Time{}, nil
	}
	if r, ok := u.weighed.Weigh(u.name, view, now()); ok {
		return time.Time{}, s.judged(ctx, u, r, view)
	}
	if rollout.GoesBack(view) {
		return s.goBack(ctx, u, view)
	}
	if name := view.Desired.Follows; name != "" {
		if r, ok := rollout.Follow(view, s.Store.View(name)); ok {
			return time.Time{}, s.judged(ctx, u, r, view)
		}
	}
	u.refused = mark{}
	waited := rollout.Waited{
		Mark:  u.mark.at(rollout.Mark(u.name, view)),
		Hosts: u.hosts.at(strings.Join(rollout.Awaits(u.name, view), " ")),
	}
	if r, ok := rollout.Judge(u.name, view, waited); ok {
		return time.Time{}, s.judged(ctx, u, r, view)
	}
	next := u.weighed.Next()
	if due := rollout.Due(u.name, view, waited); due > 0 {
		next = sooner(next, now().Add(due))
	}
	return next, nil
}

// judged writes the record r in place of the one in view, and tells what is new about it.
func (s *Supervisor) judged(ctx context.Context, u *unit, r component.Rollout, view component.View) error {
	r.At = now()
	if r.Promoted != nil && r.Promoted.At.IsZero() {
		r.Promoted.At = r.At
	}
	if err := s.Store.PutRollout(ctx, u.name, r, view); err != nil {
		return err
	}
	switch r.Status {
	case component.RolloutHalted:
		s.report(u, component.EventFailed, "", "Rollout of component "+u.name+" halted", r.Reason)
		s.Log.Error("rollout halted", "component", u.name, "generation", r.Generation, "reason", r.Reason)
	case component.RolloutDone:
		s.Log.Info("rollout done", "component", u.name, "generation", r.Generation)
	case component.RolloutProgressing:
		if r.Promoted == nil {
			s.Log.Info("rollout begins", "component", u.name, "generation", r.Generation)
			return nil
		}
		s.Log.Info("canaries promoted", "component", u.name, "generation", r.Generation)
	}
	return nil
}

// goBack writes the operator's word that the policy stands for. When there is nothing to go back to, or the
// store refuses the word for a minute, the record says so from then on. It says when to try again.
func (s *Supervisor) goBack(ctx context.Context, u *unit, view component.View) (time.Time, error) {
	operation := fmt.Sprintf("rollback-of-%d-%d", view.Rollout.Generation, view.Rollout.Attempt)
	d := component.Desired{By: "gantryd@" + s.Host, At: now(), Automatic: true, Reason: view.Rollout.Reason, Operation: operation}
	if len(view.Desired.Together) > 0 {
		d.Reason = u.name + ": " + d.Reason
	}
	err := s.Store.Rollback(ctx, u.name, d, view)
	switch {
	case errors.Is(err, component.ErrNoRelease):
		return time.Time{}, s.stay(ctx, u, view, err, "there is no past release to go back to")
	case errors.Is(err, component.ErrChanged), errors.Is(err, component.ErrUnreachable), errors.Is(err, context.Canceled):
		return time.Time{}, err
	case err != nil: // such as a user that may not write states; another host's may
		if u.refused.text != operation {
			s.Log.Warn("roll back", "component", u.name, "generation", view.Rollout.Generation, "err", err)
		}
		if u.refused.at(operation) >= rollout.TryBackFor {
			return time.Time{}, s.stay(ctx, u, view, err, "it could not be rolled back: "+err.Error())
		}
		return now().Add(tryBackEvery), err
	}
	s.report(u, component.EventFailed, "", "Component "+u.name+" is rolled back", view.Rollout.Reason)
	s.Log.Warn("rolled back", "component", u.name, "generation", view.Rollout.Generation, "reason", view.Rollout.Reason)
	return time.Time{}, nil
}

// tryBackEvery is the pause after a rollback that the store refused.
const tryBackEvery = 10 * time.Second

// stay writes that what halted is not rolled back, and why.
func (s *Supervisor) stay(ctx context.Context, u *unit, view component.View, err error, why string) error {
	if err := s.Store.PutRollout(ctx, u.name, rollout.Stays(view, why), view); err != nil {
		return err
	}
	s.report(u, component.EventFailed, "", "Component "+u.name+" cannot be rolled back", err.Error())
	s.Log.Error("no rollback", "component", u.name, "generation", view.Rollout.Generation, "err", err)
	return nil
}

// heard takes in that an operator gave the wanted generation a new try: what was counted against it is
// forgotten.
func (s *Supervisor) heard(u *unit, r component.Rollout) {
	rec := u.record()
	if r.Generation != rec.Generation || r.Attempt <= rec.Attempt {
		return
	}
	s.note(u, func(rec *component.Record) { rec.Attempt, rec.Restarts = r.Attempt, component.Restarts{} })
	u.startErr = startError{}
	s.retryPull(rec.Accepted.ImageID)
}

// atRest reports whether the host serves what it is to serve, or nothing as it should, and changes nothing
// now.
func atRest(have component.Observed, turn component.Turn, act component.Action) bool {
	return turn.State == component.TurnWaiting && act.Verb <= component.AwaitTurn && len(have.Tasks) == 0 && (have.Primary != "" || !have.Served)
}

// sooner is the earlier of two times, of which zero stands for never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
