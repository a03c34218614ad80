package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// keepLogLines is how many of a failed container's last log lines are kept with the failure.
const keepLogLines = 50

// keepLogHistory is how many of them go into the rollout record, and so into the history.
const keepLogHistory = 20

// keepImages is how many releases' images of a component stay on the host.
const keepImages = 5

// stopAgainAfter is the pause after a stop or kill that the engine refused.
const stopAgainAfter = time.Second

// A step is one action and what it was decided from.
type step struct {
	u      *unit
	view   component.View
	want   component.Desired
	have   component.Observed
	turn   component.Turn
	act    component.Action
	status component.HostStatus
}

// again makes the next pass follow at once.
func again() (time.Time, error) { return now(), nil }

// do carries one action out. What takes long goes on as a task; the component is busy meanwhile.
func (s *Supervisor) do(ctx context.Context, st step) (time.Time, error) {
	switch st.act.Verb {
	case component.Nothing, component.Wait:
		return lookAgain(st), nil
	case component.AwaitTurn:
		return s.awaitTurn(ctx, st)
	case component.Pull:
		return s.pull(ctx, st)
	case component.Start:
		return s.start(ctx, st)
	case component.Route:
		return s.route(st)
	case component.Discard:
		return s.discard(ctx, st)
	case component.Fail:
		return s.fail(ctx, st)
	case component.Finish:
		return s.finish(ctx, st)
	case component.Yield:
		if err := s.endTurn(ctx, st.u, st.status, nil); err != nil {
			return time.Time{}, err
		}
		return again()
	case component.Drain:
		return s.drain(st)
	case component.Cut:
		return s.cut(ctx, st)
	case component.Stop, component.Kill:
		return s.stop(ctx, st)
	case component.Remove:
		return s.remove(ctx, st)
	case component.RunTask:
		return s.runTask(ctx, st)
	case component.Prepared:
		return s.prepared(ctx, st)
	}
	return time.Time{}, fmt.Errorf("component %q: unknown verb %v", st.u.name, st.act.Verb)
}

// lastWord is the time that a watch has, after its deadline, to say what its last check found.
const lastWord = 250 * time.Millisecond

// lookAgain is when a wait is looked at again. The end of ready checks tells by itself, with the reason; the
// timer must not come before it, or a container would fail without one.
func lookAgain(st step) time.Time {
	u, at := st.u, st.act.At
	u.mu.Lock()
	defer u.mu.Unlock()
	if l, ok := u.live[st.act.Container]; ok && l.watch == watchReady && !at.IsZero() {
		return at.Add(lastWord)
	}
	return at
}

func (s *Supervisor) awaitTurn(ctx context.Context, st step) (time.Time, error) {
	slots := rollout.SlotsFor(st.u.name, s.Host, st.view, st.act)
	st.view.Turn.Repair, st.view.Turn.Task = st.act.Repair, st.act.Task
	if ok, _ := rollout.MayTake(slots, st.turn); !ok || len(st.view.Busy(s.Host)) >= slots {
		return st.act.At, nil // the view changes when a turn ends
	}
	if err := s.Store.TakeTurn(ctx, st.u.name, slots, st.view); err != nil {
		return time.Time{}, err
	}
	s.Log.Info("turn taken", "component", st.u.name, "generation", st.want.Generation)
	return again()
}

// pull fetches an image beside the workers; several components may wait for the same one.
func (s *Supervisor) pull(ctx context.Context, st step) (time.Time, error) {
	r := st.act.Release
	s.mu.Lock()
	p := s.pulls[r.ImageID]
	if p == nil {
		p = &component.ImageState{}
		s.pulls[r.ImageID] = p
	}
	p.Pulling = true
	s.mu.Unlock()
	s.report(st.u, component.EventPull, "", "Pulling the image for component "+st.u.name, r.Image.Ref)
	s.task(st.u.name, func() {
		err := s.Engine.Pull(ctx, r.Image, r.ImageID, func(line string) {
			s.Log.Debug("pull", "component", st.u.name, "image", r.Image.Ref, "progress", line)
		})
		s.mu.Lock()
		p.Pulling = false
		switch {
		case err == nil:
			*p = component.ImageState{}
		case errors.Is(err, component.ErrEngineUnreachable): // says nothing of the image
			p.Problem, p.RetryAt = err.Error(), now().Add(time.Second)
		default:
			p.Failures, p.Problem = p.Failures+1, err.Error()
			p.RetryAt = now().Add(min(time.Minute, time.Second<<min(p.Failures-1, 6)))
		}
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("pull failed", "component", st.u.name, "image", r.Image.Ref, "err", err)
			s.report(st.u, component.EventFailed, "", "Pull failed of image "+component.Short(r.ImageID)+" for component "+st.u.name, err.Error())
		}
		s.changed("")
	})
	return time.Time{}, nil
}

