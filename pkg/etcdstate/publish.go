package etcdstate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/pkg/component"
)

// Publish stores what this host sees of the component; while it has the turn, only if it still has.
// What differs from the published value in At only is not written. What could not be written
// because etcd did not answer, or the lease was lost, is written when there is a lease again.
func (s *Store) Publish(ctx context.Context, name string, st component.HostStatus) error {
	letGo, err := s.turnTo(ctx, name)
	if err != nil {
		return fmt.Errorf("publish %q: %w", name, err)
	}
	defer letGo()
	err = s.publish(ctx, name, st)
	if err == nil || errors.Is(err, component.ErrUnreachable) {
		s.mu.Lock()
		s.published[name] = clone(st)
		s.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("publish %q: %w", name, err)
	}
	return nil
}

func (s *Store) publish(ctx context.Context, name string, st component.HostStatus) error {
	key := s.keys.host(name, s.host)
	value, err := encode(key, hostValue{st, newID()})
	if err != nil {
		return err
	}
	fenced := false
	for range maxTries {
		s.mu.Lock()
		slot, mine, has := s.ownTurn(name)
		l, at := s.lease, s.cache.known[key]
		current := component.HostStatus{}
		if d := s.cache.components[name]; d != nil {
			current = d.hosts.get(s.host)
		}
		s.mu.Unlock()
		switch {
		case fenced && !has:
			return component.ErrTurnLost
		case !l.registered:
			return errNoLease
		case at.mod != 0 && at.lease == l.id && same(current, st):
			return nil
		}
		cmps, instead := []clientv3.Cmp{unchanged(key, at.mod)}, reads(key)
		if has {
			fenced = true
			turn := s.keys.turn(name, slot)
			cmps, instead = append(cmps, unchanged(turn, mine.mod)), append(instead, read(turn))
		}
		done, _, err := s.commit(ctx, cmps, []write{put(key, value, l.id)}, instead)
		switch {
		case errors.Is(err, errNoLease) && fenced:
			return fmt.Errorf("%w: the lease ended", component.ErrTurnLost)
		case err != nil || done:
			return err
		}
	}
	return fmt.Errorf("%w: %q changes too often, does another daemon write it?", component.ErrUnreachable, key)
}

// same compares what two statuses say, not when.
func same(a, b component.HostStatus) bool {
	a.At, b.At = time.Time{}, time.Time{}
	return equal(a, b)
}

// equal compares values as they are stored: there, an empty slice is none and a time has no zone.
func equal[T any](a, b T) bool {
	x, xerr := json.Marshal(a)
	y, yerr := json.Marshal(b)
	return xerr == nil && yerr == nil && bytes.Equal(x, y)
}

// PublishMachine stores what this host is. The nonce is the store's own; the time it started and
// its status are the store's when m has none.
func (s *Store) PublishMachine(ctx context.Context, m component.Machine) error {
	letGo, err := s.turnTo(ctx, "")
	if err != nil {
		return fmt.Errorf("publish machine %q: %w", s.host, err)
	}
	defer letGo()
	m = clone(m)
	m.StartedAt = m.StartedAt.UTC()
	s.mu.Lock()
	m.Nonce = s.nonce
	if m.StartedAt.IsZero() {
		m.StartedAt = s.machine.StartedAt
	}
	if m.Status == "" {
		m.Status = s.machine.Status
	}
	s.machine = m
	s.mu.Unlock()
	if err := s.publishMachine(ctx, m); err != nil {
		return fmt.Errorf("publish machine %q: %w", s.host, err)
	}
	return nil
}

func (s *Store) publishMachine(ctx context.Context, m component.Machine) error {
	key := s.keys.machine(s.host)
	value, err := encode(key, machineValue{m, newID()})
	if err != nil {
		return err
	}
	for range maxTries {
		s.mu.Lock()
		l, at, current := s.lease, s.cache.known[key], s.cache.machines.get(s.host)
		s.mu.Unlock()
		switch {
		case !l.registered || at.lease != l.id:
			return errNoLease
		case equal(current, m):
			return nil
		}
		after := failpoint.Around(failpoint.PublishMachine)
		done, _, err := s.commit(ctx, []clientv3.Cmp{unchanged(key, at.mod)}, []write{put(key, value, l.id)}, reads(key))
		after()
		if err != nil || done {
			return err
		}
	}
	return fmt.Errorf("%w: %q changes too often, does another daemon write it?", component.ErrUnreachable, key)
}

// repairBriefly is repair for as long as a renewal may take: when etcd is slow, because all hosts come back
// at once, the lease must not end meanwhile. The next renewal goes on with it.
func (s *Store) repairBriefly(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.answerTime())
	defer cancel()
	return s.repair(ctx)
}

// repair writes again what this host published and etcd has lost, with the lease or by hand. It
// says false when the machine's key is not ours any more.
func (s *Store) repair(ctx context.Context) bool {
	s.mu.Lock()
	if !s.cache.listed { // and the lease is another process's: its keys are not known yet
		s.mu.Unlock()
		return true
	}
	l, machine := s.lease, s.cache.known[s.keys.machine(s.host)]
	stale := !equal(s.cache.machines.get(s.host), s.machine)
	var lost []string
	for name := range s.published {
		if s.cache.known[s.keys.host(name, s.host)].lease != l.id {
			lost = append(lost, name)
		}
	}
	s.mu.Unlock()
	if machine.lease != l.id {
		return false
	}
	if stale {
		if err := s.machineAgain(ctx); err != nil {
			s.log.Debug("machine not published again yet", "err", err)
			return true
		}
	}
	for _, name := range lost {
		if err := s.publishAgain(ctx, name); err != nil {
			s.log.Debug("status not published again yet", "component", name, "err", err)
			return true // the next renewal tries again
		}
	}
	return true
}

func (s *Store) machineAgain(ctx context.Context) error {
	letGo, err := s.turnTo(ctx, "")
	if err != nil {
		return err
	}
	defer letGo()
	s.mu.Lock()
	m := clone(s.machine)
	s.mu.Unlock()
	return s.publishMachine(ctx, m)
}

func (s *Store) publishAgain(ctx context.Context, name string) error {
	letGo, err := s.turnTo(ctx, name)
	if err != nil {
		return err
	}
	defer letGo()
	s.mu.Lock()
	st := clone(s.published[name])
	s.mu.Unlock()
	return s.publish(ctx, name, st)
}
