package supervisor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// split parts the containers of a component into those that serve, or may come to, and those of its
// pre-deploy tasks.
func split(all []component.EngineContainer, name string) (serving, tasks []component.EngineContainer) {
	for _, c := range all {
		switch {
		case c.Component != name:
		case c.Task:
			tasks = append(tasks, c)
		default:
			serving = append(serving, c)
		}
	}
	return serving, tasks
}

// taskStates joins what the engine and the record say of the containers of pre-deploy tasks, and forgets what
// is remembered of those that are gone.
func (s *Supervisor) taskStates(ctx context.Context, u *unit, cs []component.EngineContainer, busy map[string]bool) ([]component.Task, error) {
	rec := u.record()
	out := make([]component.Task, 0, len(cs))
	for _, c := range cs {
		t := component.Task{
			ID: c.ID, Generation: c.Release.Generation, Hash: c.Hash, Attempt: c.Attempt, Since: c.Created,
			Running: c.State == component.RunRunning, Begun: c.State != component.RunCreated && !c.WithEngine, // what the engine ended is no result
			End: rec.Tasks[c.ID], Busy: busy[c.ID],
		}
		if c.State == component.RunExited {
			var err error
			if t.Failed, err = s.taskEnd(ctx, u.name, c.ID); err != nil {
				return nil, err
			}
		}
		out = append(out, t)
	}
	gone := func(id string, _ string) bool {
		return !slices.ContainsFunc(cs, func(c component.EngineContainer) bool { return c.ID == id })
	}
	for id := range rec.Tasks {
		if gone(id, "") {
			s.note(u, func(r *component.Record) { r.Tasks = maps.Clone(r.Tasks); maps.DeleteFunc(r.Tasks, gone) })
			break
		}
	}
	return out, nil
}

// taskEnd says why the task container failed, nothing when it succeeded. One of which the engine cannot tell has
// failed: a migration that may not have been done does not count as done, and must not keep the component from being
// looked after.
func (s *Supervisor) taskEnd(ctx context.Context, name, id string) (failed string, err error) {
	ok, err := s.Engine.Succeeded(ctx, id)
	if err == nil && !ok {
		failed, err = s.Engine.ExitReason(ctx, id)
	}
	switch {
	case err == nil:
		return failed, nil
	case ctx.Err() != nil || errors.Is(err, component.ErrEngineUnreachable) || errors.Is(err, context.DeadlineExceeded):
		return "", err
	}
	s.Log.Warn("pre-deploy task counts as failed, its end is unknown", "component", name, "container", component.Short(id), "err", err)
	return "nobody knows how it ended: " + err.Error(), nil
}

// runTask starts the container of the pre-deploy task. When the engine refuses, the release cannot come up.
func (s *Supervisor) runTask(ctx context.Context, st step) (time.Time, error) {
	r := *st.act.Release
	env, err := s.linkEnv(ctx, r.Spec)
	if err != nil {
		return time.Time{}, err
	}
	id, err := s.Engine.Start(ctx, component.StartRequest{
		Component: st.u.name, Release: r, Hash: r.Hash(), Env: env, Task: true, Attempt: st.view.Record().Attempt,
	})
	switch {
	case err == nil:
		s.report(st.u, component.EventTask, id, "Running the pre-deploy task of component "+st.u.name, "")
		s.Log.Info("pre-deploy task started", "component", st.u.name, "container", component.Short(id), "generation", st.want.Generation)
		return again()
	case ctx.Err() != nil || errors.Is(err, component.ErrEngineUnreachable) || errors.Is(err, context.DeadlineExceeded):
		return time.Time{}, err
	}
	st.act.Kind, st.act.Reason = component.PreDeployFail, "pre-deploy task: "+err.Error()
	return s.fail(ctx, st)
}

// prepared says that the task has succeeded, and ends the turn that was taken for it.
func (s *Supervisor) prepared(ctx context.Context, st step) (time.Time, error) {
	r := component.Rollout{
		Generation: st.want.Generation, Status: component.RolloutProgressing, Attempt: st.view.Record().Attempt,
		Prepared: &component.Preparation{Host: s.Host, At: now().UTC()}, At: now(),
	}
	if err := s.endTurn(ctx, st.u, st.status, &r); err != nil {
		return time.Time{}, err
	}
	s.report(st.u, component.EventTask, st.act.Container, "Pre-deploy task of component "+st.u.name+" succeeded", "")
	s.Log.Info("pre-deploy task succeeded", "component", st.u.name, "generation", st.want.Generation)
	return again()
}

// endsTask remembers why a task container is ended, which the container does not tell, before it is.
func (s *Supervisor) endsTask(st step) error {
	if !st.act.Task || st.act.Reason == "" {
		return nil
	}
	id, why := st.act.Container, st.act.Reason
	return s.remember(st.u, func(r *component.Record) {
		r.Tasks = maps.Clone(r.Tasks)
		if r.Tasks == nil {
			r.Tasks = map[string]string{}
		}
		r.Tasks[id] = why
	})
}
