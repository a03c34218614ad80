package localstate

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/gantryd/gantryd/pkg/component"
)

// A listener is told of changes. wake has room for one token, so that a change during the work on
// the one before is not missed; it is never closed.
type listener struct {
	name  string // "" for all components
	loop  bool   // a Run: not told of quiet changes, wants the names
	wake  chan struct{}
	names map[string]struct{} // changed since the last look, for a Run; guarded by Store.mu
}

func (s *Store) listen(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = struct{}{}
}

func (s *Store) forget(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// pending are the changes since the last call, "" alone when it stands for all.
func (s *Store) pending(l *listener) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(l.names))
	clear(l.names)
	if len(names) > 0 && names[0] == "" {
		return names[:1]
	}
	return names
}

func (s *Store) notify(names []string, quiet bool) {
	for _, l := range s.concerned(names, quiet) {
		select {
		case l.wake <- struct{}{}:
		default: // it is going to look anyway
		}
	}
}

// concerned are the listeners to wake; what changed is noted with them.
func (s *Store) concerned(names []string, quiet bool) []*listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ls []*listener
	for l := range s.listeners {
		if !l.concerns(names, quiet) {
			continue
		}
		ls = append(ls, l)
		if l.loop {
			for _, n := range names {
				l.names[n] = struct{}{}
			}
		}
	}
	return ls
}

func (l *listener) concerns(names []string, quiet bool) bool {
	if l.loop {
		return len(names) > 0 && !quiet
	}
	return slices.ContainsFunc(names, func(n string) bool { return l.name == "" || n == "" || n == l.name })
}

// Changes returns a channel that gets a value after each change of the component's view, any
// component's when name is empty. Changes in quick succession give one value: look at View, or
// Status, then wait again. Call stop when done; the channel is never closed.
func (s *Store) Changes(name string) (changed <-chan struct{}, stop func()) {
	l := &listener{name: name, wake: make(chan struct{}, 1)}
	s.listen(l)
	return l.wake, func() { s.forget(l) }
}

// Wait blocks until done says so of the component's view, which it is asked at first and after each
// change, and returns that view. When ctx ends it returns the last view and the cause.
func (s *Store) Wait(ctx context.Context, name string, done func(component.View) bool) (component.View, error) {
	changed, stop := s.Changes(name)
	defer stop()
	for {
		v := s.View(name)
		if done(v) {
			return v, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return v, fmt.Errorf("wait for component %q: %w", name, context.Cause(ctx))
		}
	}
}