func (s *Supervisor) start(ctx context.Context, st step) (time.Time, error) {
	r := *st.act.Release
	env, err := s.linkEnv(ctx, r.Spec)
	if err != nil {
		return time.Time{}, err
	}
	if st.act.Repair {
		s.note(st.u, func(rec *component.Record) { rec.Restarts = rec.Restarts.Add(now()) })
	}
	if r.Spec.Privileged {
		s.report(st.u, component.EventStart, "", "Container will be run in privileged mode", "")
	}
	id, err := s.Engine.Start(ctx, component.StartRequest{Component: st.u.name, Release: r, Hash: r.Hash(), Env: env})
	if err != nil {
		return s.startFailed(ctx, st, r, err)
	}
	s.report(st.u, component.EventStart, id, "Starting container "+component.Short(id), "")
	s.note(st.u, func(rec *component.Record) { // its labels tell all of it
		rec.Containers[id] = component.ContainerRecord{Stage: component.Starting, StageSince: now()}
		rec.Images = inFront(rec.Images, r.ImageID)
	})
	return again()
}

// inFront puts id in front of the list.
func inFront(ids []string, id string) []string {
	ids = slices.DeleteFunc(slices.Clone(ids), func(v string) bool { return v == id })
	return slices.Insert(ids, 0, id)
}

// startFailed tells an engine that does not answer, which is tried again, from one that refuses.
func (s *Supervisor) startFailed(ctx context.Context, st step, r component.Release, err error) (time.Time, error) {
	if ctx.Err() != nil || errors.Is(err, component.ErrEngineUnreachable) || errors.Is(err, context.DeadlineExceeded) {
		return time.Time{}, err
	}
	if st.turn.State == component.TurnMine && (st.have.Proven == nil || st.have.Proven.Hash() != r.Hash()) {
		st.u.startErr = startError{gen: st.want.Generation, reason: err.Error()}
		return again()
	}
	if err := s.remember(st.u, func(rec *component.Record) {
		rec.Restarts = rec.Restarts.Add(now())
		rec.Failure = &component.Failure{Generation: r.Generation, Kind: component.UpdateFail, Reason: err.Error(), At: now()}
	}); err != nil {
		return time.Time{}, err
	}
	s.report(st.u, component.EventFailed, "", "Could not restart component "+st.u.name, err.Error())
	s.Log.Warn("start container", "component", st.u.name, "err", err)
	return again()
}

// route makes the container the primary; the next pass switches. Nothing drains before this is on
// the disk, so a daemon that dies in between finds the old primary whole, and checks the new one again.
func (s *Supervisor) route(st step) (time.Time, error) {
	id := st.act.Container
	s.report(st.u, component.EventRoute, id, "Redirecting traffic to new container", "")
	s.note(st.u, func(rec *component.Record) {
		c := rec.Containers[id]
		if c.Stage < component.Serving {
			c.Stage, c.StageSince = component.Serving, now()
		}
		rec.Containers[id] = c
		rec.Primary = id
		if st.act.Proven {
			r := st.want.Release()
			rec.Proven, rec.Served = &r, true
		}
	})
	s.report(st.u, component.EventProxy, id, "Checking container statuses...", "")
	s.report(st.u, component.EventProxy, id, "Updating proxy...", "")
	s.Log.Info("container serving", "component", st.u.name, "container", component.Short(id), "generation", st.want.Generation)
	return again() // the next pass applies the routes
}

func (s *Supervisor) drain(st step) (time.Time, error) {
	id := st.act.Container
	if st.want.Status == component.StatusReady {
		s.report(st.u, component.EventDrain, id, "Draining container "+component.Short(id), "")
		s.report(st.u, component.EventMonitoring, id, "Starting monitoring...", "")
	}
	err := s.remember(st.u, func(rec *component.Record) {
		c := rec.Containers[id]
		c.Stage, c.StageSince, c.DrainingSince = component.Draining, now(), now()
		rec.Containers[id] = c
		if rec.Primary == id {
			rec.Primary = ""
		}
	})
	if err != nil {
		return time.Time{}, err
	}
	s.Log.Info("container draining", "component", st.u.name, "container", component.Short(id), "connections", s.Router.Conns(id).Open)
	return again() // the next pass takes it out of the routes, then tells the router to drain it
}

