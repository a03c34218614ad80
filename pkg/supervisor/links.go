package supervisor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"

	"github.com/gantryd/gantryd/pkg/component"
)

// Ports of links are taken from here: above the well-known ones and below those the kernel hands
// out for outgoing connections, so that a link finds its port free again after a restart.
const (
	firstLinkPort = 20000
	lastLinkPort  = 31999
)

// A linkTable is what this host knows of the links of the project.
type linkTable struct {
	applying sync.Mutex // held while listeners of links change

	mu    sync.Mutex // guards what follows
	local map[string]target
	where map[string]target // link → what it goes to now; absent when nowhere
}

// A LinkTarget is where the connections of a link go, for the process that comes after this one.
type LinkTarget struct {
	ID   string `json:"id"`
	Addr string `json:"addr"` // ip:port
}

// inherit begins with the targets that another process had.
func (l *linkTable) inherit(targets map[string]LinkTarget) {
	l.local, l.where = make(map[string]target), make(map[string]target)
	for name, t := range targets {
		l.where[name] = target{id: t.ID, addr: t.Addr}
	}
}

// LinkTargets are where the links go now.
func (s *Supervisor) LinkTargets() map[string]LinkTarget {
	s.links.mu.Lock()
	defer s.links.mu.Unlock()
	out := make(map[string]LinkTarget, len(s.links.where))
	for name, t := range s.links.where {
		out[name] = LinkTarget{ID: t.id, Addr: t.addr}
	}
	return out
}

// A target is where the connections of a link go.
type target struct {
	id   string
	addr string
}

// applyLinks brings the listeners of all links that the component exports or needs up to date. A
// link goes to the local exporter, else to the proxy of another host that has one.
func (s *Supervisor) applyLinks(ctx context.Context, want component.Desired, rec component.Record, p *primary) error {
	exported, needed := linksOf(want, rec, p)
	if len(exported)+len(needed) == 0 {
		return nil
	}
	s.links.applying.Lock()
	defer s.links.applying.Unlock()
	if s.setLocal(exported, p) {
		s.poke()            // other hosts are told
		defer s.changed("") // whoever waits for the link here
	}
	names := slices.Clone(needed)
	for _, l := range exported {
		if !slices.Contains(names, l.Name) {
			names = append(names, l.Name)
		}
	}
	for _, name := range names {
		if err := s.applyLink(ctx, name); err != nil {
			return fmt.Errorf("component link %q: %w", name, err)
		}
	}
	return nil
}

// linksOf are the links a component exports and needs.
func linksOf(want component.Desired, rec component.Record, p *primary) (exported []component.LinkDefinition, needed []string) {
	var specs []component.Spec
	if p != nil {
		specs = append(specs, p.spec)
	}
	if want.Spec != nil {
		specs = append(specs, *want.Spec)
	}
	if rec.Proven != nil {
		specs = append(specs, rec.Proven.Spec)
	}
	for _, spec := range specs {
		for _, l := range spec.DefineComponentLinks {
			if !slices.ContainsFunc(exported, func(o component.LinkDefinition) bool { return o.Name == l.Name }) {
				exported = append(exported, l)
			}
		}
		for _, l := range spec.RequireComponentLinks {
			if !slices.Contains(needed, l.Name) {
				needed = append(needed, l.Name)
			}
		}
	}
	return exported, needed
}

// setLocal notes which of the exported links a container of this host serves, and reports whether
// that changed.
func (s *Supervisor) setLocal(exported []component.LinkDefinition, p *primary) bool {
	s.links.mu.Lock()
	defer s.links.mu.Unlock()
	before := maps.Clone(s.links.local)
	for _, l := range exported {
		delete(s.links.local, l.Name)
		if p == nil {
			continue
		}
		for _, d := range p.spec.DefineComponentLinks {
			if d.Name == l.Name {
				s.links.local[l.Name] = target{id: p.id, addr: join(p.addr, d.Port)}
			}
		}
	}
	return !maps.Equal(before, s.links.local)
}

func (s *Supervisor) applyLink(ctx context.Context, name string) error {
	def, ok := s.definition(name)
	if !ok {
		return errors.New("not defined on any component")
	}
	port, err := s.linkPort(ctx, name)
	if err != nil {
		return err
	}
	addrs, err := s.linkAddrs(ctx, port)
	if err != nil {
		return err
	}
	t, ok := s.linkTarget(name)
	s.links.mu.Lock()
	if ok {
		s.links.where[name] = t
	} else {
		delete(s.links.where, name)
	}
	s.links.mu.Unlock()
	l := Listener{Name: "link:" + name, Addrs: addrs, Kind: kind(def.Kind), TargetID: t.id, Target: t.addr}
	return s.Router.Apply(l.Name, []Listener{l})
}

// linkTarget is where a link goes now.
func (s *Supervisor) linkTarget(name string) (target, bool) {
	s.links.mu.Lock()
	t, ok := s.links.local[name]
	before, known := s.links.where[name]
	now := before.id
	s.links.mu.Unlock()
	if ok {
		return t, true
	}
	machines, drained := s.machines()
	if known && (len(machines) == 0 || s.Inherited && !s.isReady()) { // not everything was read yet in this process
		return before, true
	}
	hosts := slices.Sorted(maps.Keys(machines))
	slices.SortStableFunc(hosts, func(a, b string) int { // the one it goes to already comes first
		switch now {
		case remoteID(a):
			return -1
		case remoteID(b):
			return 1
		}
		return 0
	})
	for _, h := range hosts {
		if _, out := drained[h]; out {
			continue
		}
		if addr := machines[h].Links[name]; addr != "" && h != s.Host {
			return target{id: remoteID(h), addr: addr}, true
		}
	}
	return target{}, false
}

