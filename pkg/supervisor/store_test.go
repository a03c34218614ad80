package supervisor_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// memStore is a Store in memory, of one host, with an operator's side and with faults.
type memStore struct {
	host string

	mu       sync.Mutex // guards what follows
	revision int64
	cluster  string
	adoption component.Adoption
	silent   bool  // nothing answers: writes fail, turns cannot be had
	endErr   error // of EndTurn
	views    map[string]*component.View
	machines map[string]component.Machine
	others   map[string][]string // who has turns besides this host, by component
	changed  func(string)
	puts     []component.HostStatus // every status published, in order

	good      map[string]component.Desired // the last one that ended done, by component
	rollbacks int
	forbid    bool // rollbacks are not permitted
	tries     int  // of those
	drained   map[string]component.HostDrain
}

func newStore(host string) *memStore {
	return &memStore{
		host: host, cluster: "cluster", views: map[string]*component.View{},
		machines: map[string]component.Machine{}, others: map[string][]string{},
		good: map[string]component.Desired{},
	}
}

func (s *memStore) Run(ctx context.Context, changed func(string)) error {
	s.mu.Lock()
	s.changed = changed
	s.mu.Unlock()
	changed("")
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = nil
	for _, v := range s.views { // the lease ends
		v.Turn, v.Hosts = component.Turn{}, map[string]component.HostStatus{}
	}
	delete(s.machines, s.host)
	return context.Cause(ctx)
}

func (s *memStore) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.views))
}

func (s *memStore) View(name string) component.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := *s.view(name)
	v.Hosts, v.Machines, v.Drained = maps.Clone(v.Hosts), maps.Clone(s.machines), maps.Clone(s.drained)
	for _, h := range s.others[name] {
		v.Turn.Holders = append(slices.Clone(v.Turn.Holders), h)
	}
	if s.silent && v.Turn.State != component.TurnMine {
		v.Turn = component.Turn{State: component.TurnUnreachable}
	}
	return v
}

// drain takes a host out of service; without a reason, back into it.
func (s *memStore) drain(host, reason string) {
	s.mu.Lock()
	s.drained = maps.Clone(s.drained)
	delete(s.drained, host)
	if s.revision++; reason != "" {
		if s.drained == nil {
			s.drained = map[string]component.HostDrain{}
		}
		s.drained[host] = component.HostDrain{Word: component.Word{By: "ann", Reason: reason}, Revision: s.revision}
	}
	changed := s.changed
	s.mu.Unlock()
	changed("")
}

func (s *memStore) view(name string) *component.View {
	v, ok := s.views[name]
	if !ok {
		v = &component.View{Hosts: map[string]component.HostStatus{}}
		s.views[name] = v
	}
	return v
}

func (s *memStore) Cluster() component.Cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return component.Cluster{ID: s.cluster, Revision: s.revision, Reachable: !s.silent, Adoption: s.adoption}
}

// write makes one change and tells of it.
func (s *memStore) write(name string, f func(*component.View) error) error {
	s.mu.Lock()
	if s.silent {
		s.mu.Unlock()
		return component.ErrUnreachable
	}
	err := f(s.view(name))
	changed := s.changed
	s.mu.Unlock()
	if err == nil && changed != nil {
		changed(name)
	}
	return err
}

func (s *memStore) TakeTurn(_ context.Context, name string, slots int, at component.View) error {
	return s.write(name, func(v *component.View) error {
		switch {
		case v.Desired.Generation != at.Desired.Generation || v.RolloutRevision != at.RolloutRevision:
			return component.ErrChanged
		case len(s.others[name]) >= slots:
			return component.ErrTurnTaken
		}
		s.revision++
		v.Turn = component.Turn{State: component.TurnMine, Generation: at.Desired.Generation, Repair: at.Turn.Repair, Task: at.Turn.Task, Holders: []string{s.host}}
		if at.Turn.Task {
			v.Turn.Tasker = s.host
		}
		v.Rollout, _ = at.Taken(s.host, time.Now())
		v.RolloutRevision = s.revision
		return nil
	})
}

