package etcdstate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/pkg/component"
)

// maxTries bounds how often a write looks again because something changed between its reading and
// its writing. Each try but the last lost against a write of another host.
const maxTries = 8

// ending is the end of a turn whose outcome is unknown.
type ending struct {
	value  string
	status component.HostStatus
}

// TakeTurn takes a free slot below slots for at.Desired.Generation, provided that neither the state
// nor the rollout record changed since at, and writes the record that the turn makes: a turn to repair
// undoes neither a halt nor an end. All turns count, also those in slots that no longer exist, and so do
// hosts that were lost in one. A turn this host has already is used again.
func (s *Store) TakeTurn(ctx context.Context, name string, slots int, at component.View) error {
	letGo, err := s.turnTo(ctx, name)
	if err != nil {
		return fmt.Errorf("take turn of %q: %w", name, err)
	}
	defer letGo()
	if err := s.takeTurn(ctx, name, slots, at); err != nil {
		return fmt.Errorf("take turn of %q: %w", name, err)
	}
	s.mu.Lock()
	delete(s.endings, name)
	s.mu.Unlock()
	return nil
}

func (s *Store) takeTurn(ctx context.Context, name string, slots int, at component.View) error {
	if at.Desired.Generation == 0 {
		return fmt.Errorf("%w: no state", component.ErrChanged)
	}
	op, asOf := newID(), int64(0)
	for range maxTries {
		f, err := s.lookForTurn(name, slots, at, asOf)
		if err != nil || f.taken {
			return err
		}
		writes, err := s.turnWrites(name, f, at, op)
		if err != nil {
			return err
		}
		state, rollout, turns := s.keys.state(name), s.keys.rollout(name), s.keys.turns(name)
		cmps := []clientv3.Cmp{
			unchanged(state, at.Desired.Generation),
			unchanged(rollout, at.RolloutRevision),
			unchanged(s.keys.turn(name, f.slot), f.revision),
			clientv3.Compare(clientv3.ModRevision(turns), "<", f.asOf+1).WithPrefix(), // no turn that was not counted
		}
		done, revision, err := s.commit(ctx, cmps, writes, reads(turns, state, rollout))
		if err != nil || done {
			return err
		}
		asOf = revision
	}
	return component.ErrTurnTaken
}

// free is a slot to take.
type free struct {
	taken    bool // this host has the turn already
	slot     int
	revision int64 // of the turn this host has in the slot, 0 when nobody has it
	leave    int   // slot of an own turn to give up, -1 for none
	asOf     int64 // revision up to which all turns are known
	lease    clientv3.LeaseID
}

// lookForTurn chooses a slot by what is known now, or says why there is none. All turns were read
// at asOf, if not later.
func (s *Store) lookForTurn(name string, slots int, at component.View, asOf int64) (free, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lease.registered {
		return free{}, errNoLease
	}
	d := s.cache.components[name]
	if d == nil || d.desired.Generation != at.Desired.Generation {
		return free{}, fmt.Errorf("%w: generation %d is not the newest", component.ErrChanged, at.Desired.Generation)
	}
	f := free{leave: -1, asOf: max(s.cache.complete, d.asOf, asOf), lease: s.lease.id}
	slot, mine, has := s.ownTurn(name)
	switch {
	case has && !time.Now().Before(s.lease.until): // not before it is known to have the lease still
		return free{}, errNoLease
	case has && mine.Generation == at.Desired.Generation:
		return free{taken: true}, nil
	}
	if s.cache.known[s.keys.rollout(name)].mod != at.RolloutRevision {
		return free{}, fmt.Errorf("%w: the rollout record is another", component.ErrChanged)
	}
	v := s.cache.view(name)
	v.Turn.Repair = at.Turn.Repair
	busy := v.Busy(s.host)
	switch {
	case len(busy) >= slots:
		return free{}, fmt.Errorf("%w by %v", component.ErrTurnTaken, busy)
	case has && slot < slots:
		f.slot, f.revision = slot, mine.mod
		return f, nil
	case has:
		f.leave = slot
	}
	for f.slot = 0; ; f.slot++ { // fewer than slots are taken: one below is free
		if _, taken := d.turns[f.slot]; !taken {
			return f, nil
		}
	}
}

// turnWrites are the turn itself, which is first, the own one given up for it, what stays of it should
// the host be lost, and the record.
func (s *Store) turnWrites(name string, f free, at component.View, op string) ([]write, error) {
	generation := at.Desired.Generation
	key := s.keys.turn(name, f.slot)
	value, err := encode(key, turnValue{Host: s.host, Generation: generation, Repair: at.Turn.Repair, Task: at.Turn.Task, Operation: op})
	if err != nil {
		return nil, err
	}
	writes := []write{put(key, value, f.lease)}
	if f.leave >= 0 {
		writes = append(writes, remove(s.keys.turn(name, f.leave)))
	}
	if at.Marked() {
		key = s.keys.changing(name, s.host)
		if value, err = encode(key, turnValue{Host: s.host, Generation: generation, Operation: op}); err != nil {
			return nil, err
		}
		writes = append(writes, put(key, value, clientv3.NoLease))
	}
	r, changed := at.Taken(s.host, now())
	if !changed {
		return writes, nil
	}
	value, err = s.rolloutOver(name, r, op)
	return append(writes, put(s.keys.rollout(name), value, clientv3.NoLease)), err
}

