package supervisor

import (
	"context"
	"fmt"
	"time"
)

// pauseTick is how often Pause looks whether everything has come to its end.
const pauseTick = 5 * time.Millisecond

// Pause begins no more passes, and returns once no pass and no operation on a container is under
// way. Probes go on, and so do pulls and cuts of connections, which whoever comes next begins again. When
// ctx ends before, passes go on and the error says what took so long.
func (s *Supervisor) Pause(ctx context.Context) error {
	s.mu.Lock()
	if s.paused == nil {
		s.paused = make(chan struct{})
	}
	s.mu.Unlock()
	tick := time.NewTicker(pauseTick)
	defer tick.Stop()
	for {
		busy := s.underWay()
		if busy == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.Resume()
			return fmt.Errorf("wait for what is under way: %s", busy)
		}
	}
}

// Resume lets passes begin again after Pause.
func (s *Supervisor) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != nil {
		close(s.paused)
		s.paused = nil
	}
}

// underWay is one of the things that must not be broken off, for people; empty when there is none.
func (s *Supervisor) underWay() string {
	s.mu.Lock()
	for name := range s.passing {
		s.mu.Unlock()
		return fmt.Sprintf("a pass over component %q", name)
	}
	s.mu.Unlock()
	for _, u := range s.allUnits() {
		if what := u.underWay(); what != "" {
			return fmt.Sprintf("%s of component %q", what, u.name)
		}
	}
	return ""
}

func (u *unit) underWay() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.live {
		switch {
		case l.signalling:
			return "termination signals"
		case l.busy != "" && l.busy != cutting:
			return l.busy
		}
	}
	return ""
}
