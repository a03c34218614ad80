package operator

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// RecordedEvents are those that the history keeps, and what is so still of hosts that are out of service, the oldest first.
func RecordedEvents(ctx context.Context, c *etcdstate.Client, project string, p etcdstate.Project, which []string) ([]rollout.Event, error) {
	var out []rollout.Event
	for _, h := range slices.Sorted(maps.Keys(p.Drained)) {
		out = append(out, rollout.Drained(h, p.Drained[h]))
	}
	for _, name := range which {
		entries, err := c.History(ctx, project, name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			out = append(out, rollout.Asked(name, e.Desired))
			if end, ok := rollout.Ended(name, e.Rollout); ok {
				out = append(out, end)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b rollout.Event) int { return a.At.Compare(b.At) })
	return out, nil
}

// NewEvents are what happened between two looks at a project, of the components named; of all when none is.
func NewEvents(before, after etcdstate.Project, which []string, now time.Time) []rollout.Event {
	out := append(rollout.HostEvents(before.Machines, after.Machines, now), rollout.DrainEvents(before.Drained, after.Drained, now)...)
	for _, name := range Names(after) {
		if len(which) == 0 || slices.Contains(which, name) {
			out = append(out, rollout.Events(name, before.Components[name], after.Components[name], now)...)
		}
	}
	return out
}

// Seen is after as the look before the next one: with what hosts said last that say nothing at the moment.
func Seen(before, after etcdstate.Project) etcdstate.Project {
	views := make(map[string]component.View, len(after.Components))
	for name, v := range after.Components {
		views[name] = rollout.Seen(before.Components[name], v)
	}
	after.Components = views
	return after
}

// Again reports whether an event is an old one that a host tells again: what it says is gone with its lease, and comes
// back with its daemon. It follows from the revision alone, as all that is told does.
func Again(e rollout.Event, before, after etcdstate.Project) bool {
	if _, said := before.Components[e.Component].Hosts[e.Host]; said || e.Host == "" {
		return false
	}
	switch e.Kind {
	case rollout.EventRestart:
		return true
	case rollout.EventFailure:
		m, up := after.Machines[e.Host]
		f := after.Components[e.Component].Hosts[e.Host].Failure
		return !up || f != nil && f.At.Before(m.StartedAt)
	}
	return false
}
