package supervisor

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/gantryd/gantryd/pkg/component"
)

// primary is the container that new connections go to.
type primary struct {
	id   string
	addr string // IP address
	spec component.Spec
}

// applyRoutes makes the listeners of a component what they should be, and takes connections off the
// containers that drain.
func (s *Supervisor) applyRoutes(ctx context.Context, u *unit, want component.Desired, turn component.Turn, cs []component.EngineContainer, rec component.Record) error {
	p := findPrimary(cs, rec, want)
	u.routes = listeners(u.name, s.Bind, routed(want, turn, rec, p), p)
	if u.out != nil {
		u.routes = closed(u.routes) // links are told to go elsewhere, and who comes meanwhile is served
	}
	err := s.Router.Apply(u.name, u.routes)
	for id, c := range rec.Containers {
		if c.Stage == component.Draining {
			s.Router.Drain(id)
		}
	}
	if linkErr := s.applyLinks(ctx, want, rec, p); err == nil {
		err = linkErr
	}
	return err
}

// findPrimary returns the container that takes connections, nil when there is none.
func findPrimary(cs []component.EngineContainer, rec component.Record, want component.Desired) *primary {
	i := slices.IndexFunc(cs, func(c component.EngineContainer) bool { return c.ID == rec.Primary })
	if i < 0 || cs[i].State != component.RunRunning || cs[i].Addr == "" {
		return nil
	}
	spec := cs[i].Release.Spec
	switch { // the settings that only steer gantryd may be newer than the container
	case want.Spec != nil && want.Release().Hash() == cs[i].Hash:
		spec = *want.Spec
	case rec.Proven != nil && rec.Proven.Hash() == cs[i].Hash:
		spec = rec.Proven.Spec
	}
	return &primary{id: cs[i].ID, addr: cs[i].Addr, spec: spec}
}

// routed are the configurations whose ports are listened on: the one that serves, and the wanted one
// once this host is about to bring it up. So a port that cannot be opened is known before any
// container changes, and a listener never goes away while its component is desired.
func routed(want component.Desired, turn component.Turn, rec component.Record, p *primary) []component.Spec {
	if want.Status == component.StatusStopped || want.Status == component.StatusKilled {
		return nil
	}
	var specs []component.Spec
	if p != nil {
		specs = append(specs, p.spec)
	} else if rec.Proven != nil && rec.Served {
		specs = append(specs, rec.Proven.Spec)
	}
	if want.Spec == nil {
		return specs
	}
	if proven := rec.Proven != nil && rec.Proven.Hash() == want.Release().Hash(); len(specs) == 0 || proven || turn.State == component.TurnMine {
		specs = append(specs, *want.Spec)
	}
	return specs
}

// listeners are the listeners for the ports of specs. The first of specs that names an external port
// has it for itself: what a release to come would match there takes nothing away from what serves.
// The first one is that of p, when there is one, and the only one with a target.
func listeners(name, bind string, specs []component.Spec, p *primary) []Listener {
	var ls []Listener
	taken := make(map[int]bool)
	for i, spec := range specs {
		for n, port := range spec.Ports {
			if taken[port.External] {
				continue
			}
			l := Listener{
				Name: listenerName(name, spec.Ports, n), Addrs: []string{join(bind, port.External)},
				Kind: kind(port.Kind), Port: port, Hold: spec.Hold, Maintenance: spec.Maintenance,
			}
			if p != nil && i == 0 {
				l.TargetID, l.Target = p.id, join(p.addr, port.Container)
			}
			ls = append(ls, l)
		}
		for _, port := range spec.Ports {
			taken[port.External] = true
		}
	}
	return ls
}

// closed are ls without their addresses: nobody new comes in, and who has just come is served, or held.
func closed(ls []Listener) []Listener {
	ls = slices.Clone(ls)
	for i := range ls {
		ls[i].Addrs = nil
	}
	return ls
}

// listenerName is the name of the listener of ports[n]: unique on the host, and the same for the ports
// of the next release. The second port of one external port is web:80#2.
func listenerName(name string, ports []component.Port, n int) string {
	nth := 1
	for _, p := range ports[:n] {
		if p.External == ports[n].External {
			nth++
		}
	}
	lname := fmt.Sprintf("%s:%d", name, ports[n].External)
	if nth > 1 {
		lname += fmt.Sprintf("#%d", nth)
	}
	return lname
}

func join(ip string, port int) string { return net.JoinHostPort(ip, strconv.Itoa(port)) }

func kind(k string) string {
	if k == "" {
		return component.KindTCP
	}
	return k
}