func (s *Supervisor) cut(ctx context.Context, st step) (time.Time, error) {
	if serving(st.have, st.act.Container) {
		return s.turnOut(ctx, st)
	}
	id, rate := st.act.Container, st.want.Spec.Drain.Rate
	left := s.Router.Conns(id).Open
	s.Log.Warn("drain deadline reached, cutting connections", "component", st.u.name, "container", component.Short(id), "connections", left)
	s.report(st.u, component.EventDrain, id, fmt.Sprintf("Drain deadline reached, cutting %d connections", left), "")
	st.u.edit(id, func(l *live) { l.rate = rate })
	s.busyTask(ctx, st.u, id, cutting, func(ctx context.Context) { s.Router.Cut(ctx, id, rate, nil) })
	return time.Time{}, nil
}

// cutting is what a container is busy with while its connections are cut. Another process goes on with
// it when it is broken off.
const cutting = "cut"

// spare ends the cuts under way that were decided from a deadline or a rate that is not wanted any
// more; the next pass decides anew.
func (u *unit) spare(want component.Desired) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, l := range u.live {
		if l.out != nil && (u.out == nil || want.Spec == nil || want.Spec.Drain.Rate != l.rate || !want.DrainOver(u.out.Since, now())) {
			l.out()
		}
		if l.busy != cutting || l.cancel == nil {
			continue
		}
		if want.Spec == nil || want.Spec.Drain.Rate != l.rate || !want.DrainOver(u.rec.Containers[id].DrainingSince, now()) {
			l.cancel()
		}
	}
}

// busyTask runs f beside the workers; the container is left alone meanwhile. A kill ends the context
// of f early.
func (s *Supervisor) busyTask(ctx context.Context, u *unit, id, what string, f func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	u.edit(id, func(l *live) { l.busy, l.cancel = what, cancel })
	s.task(u.name, func() {
		defer cancel()
		defer u.edit(id, func(l *live) { l.busy, l.cancel = "", nil })
		f(ctx)
	})
}

// hurry ends what would make a kill wait: the grace of a stop, the slow cut of connections.
func (u *unit) hurry() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.live {
		if l.cancel != nil && l.busy != component.Kill.String() {
			l.cancel()
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *Supervisor) stop(ctx context.Context, st step) (time.Time, error) {
	id, kill := st.act.Container, st.act.Verb == component.Kill
	if err := s.endsTask(st); err != nil {
		return time.Time{}, err
	}
	grace := component.DefaultStopTimeout
	if st.want.Spec != nil {
		grace = st.want.Spec.StopWithin()
	}
	if kill {
		s.report(st.u, component.EventKill, id, "Killing container "+component.Short(id), "")
	} else {
		s.report(st.u, component.EventStop, id, "Shutting down container: "+component.Short(id), st.act.Reason)
	}
	if st.have.Primary == id {
		s.rememberOrNote(st.u, func(rec *component.Record) { rec.Primary = "" })
	}
	s.busyTask(ctx, st.u, id, st.act.Verb.String(), func(ctx context.Context) {
		var err error
		if kill {
			err = s.Engine.Kill(ctx, id)
		} else {
			err = s.Engine.Stop(ctx, id, grace)
		}
		if err == nil {
			s.rememberOrNote(st.u, func(rec *component.Record) {
				if c, ok := rec.Containers[id]; ok {
					c.Stage, c.StageSince = component.Stopped, now()
					rec.Containers[id] = c
				}
			})
		}
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("stop container", "component", st.u.name, "container", component.Short(id), "err", err)
			pause(ctx, stopAgainAfter) // the engine refuses: it will not think better of it at once
		}
	})
	return time.Time{}, nil
}

func (s *Supervisor) remove(ctx context.Context, st step) (time.Time, error) {
	id := st.act.Container
	if err := s.Engine.Remove(ctx, id); err != nil {
		return time.Time{}, err
	}
	s.report(st.u, component.EventRemove, id, "Container removed: "+component.Short(id), "")
	err := s.remember(st.u, func(rec *component.Record) { delete(rec.Containers, id) })
	if err != nil {
		return time.Time{}, err
	}
	s.collectImages(ctx, st.u)
	return again()
}

// collectImages removes the images of releases that are long gone.
func (s *Supervisor) collectImages(ctx context.Context, u *unit) {
	rec := u.record()
	if len(rec.Images) <= keepImages {
		return
	}
	for _, id := range rec.Images[keepImages:] {
		if err := s.Engine.RemoveImage(ctx, id); err != nil {
			s.Log.Debug("remove image", "component", u.name, "image", component.Short(id), "err", err)
		}
	}
	if err := s.remember(u, func(r *component.Record) { r.Images = r.Images[:min(keepImages, len(r.Images))] }); err != nil {
		s.Log.Warn("save record", "component", u.name, "err", err)
	}
}
