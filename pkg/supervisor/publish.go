package supervisor

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// How often a mere change of connections is published: of their number, and, while a container
// drains, of who is left. Bytes that went alone, and ages alone, are published less often.
const (
	publishEvery = 5 * time.Second
	drainEvery   = 2 * time.Second
	bytesEvery   = 10 * time.Second
	ageEvery     = time.Minute
)

// publish computes what this host sees of the component and leaves it to publishLoop to store it:
// no pass waits for the store.
func (s *Supervisor) publish(u *unit, want component.Desired, have component.Observed, act component.Action, turn component.Turn) component.HostStatus {
	rec := u.record()
	st := component.HostStatus{
		Host: s.Host, Target: want.Generation, ImageID: want.ImageID, Image: want.Image,
		Failure: rec.Failure, Restarts: rec.Restarts.Count, Containers: s.containerStatuses(u, rec, have), RouteErr: u.routeErr,
	}
	if rec.Proven != nil && rec.Served && s.counts(rec) {
		st.Generation, st.Hash = rec.Proven.Generation, rec.Proven.Hash()
	}
	st.Step, st.Detail = component.Progress(s.Host, want, have, turn, act)
	st.Traffic = u.guard(want, have.Rollout)
	for i := range st.Containers {
		if c := &st.Containers[i]; c.Stage == component.Draining {
			c.DrainsSince = rec.Containers[c.ID].DrainingSince
			c.DrainsUntil = want.DrainDeadline(c.DrainsSince)
		} else if c.Stage == component.Serving && u.out != nil {
			c.DrainsSince, c.DrainsUntil = u.out.Since, want.DrainDeadline(u.out.Since)
		}
	}
	u.mu.Lock()
	before := u.status
	u.mu.Unlock()
	s.count(&st, before)
	u.tell(st)
	s.poke()
	return st
}

func (u *unit) tell(st component.HostStatus) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next, u.status = &st, st
}

// publishBlind tells that the host cannot see its containers, and why. What it saw last stands, but what users see is
// not told until it sees them again.
func (s *Supervisor) publishBlind(u *unit, want component.Desired, err error) {
	rec := u.record()
	u.mu.Lock()
	u.counted.blinded(component.SlotAt(now()))
	st := u.status
	if st.Host == "" {
		st = component.HostStatus{Host: s.Host, Failure: rec.Failure, Containers: remembered(rec)}
	}
	u.mu.Unlock()
	st.Target, st.Step, st.Detail, st.Traffic = want.Generation, component.StepWaiting, err.Error(), nil
	u.tell(st)
	s.poke()
}

// remembered are the containers of which only the record tells.
func remembered(rec component.Record) []component.ContainerStatus {
	var out []component.ContainerStatus
	for _, id := range slices.Sorted(maps.Keys(rec.Containers)) {
		out = append(out, component.ContainerStatus{ID: id, Stage: rec.Containers[id].Stage, Primary: id == rec.Primary})
	}
	return out
}

// poke makes publishLoop look at what is to be published.
func (s *Supervisor) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Supervisor) containerStatuses(u *unit, rec component.Record, have component.Observed) []component.ContainerStatus {
	var out []component.ContainerStatus
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range have.Containers {
		e := u.seen[c.ID]
		out = append(out, component.ContainerStatus{
			ID: c.ID, Stage: c.Stage, Primary: c.ID == rec.Primary, Generation: e.Release.Generation,
			ImageID: e.ImageID, Image: e.ImageName, Ready: c.Ready || c.Stage == component.Serving, Health: c.Health,
			Problem: c.Problem, Created: e.Created, Status: e.Status,
		})
	}
	return out
}

// publishLoop stores what publish left, the newest of each component.
func (s *Supervisor) publishLoop(ctx context.Context) error {
	var told component.Machine
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	if s.Inherited { // until then it would tell of fewer links than there are
		select {
		case <-s.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for {
		if m := s.machine(ctx); !reflect.DeepEqual(m, told) {
			if err := s.Store.PublishMachine(ctx, m); err != nil {
				s.Log.Debug("publish machine", "err", err)
			} else {
				told = m
			}
		}
		select {
		case <-s.wake:
		case <-tick.C:
			s.recount()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for _, u := range s.allUnits() {
			s.saveNoted(u)
			if err := s.publishOne(ctx, u); err != nil {
				s.Log.Debug("publish", "component", u.name, "err", err)
			}
		}
	}
}

func (s *Supervisor) allUnits() []*unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	us := make([]*unit, 0, len(s.units))
	for _, u := range s.units {
		us = append(us, u)
	}
	return us
}

// publishOne stores what was left to be published of a component, unless that has to wait.
func (s *Supervisor) publishOne(ctx context.Context, u *unit) error {
	u.publishing.Lock()
	defer u.publishing.Unlock()
	u.mu.Lock()
	next := u.next
	u.next = nil
	u.mu.Unlock()
	if next == nil {
		return nil
	}
	var err error
	switch due(u.published, *next) {
	case never:
		return nil
	case atOnce:
		st := *next // the pass that left it reads it still
		st.At = now()
		if err = s.Store.Publish(ctx, u.name, st); err == nil {
			u.published = st
			return nil
		}
	case later:
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.next == nil {
		u.next = next // the next tick tries again, unless something newer comes before
	}
	return err
}

// Status is what this host sees of a component now, connections counted afresh.
func (s *Supervisor) Status(name string) component.HostStatus {
	s.mu.Lock()
	u, ok := s.units[name]
	s.mu.Unlock()
	if !ok {
		return component.HostStatus{Host: s.Host, Step: component.StepIdle}
	}
	u.mu.Lock()
	st := u.status
	u.mu.Unlock()
	st.Containers = slices.Clone(st.Containers)
	s.count(&st, component.HostStatus{})
	return st
}
