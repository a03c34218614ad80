package localstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

var errNoState = errors.New("it has no desired state")

// Run calls changed with "" at first, then with the name of every component whose view changed, or
// "" for all of them, until ctx ends; it returns the cause. Changes in quick succession are
// reported once. What moves by itself in a status (times, counts of connections, the engine's
// words) is no change here. changed is called by one goroutine at a time and may call the store.
func (s *Store) Run(ctx context.Context, changed func(name string)) error {
	l := &listener{loop: true, wake: make(chan struct{}, 1), names: map[string]struct{}{}}
	s.listen(l)
	defer s.forget(l)
	changed("")
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.wake:
		}
		for _, name := range s.pending(l) {
			changed(name)
		}
	}
}

// TakeTurn takes the turn for at.Desired.Generation and marks the rollout as progressing, unless
// both are so already. component.ErrChanged when the state or the record changed since at. The turn
// is always free for the only host, unless slots is less than one.
func (s *Store) TakeTurn(ctx context.Context, name string, slots int, at component.View) error {
	err := s.update(ctx, func(d *draft) error {
		c, g := d.data.Components[name], at.Desired.Generation
		switch {
		case !c.unchanged(at):
			return component.ErrChanged
		case g == 0:
			return errNoState
		case slots < 1:
			return component.ErrTurnTaken
		}
		if t, ok := d.turns[name]; !ok || t.generation != g {
			d.turns[name] = held{g, at.Turn.Repair, at.Turn.Task}
			d.changed = append(d.changed, name)
		}
		r, changed := at.Taken(s.host, time.Now().UTC())
		if !changed {
			return nil
		}
		return d.putRollout(name, r)
	})
	return named("take turn of", name, err)
}

// EndTurn publishes st, writes r when it is not nil, and gives the turn up, in one write. A record
// that is halted, or about a newer generation, stays as it is. component.ErrTurnLost when the host
// does not have the turn; then nothing is written.
func (s *Store) EndTurn(ctx context.Context, name string, st component.HostStatus, r *component.Rollout) error {
	err := s.update(ctx, func(d *draft) error {
		if _, ok := d.turns[name]; !ok {
			return component.ErrTurnLost
		}
		delete(d.turns, name)
		if err := d.putStatus(name, st); err != nil {
			return err
		}
		d.quiet = false
		d.changed = append(d.changed, name)
		if r == nil {
			return nil
		}
		var v component.View
		if err := d.data.Components[name].decode(&v); err != nil {
			return err
		}
		if next, news := v.Rollout.After(*r, v.Spec().Rollout.MaxFailures); news {
			return d.putRollout(name, next)
		}
		return nil
	})
	return named("end turn of", name, err)
}

// PutRollout writes r. component.ErrChanged when the state or the record changed since at.
func (s *Store) PutRollout(ctx context.Context, name string, r component.Rollout, at component.View) error {
	err := s.update(ctx, func(d *draft) error {
		if c := d.data.Components[name]; !c.unchanged(at) {
			return component.ErrChanged
		}
		return d.putRollout(name, r)
	})
	return named("write rollout record of", name, err)
}

// Returned does nothing: a host that is alone waits for no other.
func (s *Store) Returned(context.Context, string, int64) error { return nil }

// Rollback makes the last desired state whose rollout ended done the desired state, in by's name.
func (s *Store) Rollback(ctx context.Context, name string, by component.Desired, at component.View) error {
	err := s.update(ctx, func(d *draft) error {
		c := d.data.Components[name]
		if !c.unchanged(at) {
			return component.ErrChanged
		}
		var good component.Desired
		if err := decode(c.Good, &good); err != nil {
			return fmt.Errorf("last good state: %w", err)
		}
		good.Generation = c.GoodGeneration
		to, ok := component.BackFrom(at.Desired, []component.Past{{Generation: c.GoodGeneration, Desired: good, Outcome: component.OutcomeDone}})
		if !ok {
			return component.ErrNoRelease
		}
		var config *component.Spec
		if err := decode(c.Config, &config); err != nil {
			return fmt.Errorf("spec: %w", err)
		}
		next := to.Back(config)
		next.Operation, next.By, next.At, next.Reason, next.Automatic = by.Operation, by.By, by.At, by.Reason, by.Automatic
		raw, err := json.Marshal(next)
		if err != nil {
			return err
		}
		c.Desired, c.Generation = raw, d.revision
		d.put(name, c)
		return nil
	})
	return named("roll back", name, err)
}

// Publish keeps what this host sees of the component, in memory.
func (s *Store) Publish(ctx context.Context, name string, st component.HostStatus) error {
	err := s.update(ctx, func(d *draft) error { return d.putStatus(name, st) })
	return named("publish status of", name, err)
}

// PublishMachine keeps what this host is, in memory.
func (s *Store) PublishMachine(ctx context.Context, m component.Machine) error {
	err := s.update(ctx, func(d *draft) error {
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if string(b) != string(d.machine) {
			d.machine, d.changed = b, []string{""}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish machine: %w", err)
	}
	return nil
}

// unchanged reports whether state and record are those that at shows. A view of something that
// does not parse shows no generation and is never current.
func (c componentData) unchanged(at component.View) bool {
	return c.Generation == at.Desired.Generation && c.RolloutRevision == at.RolloutRevision
}

func (d *draft) putRollout(name string, r component.Rollout) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	c := d.data.Components[name]
	c.Rollout, c.RolloutRevision = c.rolloutOver(b, r), d.revision
	if r.Status == component.RolloutDone && r.Generation == c.Generation {
		c.Good, c.GoodGeneration = c.Desired, c.Generation
	}
	d.put(name, c)
	return nil
}

// rolloutOver is b, which is r, with what a newer version wrote in the record of the same generation that it takes the
// place of.
func (c componentData) rolloutOver(b json.RawMessage, r component.Rollout) json.RawMessage {
	var old component.Rollout
	if c.Rollout == nil || decode(c.Rollout, &old) != nil || old.Generation != r.Generation {
		return b
	}
	known, err := json.Marshal(old)
	if err != nil {
		return b
	}
	return carry(c.Rollout, known, b, keep{})
}

// putStatus keeps st. The write is quiet when only what moves by itself differs.
func (d *draft) putStatus(name string, st component.HostStatus) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, new(component.HostStatus)); err != nil {
		return err
	}
	old := d.statuses[name]
	if string(b) == string(old) {
		return nil
	}
	d.quiet = sameButMoving(old, st)
	d.statuses[name] = b
	d.changed = append(d.changed, name)
	return nil
}

// sameButMoving reports whether st says what old says, but for what changes without anything
// happening.
func sameButMoving(old json.RawMessage, st component.HostStatus) bool {
	var was component.HostStatus
	if old == nil || json.Unmarshal(old, &was) != nil {
		return false
	}
	a, errA := json.Marshal(was.Still())
	b, errB := json.Marshal(st.Still())
	return errA == nil && errB == nil && string(a) == string(b)
}

// named adds what was tried to err.
func named(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s component %q: %w", what, name, err)
}
