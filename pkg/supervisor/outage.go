package supervisor

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// heed reads the view of a component, and from it whether an operator took this host out of service: by the store's
// word, or while that is silent or not to be trusted by what was heard last. Of two workers the later one sees no older
// word.
func (s *Supervisor) heed(name string, known bool) (component.View, *component.HostDrain) {
	s.heeding.Lock()
	view := s.Store.View(name)
	is, changed := s.hears(view, known)
	s.heeding.Unlock()
	if changed {
		s.saveHost()
		s.tellOutage(is)
		s.changed("")
		s.poke()
	}
	return view, is
}

// hears takes in what the view says of this host, and reports whether that is news.
func (s *Supervisor) hears(view component.View, known bool) (is *component.HostDrain, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.host.Drained
	d, drained := view.Drained[s.Host]
	switch {
	case !known, !drained && was == nil, drained && was != nil && was.Revision == d.Revision:
		return was, false
	case !drained:
		s.host.Drained = nil
	default:
		d.Since = now()
		s.host.Drained = &d
	}
	return s.host.Drained, true
}

func (s *Supervisor) tellOutage(is *component.HostDrain) {
	e := component.Event{At: now(), Host: s.Host, Kind: component.EventHost, Text: "Host is in service again"}
	if is == nil {
		s.Log.Info("host in service again")
	} else {
		s.Log.Warn("host out of service: no new connections, no turns", "by", is.By, "reason", is.Reason)
		e.Text, e.Detail = "Host is out of service: it takes no new connections", is.String()
	}
	s.Report(e)
}

// leave notes that the unit's listeners are what they should be by the word of this pass.
func (u *unit) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.left = 0
	if u.out != nil {
		u.left = u.out.Revision
	}
}

// outage is the word by which this host is out of service, nil when it is in service.
func (s *Supervisor) outage() *component.HostDrain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.host.Drained
}

// home are the addresses of this host's own containers: what they have among themselves is not served to anybody.
func (s *Supervisor) home() []netip.Addr {
	var out []netip.Addr
	for _, u := range s.allUnits() {
		u.mu.Lock()
		for _, c := range u.seen {
			if a, err := netip.ParseAddr(c.Addr); err == nil && !a.IsLoopback() {
				out = append(out, a)
			}
		}
		u.mu.Unlock()
	}
	return out
}

// guests counts the connections of a container that others than this host's own containers have.
func (s *Supervisor) guests(id string, home []netip.Addr) int {
	if s.Router.Conns(id).Open == 0 {
		return 0
	}
	return s.Router.Guests(id, home)
}

// guestsOf counts them of each container while the host is out of service.
func (s *Supervisor) guestsOf(u *unit, cs []component.EngineContainer) []int {
	counts := make([]int, len(cs))
	if u.out == nil {
		return counts
	}
	home := s.home()
	for i, c := range cs {
		counts[i] = s.guests(c.ID, home)
	}
	return counts
}

// vacant reports whether every component has acted on the word, and nobody is left but the host's own containers.
func (s *Supervisor) vacant(d *component.HostDrain) bool {
	home := s.home()
	for _, u := range s.allUnits() {
		u.mu.Lock()
		heard := u.left == d.Revision
		ids := make([]string, 0, len(u.seen))
		for id := range u.seen {
			ids = append(ids, id)
		}
		u.mu.Unlock()
		if !heard && s.runs(u.name) {
			return false
		}
		for _, id := range ids {
			if s.guests(id, home) > 0 {
				return false
			}
		}
	}
	return true
}

// serviceOf is m as the others are told of it while the host is out of service by the word d.
func (s *Supervisor) serviceOf(m component.Machine, d *component.HostDrain) component.Machine {
	m.Links, m.Drain, m.Status = map[string]string{}, d.Revision, component.MachineDraining
	if s.vacant(d) {
		m.Status = component.MachineDrained
	}
	return m
}

// turnOut cuts what others have of a container that goes on, because its host is out of service for longer than its
// drain may take.
func (s *Supervisor) turnOut(ctx context.Context, st step) (time.Time, error) {
	id, rate, home := st.act.Container, st.want.Spec.Drain.Rate, s.home()
	left := s.guests(id, home)
	s.Log.Warn("drain deadline of the host reached, cutting connections", "component", st.u.name, "container", component.Short(id), "connections", left)
	s.report(st.u, component.EventDrain, id, fmt.Sprintf("Drain deadline of the host reached, cutting %d connections", left), "")
	ctx, cancel := context.WithCancel(ctx)
	st.u.edit(id, func(l *live) { l.out, l.rate = cancel, rate })
	s.task(st.u.name, func() {
		defer cancel()
		defer st.u.edit(id, func(l *live) { l.out = nil })
		s.Router.Cut(ctx, id, rate, home)
	})
	return time.Time{}, nil
}
