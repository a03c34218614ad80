package supervisor

import (
	"context"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// watchKind is what is being probed of a container; each stage has its own.
type watchKind int

const (
	watchNone watchKind = iota
	watchReady
	watchHealth
	watchTermination
)

// watchAll starts and ends the probes so that each container is watched as its stage asks.
func (s *Supervisor) watchAll(ctx context.Context, u *unit, cs []component.EngineContainer, rec component.Record) {
	for _, c := range cs {
		s.watch(ctx, u, c, rec.Containers[c.ID])
	}
}

func wanted(c component.EngineContainer, r component.ContainerRecord) watchKind {
	switch {
	case c.State != component.RunRunning || c.Addr == "":
		return watchNone
	case r.Stage == component.Starting && r.Failed == "":
		return watchReady
	case r.Stage == component.Serving:
		return watchHealth
	case r.Stage == component.Draining:
		return watchTermination
	}
	return watchNone
}

func (s *Supervisor) watch(ctx context.Context, u *unit, c component.EngineContainer, r component.ContainerRecord) {
	kind := wanted(c, r)
	u.mu.Lock()
	l := u.liveOf(c.ID)
	if l.watch == kind {
		u.mu.Unlock()
		return
	}
	if l.stop != nil {
		l.stop()
	}
	l.watch, l.stop = kind, nil
	if kind == watchNone {
		u.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	l.stop = cancel
	u.mu.Unlock()
	t := component.ProbeTarget{ID: c.ID, Addr: c.Addr, Conns: func() int { return s.Router.Conns(c.ID).Open }}
	spec := c.Release.Spec
	if kind == watchTermination {
		s.report(u, component.EventMonitoring, t.ID, "Monitor check started", "")
	}
	s.tasks.Go(func() {
		defer cancel()
		switch kind {
		case watchReady:
			s.watchReady(ctx, u, t, spec, r.StageSince)
		case watchHealth:
			s.watchHealth(ctx, u, t, spec)
		case watchTermination:
			s.watchTermination(ctx, u, t, spec, r.Signalled)
		case watchNone:
		}
	})
}

// watchReady runs the ready checks once, until they passed or their time is over.
func (s *Supervisor) watchReady(ctx context.Context, u *unit, t component.ProbeTarget, spec component.Spec, since time.Time) {
	if len(spec.ReadyChecks) > 0 {
		s.report(u, component.EventReadyWait, t.ID, "Waiting for health checks...", "")
	}
	bounded, cancel := context.WithDeadline(ctx, since.Add(spec.ReadyWithin()))
	defer cancel()
	report := s.reporter(u)
	err := s.Prober.Ready(bounded, t, spec.ReadyChecks, func(e component.Event) {
		if e.Kind == component.EventCheckFailed { // the time may be over before Ready returns
			u.edit(t.ID, func(l *live) { l.problem = e.Detail })
		}
		report(e)
	})
	if ctx.Err() != nil {
		return
	}
	u.edit(t.ID, func(l *live) {
		l.ready, l.problem = err == nil, problem(err)
	})
	s.queue.Add(u.name)
}

func (s *Supervisor) watchHealth(ctx context.Context, u *unit, t component.ProbeTarget, spec component.Spec) {
	err := s.Prober.Health(ctx, t, spec.HealthChecks, func(healthy bool, err error) {
		h := component.Healthy
		if !healthy {
			h = component.Unhealthy
		}
		var before component.Health
		u.edit(t.ID, func(l *live) {
			before = l.health
			l.health, l.problem = h, problem(err)
		})
		switch {
		case h == component.Unhealthy:
			s.report(u, component.EventUnhealthy, t.ID, "Component "+u.name+" is not healthy. Restarting...", problem(err))
			s.Log.Warn("container unhealthy", "component", u.name, "container", component.Short(t.ID), "err", err)
		case before == component.Unhealthy:
			s.report(u, component.EventHealthy, t.ID, "Component "+u.name+" is healthy again", "")
		}
		s.queue.Add(u.name)
	})
	if err != nil && ctx.Err() == nil {
		s.Log.Error("health checks ended", "component", u.name, "container", component.Short(t.ID), "err", err)
	}
}

// watchTermination sends the termination signals once and waits for the termination checks.
func (s *Supervisor) watchTermination(ctx context.Context, u *unit, t component.ProbeTarget, spec component.Spec, signalled bool) {
	if !signalled && len(spec.TerminationSignals) > 0 {
		s.signal(ctx, u, t, spec)
		if ctx.Err() != nil {
			return
		}
	}
	if err := s.Prober.Terminated(ctx, t, spec.TerminationChecks, s.reporter(u)); err != nil || ctx.Err() != nil {
		return
	}
	u.edit(t.ID, func(l *live) { l.terminated = true })
	s.queue.Add(u.name)
}

// signal sends the termination signals and remembers that it did.
func (s *Supervisor) signal(ctx context.Context, u *unit, t component.ProbeTarget, spec component.Spec) {
	u.edit(t.ID, func(l *live) { l.signalling = true })
	defer u.edit(t.ID, func(l *live) { l.signalling = false })
	s.Prober.Signal(ctx, t, spec.TerminationSignals, s.reporter(u))
	if ctx.Err() != nil {
		return
	}
	err := s.remember(u, func(r *component.Record) {
		if c, ok := r.Containers[t.ID]; ok {
			c.Signalled = true
			r.Containers[t.ID] = c
		}
	})
	if err != nil {
		s.Log.Warn("save record", "component", u.name, "err", err)
	}
}

func problem(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