func (s *memStore) EndTurn(_ context.Context, name string, st component.HostStatus, r *component.Rollout) error {
	return s.write(name, func(v *component.View) error {
		if s.endErr != nil {
			return s.endErr
		}
		if v.Turn.State != component.TurnMine {
			return component.ErrTurnLost
		}
		s.revision++
		v.Turn, v.Hosts[s.host] = component.Turn{}, st
		if r != nil {
			v.Rollout, _ = v.Rollout.After(*r, v.Spec().Rollout.MaxFailures)
			v.RolloutRevision = s.revision
		}
		return nil
	})
}

func (s *memStore) Returned(_ context.Context, name string, revision int64) error {
	return s.write(name, func(v *component.View) error {
		if v.Changing[s.host] == revision {
			delete(v.Changing, s.host)
		}
		return nil
	})
}

func (s *memStore) Rollback(_ context.Context, name string, by component.Desired, at component.View) error {
	return s.write(name, func(v *component.View) error {
		switch {
		case v.Desired.Generation != at.Desired.Generation || v.RolloutRevision != at.RolloutRevision:
			return component.ErrChanged
		case s.forbid:
			s.tries++
			return errors.New("permission denied")
		case s.good[name].Status == "":
			return component.ErrNoRelease
		}
		d := component.Past{Generation: s.good[name].Generation, Desired: s.good[name]}.Back(v.Config)
		d.By, d.Reason, d.Automatic, d.Operation = by.By, by.Reason, by.Automatic, by.Operation
		s.revision++
		d.Generation = s.revision
		v.Desired = d
		s.rollbacks++
		return nil
	})
}

func (s *memStore) PutRollout(_ context.Context, name string, r component.Rollout, at component.View) error {
	return s.write(name, func(v *component.View) error {
		if v.Desired.Generation != at.Desired.Generation || v.RolloutRevision != at.RolloutRevision {
			return component.ErrChanged
		}
		s.revision++
		v.Rollout, v.RolloutRevision = r, s.revision
		if r.Status == component.RolloutDone {
			s.good[name] = v.Desired
		}
		return nil
	})
}

func (s *memStore) Publish(_ context.Context, name string, st component.HostStatus) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return component.ErrUnreachable
	}
	s.view(name).Hosts[s.host] = st
	s.puts = append(s.puts, st)
	return nil
}

func (s *memStore) PublishMachine(_ context.Context, m component.Machine) error {
	return s.setMachine(s.host, m)
}

// dies takes away what hangs on the lease of another host.
func (s *memStore) dies(host string) {
	s.mu.Lock()
	delete(s.machines, host)
	for _, v := range s.views {
		delete(v.Hosts, host)
	}
	changed := s.changed
	s.mu.Unlock()
	changed("")
}

func (s *memStore) setMachine(host string, m component.Machine) error {
	s.mu.Lock()
	changed := s.changed
	silent := s.silent
	if !silent {
		s.machines[host] = m
	}
	s.mu.Unlock()
	if silent {
		return component.ErrUnreachable
	}
	if changed != nil {
		changed("")
	}
	return nil
}

// set is an operator's write; it returns the generation.
func (s *memStore) set(d component.Desired, name string) int64 {
	var gen int64
	_ = s.write(name, func(v *component.View) error {
		s.revision++
		d.Generation, gen = s.revision, s.revision
		if d.Status != component.StatusReady {
			d.ImageID, d.Spec = v.Desired.ImageID, v.Desired.Spec
		}
		v.Desired = d
		return nil
	})
	return gen
}

// configure is an operator's write of the project's config.
func (s *memStore) configure(spec component.Spec) {
	_ = s.write(spec.Name, func(v *component.View) error {
		s.revision++
		v.Config = &spec
		return nil
	})
}

func (s *memStore) machine(host string) component.Machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machines[host]
}

// writes counts the statuses published.
func (s *memStore) writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.puts)
}

// fault changes how the store behaves, and wakes the host.
func (s *memStore) fault(f func(*memStore)) {
	s.mu.Lock()
	f(s)
	changed := s.changed
	s.mu.Unlock()
	if changed != nil {
		changed("")
	}
}
