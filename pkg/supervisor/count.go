package supervisor

import (
	"reflect"
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// count fills in the connections of st's containers as they are now. What before, an earlier status of
// the same component, says of a connection stays as it was where nothing happened: so a status that
// tells nothing new is equal to the one before.
func (s *Supervisor) count(st *component.HostStatus, before component.HostStatus) {
	for i := range st.Containers {
		c := &st.Containers[i]
		conns := s.Router.Conns(c.ID)
		c.Connections, c.Oldest, c.Left = conns.Open, conns.Oldest.Truncate(time.Second), nil
		if c.DrainsSince.IsZero() && c.Stage != component.Draining || conns.Open == 0 {
			continue
		}
		var old []component.Connection
		if j := slices.IndexFunc(before.Containers, func(b component.ContainerStatus) bool { return b.ID == c.ID }); j >= 0 {
			old = before.Containers[j].Left
		}
		c.Left = steadyLeft(s.Router.Connections(c.ID, component.MaxLeft), old)
	}
}

// steadyLeft is list, in which a connection that is known from before keeps its times: they are worked
// out from ages, anew and a little different each time.
func steadyLeft(list, before []component.Connection) []component.Connection {
	const jitter = time.Second
	for i := range list {
		c := &list[i]
		c.Since, c.Active = c.Since.UTC().Truncate(time.Millisecond), c.Active.UTC().Truncate(time.Millisecond)
		for _, b := range before {
			if b.Client != c.Client || b.Target != c.Target || b.Since.Sub(c.Since).Abs() > jitter {
				continue
			}
			c.Since = b.Since
			if b.BytesIn == c.BytesIn && b.BytesOut == c.BytesOut {
				c.Active = b.Active
			}
		}
	}
	return list
}

// recount leaves to be published what has changed without a pass: how many connections there are, and
// who is left.
func (s *Supervisor) recount() {
	for _, u := range s.allUnits() {
		u.mu.Lock()
		st := u.status
		u.mu.Unlock()
		before := st.Containers
		st.Containers = slices.Clone(before)
		s.count(&st, component.HostStatus{Containers: before})
		if slices.EqualFunc(before, st.Containers, sameConnections) {
			continue
		}
		u.mu.Lock()
		if slices.EqualFunc(before, u.status.Containers, func(a, b component.ContainerStatus) bool { return a.ID == b.ID }) {
			told := u.status // a pass may have left a newer one
			told.Containers = slices.Clone(told.Containers)
			for i, c := range st.Containers {
				n := &told.Containers[i]
				n.Connections, n.Oldest, n.Left = c.Connections, c.Oldest, c.Left
			}
			u.next, u.status = &told, told
		}
		u.mu.Unlock()
	}
}

func sameConnections(a, b component.ContainerStatus) bool {
	return a.Connections == b.Connections && slices.Equal(a.Left, b.Left)
}

// samePeople reports whether the same connections are there, whatever bytes went.
func samePeople(a, b component.ContainerStatus) bool {
	return a.Connections == b.Connections && slices.EqualFunc(a.Left, b.Left, func(a, b component.Connection) bool {
		return a.Client == b.Client && a.Target == b.Target && a.Since.Equal(b.Since)
	})
}

// When is how soon a status has to be published.
type when int

const (
	never when = iota // it says nothing new
	later             // it waits its turn
	atOnce
)

// due tells a change of the story, which is published at once, from a mere change of connections,
// which waits until some time has passed since the last write, from bytes that went, which wait longer, and
// from what only grows older, which waits for long: each write wakes the other hosts, whose passes may write as well.
func due(old, st component.HostStatus) when {
	watched := st.Traffic.Newest() > old.Traffic.Newest() || (st.Traffic == nil) != (old.Traffic == nil) // once a slot
	if watched || !reflect.DeepEqual(steady(old), steady(st)) {
		return atOnce
	}
	wait := publishEvery
	if slices.ContainsFunc(st.Containers, func(c component.ContainerStatus) bool { return len(c.Left) > 0 }) {
		wait = drainEvery
	}
	passed := now().Sub(old.At)
	switch {
	case !slices.EqualFunc(old.Containers, st.Containers, samePeople):
		if passed >= wait {
			return atOnce
		}
		return later
	case passed < ageEvery && slices.EqualFunc(old.Containers, st.Containers, sameConnections):
		return never
	case passed < bytesEvery:
		return later
	}
	old.At = st.At
	if reflect.DeepEqual(old, st) {
		return never
	}
	return atOnce
}

// steady is st without what changes all the time; whose turn it is everybody sees without being told.
func steady(st component.HostStatus) component.HostStatus {
	st.At, st.Traffic = time.Time{}, nil
	st.Detail = st.Awaits("")
	cs := make([]component.ContainerStatus, len(st.Containers))
	for i, c := range st.Containers {
		c.Connections, c.Oldest, c.Status, c.Left = min(c.Connections, 1), 0, "", nil
		cs[i] = c
	}
	st.Containers = cs
	return st
}