// EndTurn publishes st, writes r when it is not nil, and gives the turn up, in one transaction that
// needs the turn. A record that says more than r stays: one of a newer generation, or a halt.
func (s *Store) EndTurn(ctx context.Context, name string, st component.HostStatus, r *component.Rollout) error {
	letGo, err := s.turnTo(ctx, name)
	if err != nil {
		return fmt.Errorf("end turn of %q: %w", name, err)
	}
	defer letGo()
	e, err := s.ending(name, st)
	if err == nil {
		err = s.endTurn(ctx, name, e, r)
	}
	s.mu.Lock()
	if errors.Is(err, component.ErrUnreachable) {
		s.endings[name] = e
	} else {
		delete(s.endings, name)
	}
	if err == nil || errors.Is(err, component.ErrUnreachable) {
		s.published[name] = clone(st)
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("end turn of %q: %w", name, err)
	}
	return nil
}

// ending is the end of a turn to write: the one that was begun, when st is the same.
func (s *Store) ending(name string, st component.HostStatus) (ending, error) {
	s.mu.Lock()
	e, ok := s.endings[name]
	s.mu.Unlock()
	if ok && same(e.status, st) {
		return e, nil
	}
	value, err := encode(s.keys.host(name, s.host), hostValue{st, newID()})
	return ending{value: value, status: clone(st)}, err
}

func (s *Store) endTurn(ctx context.Context, name string, e ending, r *component.Rollout) error {
	host, rollout := s.keys.host(name, s.host), s.keys.rollout(name)
	for range maxTries {
		s.mu.Lock()
		slot, mine, has := s.ownTurn(name)
		id, at := s.lease.id, s.cache.known[host].mod
		record, recordAt := s.cache.rollout(name)
		_, changing := s.cache.known[s.keys.changing(name, s.host)]
		passed := s.cache.view(name).Spec().Rollout.MaxFailures
		s.mu.Unlock()
		if !has {
			return s.ended(ctx, name, e)
		}
		key := s.keys.turn(name, slot)
		cmps := []clientv3.Cmp{unchanged(key, mine.mod), unchanged(host, at)}
		writes := []write{put(host, e.value, id), remove(key)}
		if changing {
			writes = append(writes, remove(s.keys.changing(name, s.host)))
		}
		if next, news := after(record, r, passed); news {
			value, err := s.rolloutOver(name, next, newID())
			if err != nil {
				return err
			}
			cmps = append(cmps, unchanged(rollout, recordAt))
			writes = append(writes, put(rollout, value, clientv3.NoLease))
		}
		done, _, err := s.commit(ctx, cmps, writes, reads(host, key, rollout))
		switch {
		case errors.Is(err, errNoLease):
			return fmt.Errorf("%w: the lease ended", component.ErrTurnLost)
		case err != nil || done:
			return err
		}
	}
	return fmt.Errorf("%w: the record changes too often", component.ErrUnreachable)
}

// ended is nil when the turn this host does not have any more was ended by e.
func (s *Store) ended(ctx context.Context, name string, e ending) error {
	s.mu.Lock()
	_, unknown := s.endings[name]
	s.mu.Unlock()
	if !unknown {
		return component.ErrTurnLost
	}
	resp, err := s.client.get(ctx, s.keys.host(name, s.host))
	if err != nil {
		return s.failing(err)
	}
	if len(resp.Kvs) == 1 && string(resp.Kvs[0].Value) == e.value {
		return nil
	}
	return component.ErrTurnLost
}

// after is what becomes of the record when r is reported, and whether that is anything new.
func after(record component.Rollout, r *component.Rollout, maxFailures int) (component.Rollout, bool) {
	if r == nil {
		return record, false
	}
	return record.After(*r, maxFailures)
}

// rolloutOver is the value of a rollout key with r in place of what is known; the write is to depend on that being
// there still.
func (s *Store) rolloutOver(name string, r component.Rollout, op string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache.rolloutOver(name, r, op)
}

// Returned takes the trace of this host's turn away, when it is of that revision still.
func (s *Store) Returned(ctx context.Context, name string, revision int64) error {
	letGo, err := s.turnTo(ctx, name)
	if err != nil {
		return fmt.Errorf("return to %q: %w", name, err)
	}
	defer letGo()
	key := s.keys.changing(name, s.host)
	// To remove a key that was removed, after a lost answer, is refused and as good.
	_, _, err = s.commit(ctx, []clientv3.Cmp{unchanged(key, revision)}, []write{remove(key)}, reads(key))
	if err != nil {
		return fmt.Errorf("return to %q: %w", name, err)
	}
	return nil
}

// Rollback makes the newest past release that ended done what is asked for, in by's name; with all
// components that are one release with it, in one transaction.
func (s *Store) Rollback(ctx context.Context, name string, by component.Desired, at component.View) error {
	defer failpoint.Around(failpoint.Rollback)()
	back := s.client.rollback
	if slices.Contains(at.Desired.Together, name) {
		back = s.client.rollbackTogether
	}
	if err := back(ctx, s.keys, name, by, at); err != nil {
		return fmt.Errorf("roll %q back: %w", name, s.failing(err))
	}
	return nil
}

// PutRollout writes r, provided that neither the state nor the record changed since at.
func (s *Store) PutRollout(ctx context.Context, name string, r component.Rollout, at component.View) error {
	letGo, err := s.turnTo(ctx, name)
	if err != nil {
		return fmt.Errorf("write rollout of %q: %w", name, err)
	}
	defer letGo()
	state, key := s.keys.state(name), s.keys.rollout(name)
	value, err := s.rolloutOver(name, r, newID())
	if err != nil {
		return err
	}
	cmps := []clientv3.Cmp{unchanged(state, at.Desired.Generation), unchanged(key, at.RolloutRevision)}
	done, _, err := s.commit(ctx, cmps, []write{put(key, value, clientv3.NoLease)}, reads(key, state))
	if err == nil && !done {
		err = component.ErrChanged
	}
	if err != nil {
		return fmt.Errorf("write rollout of %q: %w", name, err)
	}
	return nil
}

// now is the time as it is written to the store.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