func remoteID(host string) string { return "host:" + host }

// machines are the daemons of the project, and the hosts that are out of service, as any component's view has them.
func (s *Supervisor) machines() (map[string]component.Machine, map[string]component.HostDrain) {
	for _, n := range s.Store.Names() {
		v := s.Store.View(n)
		return v.Machines, v.Drained
	}
	return nil, nil
}

// definition finds what a link is: in the desired states first, then in the project's config.
func (s *Supervisor) definition(name string) (component.LinkDefinition, bool) {
	find := func(spec *component.Spec) (component.LinkDefinition, bool) {
		if spec != nil {
			for _, l := range spec.DefineComponentLinks {
				if l.Name == name {
					return l, true
				}
			}
		}
		return component.LinkDefinition{}, false
	}
	for _, u := range s.allUnits() {
		if l, ok := find(u.record().Accepted.Spec); ok {
			return l, true
		}
	}
	for _, n := range s.Store.Names() {
		v := s.Store.View(n)
		if l, ok := find(v.Desired.Spec); ok {
			return l, true
		}
		if l, ok := find(v.Config); ok {
			return l, true
		}
	}
	return component.LinkDefinition{}, false
}

// linkPort is the port of a link on this host, chosen once and kept for ever.
func (s *Supervisor) linkPort(ctx context.Context, name string) (int, error) {
	s.mu.Lock()
	port, ok := s.host.LinkPorts[name]
	taken := slices.Collect(maps.Values(s.host.LinkPorts))
	s.mu.Unlock()
	if ok {
		return port, nil
	}
	for range 100 {
		port = firstLinkPort + rand.IntN(lastLinkPort-firstLinkPort+1) //nolint:gosec // spreads ports, no secret
		if slices.Contains(taken, port) || !free(ctx, s.Bind, port) {
			continue
		}
		s.mu.Lock()
		ports := maps.Clone(s.host.LinkPorts)
		if ports == nil {
			ports = make(map[string]int)
		}
		ports[name] = port
		s.host.LinkPorts = ports
		s.mu.Unlock()
		s.saveHost()
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d", firstLinkPort, lastLinkPort)
}

func free(ctx context.Context, ip string, port int) bool {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", join(ip, port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// linkAddrs are the addresses a link listens on: the host's, and the one containers see the host at.
func (s *Supervisor) linkAddrs(ctx context.Context, port int) ([]string, error) {
	addrs := []string{join(s.Bind, port)}
	if ip := net.ParseIP(s.Bind); ip != nil && ip.IsUnspecified() {
		return addrs, nil
	}
	for _, network := range s.importerNetworks() {
		gw, err := s.Engine.Gateway(ctx, network)
		if err != nil {
			return nil, err
		}
		if addr := join(gw, port); !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

// importerNetworks are the first networks of this host's components that need links.
func (s *Supervisor) importerNetworks() []string {
	var names []string
	for _, u := range s.allUnits() {
		spec := u.record().Accepted.Spec
		if spec == nil || len(spec.RequireComponentLinks) == 0 {
			continue
		}
		if n := network(*spec); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

func network(spec component.Spec) string {
	if len(spec.Networks) == 0 {
		return ""
	}
	return spec.Networks[0]
}

// linkEnv are the variables that tell a new container where its links are.
func (s *Supervisor) linkEnv(ctx context.Context, spec component.Spec) ([]string, error) {
	if len(spec.RequireComponentLinks) == 0 {
		return nil, nil
	}
	host, err := s.Engine.Gateway(ctx, network(spec))
	if err != nil {
		return nil, err
	}
	var env []string
	for _, l := range spec.RequireComponentLinks {
		def, ok := s.definition(l.Name)
		if !ok {
			return nil, fmt.Errorf("component link %q not defined on any component", l.Name)
		}
		port, err := s.linkPort(ctx, l.Name)
		if err != nil {
			return nil, err
		}
		for _, v := range component.LinkVariables(l.Alias, def, host, port) {
			env = append(env, v.Name+"="+v.Value)
		}
	}
	return env, nil
}

// served says which of the links that a component needs have an address now.
func (s *Supervisor) served(want component.Desired, proven *component.Release) map[string]bool {
	_, needed := linksOf(want, component.Record{Proven: proven}, nil)
	out := make(map[string]bool, len(needed))
	for _, l := range needed {
		_, out[l] = s.linkTarget(l)
	}
	return out
}

// machine is what the other hosts are told: what runs here and which links are served.
func (s *Supervisor) machine(ctx context.Context) component.Machine {
	m := s.Machine
	m.Components, m.Links = s.names(), make(map[string]string)
	if d := s.outage(); d != nil {
		return s.serviceOf(m, d)
	}
	s.links.mu.Lock()
	local := slices.Collect(maps.Keys(s.links.local))
	s.links.mu.Unlock()
	for _, name := range local {
		if port, err := s.linkPort(ctx, name); err == nil {
			m.Links[name] = join(s.Advertise, port)
		}
	}
	return m
}
