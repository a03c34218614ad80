package supervisor_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// memRouter is a Router whose connections are numbers.
type memRouter struct {
	mu        sync.Mutex // guards what follows
	listeners map[string][]supervisor.Listener
	conns     map[string]int
	tallies   map[string]component.Tally
	left      map[string][]component.Connection
	drained   []string
	cut       []string
	cuts      []int         // rates of the cuts that began, as they came
	slow      chan struct{} // when set, cuts wait for their end
	applyErr  error
	idle      func(string)
}

func newRouter() *memRouter {
	return &memRouter{listeners: map[string][]supervisor.Listener{}, conns: map[string]int{}, tallies: map[string]component.Tally{}}
}

func (r *memRouter) Apply(owner string, ls []supervisor.Listener) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.applyErr != nil {
		return r.applyErr
	}
	if len(ls) == 0 {
		delete(r.listeners, owner)
		return nil
	}
	r.listeners[owner] = slices.Clone(ls)
	return nil
}

func (r *memRouter) Conns(id string) supervisor.Conns {
	r.mu.Lock()
	defer r.mu.Unlock()
	return supervisor.Conns{Open: r.conns[id]}
}

func (r *memRouter) Connections(id string, most int) []component.Connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.left[id])
	for i := range out { // as ages would tell it, which are never quite the same
		out[i].Since = out[i].Since.Add(-rand.N(time.Millisecond))
		out[i].Active = out[i].Active.Add(-rand.N(time.Millisecond))
	}
	return out[:min(most, len(out))]
}

func (r *memRouter) Tally(id string) component.Tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tallies[id]
}

// visited counts so many more users of a target, of which so many failed.
func (r *memRouter) visited(id string, tries, failed int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tallies[id] = r.tallies[id].Plus(component.Tally{Tries: tries, Errors: failed})
}

func (r *memRouter) Drain(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.drained, id) {
		r.drained = append(r.drained, id)
	}
}

func (r *memRouter) Guests(id string, _ []netip.Addr) int { return r.Conns(id).Open }

func (r *memRouter) Cut(ctx context.Context, id string, rate int, _ []netip.Addr) {
	r.mu.Lock()
	r.cut, r.cuts = append(r.cut, id), append(r.cuts, rate)
	slow := r.slow
	r.mu.Unlock()
	if slow != nil {
		<-ctx.Done()
		return
	}
	r.setConns(id, 0)
}

func (r *memRouter) OnIdle(f func(string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = f
}

func (r *memRouter) setConns(id string, n int) {
	r.mu.Lock()
	r.conns[id] = n
	idle := r.idle
	r.mu.Unlock()
	if n == 0 && idle != nil {
		idle(id)
	}
}

// target is where new connections to a listener go; "" when they wait, "closed" without a listener.
func (r *memRouter) target(owner string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ls := r.listeners[owner]
	if len(ls) == 0 || len(ls[0].Addrs) == 0 {
		return "closed"
	}
	return ls[0].TargetID
}

// retired are the targets that were drained and those that were cut.
func (r *memRouter) retired() (drained, cut []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.drained), slices.Clone(r.cut)
}

// memProber is a Prober that asks maps.
type memProber struct {
	mu      sync.Mutex // guards what follows
	unready map[string]bool
	sick    map[string]bool
	signals []string
}

func newProber() *memProber { return &memProber{unready: map[string]bool{}, sick: map[string]bool{}} }

func (p *memProber) is(m map[string]bool, id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return m[id] || m["*"]
}

func (p *memProber) set(f func(*memProber)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

func (p *memProber) Ready(ctx context.Context, t component.ProbeTarget, checks []component.Check, report func(component.Event)) error {
	for told := false; len(checks) > 0 && p.is(p.unready, t.ID); told = true {
		if !told {
			report(component.Event{Kind: component.EventCheckFailed, Container: t.ID, Text: "Health check failed", Detail: "503"})
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return errors.New("503")
		}
	}
	return nil
}

func (p *memProber) Health(ctx context.Context, t component.ProbeTarget, _ []component.Check, changed func(bool, error)) error {
	told, first := false, true
	for {
		if healthy := !p.is(p.sick, t.ID); first || healthy != told {
			var err error
			if !healthy {
				err = errors.New("503")
			}
			changed(healthy, err)
			told, first = healthy, false
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *memProber) Signal(_ context.Context, t component.ProbeTarget, _ []component.Signal, _ func(component.Event)) {
	p.set(func(p *memProber) { p.signals = append(p.signals, t.ID) })
}

func (p *memProber) Terminated(ctx context.Context, t component.ProbeTarget, _ []component.Check, _ func(component.Event)) error {
	for t.Conns() > 0 {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// memMemory is a Memory.
type memMemory struct {
	mu   sync.Mutex // guards what follows
	recs component.Records
	used bool
	fail error
}

func (m *memMemory) Load() (component.Records, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := component.Records{Host: m.recs.Host, Components: map[string]component.Record{}}
	maps.Copy(out.Components, m.recs.Components)
	return out, m.used, nil
}

func (m *memMemory) Save(name string, r component.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if m.recs.Components == nil {
		m.recs.Components = map[string]component.Record{}
	}
	m.recs.Components[name], m.used = r, true
	return nil
}

func (m *memMemory) SaveHost(h component.HostRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recs.Host, m.used = h, true
	return nil
}
