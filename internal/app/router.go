package app

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/proxy"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// cutTick is how often a cut looks whether earlier processes have closed their connections.
const cutTick = 20 * time.Millisecond

// A router is the proxy in the supervisor's words. Connections that earlier processes of this daemon still
// carry count like its own.
type router struct {
	proxy *proxy.Proxy

	mu      sync.Mutex                       // guards what follows
	routes  map[string][]supervisor.Listener // by owner, as applied last
	targets map[string]bool                  // that had connections or may have
	drained map[string]bool                  // of which earlier processes were told
	past    []*handover.Link                 // earlier processes that finish their connections
	idle    func(id string)
}

func newRouter(p *proxy.Proxy) *router {
	r := &router{
		proxy: p, routes: map[string][]supervisor.Listener{}, targets: map[string]bool{}, drained: map[string]bool{},
		idle: func(string) {},
	}
	p.OnIdle(func(id string) {
		r.mu.Lock()
		idle := r.idle
		r.mu.Unlock()
		idle(id)
	})
	return r
}

// Apply implements supervisor.Router.
func (r *router) Apply(owner string, ls []supervisor.Listener) error {
	r.note(owner, ls)
	out := make([]proxy.Listener, 0, len(ls))
	var wrong error
	for _, l := range ls {
		p, err := listener(l)
		if err != nil && wrong == nil {
			wrong = fmt.Errorf("listener %q: %w", l.Name, err)
		}
		out = append(out, p)
	}
	if err := r.proxy.Apply(owner, out); err != nil {
		return err
	}
	return wrong
}

func (r *router) note(owner string, ls []supervisor.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(ls) == 0 {
		delete(r.routes, owner)
		return
	}
	r.routes[owner] = slices.Clone(ls)
	for _, l := range ls {
		if l.TargetID != "" {
			r.targets[l.TargetID] = true
		}
	}
}

// applied are the routes of all owners.
func (r *router) applied() map[string][]supervisor.Listener {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.routes)
}

// own are the connections of this process by target, those without any left out.
func (r *router) own() map[string]handover.Conns {
	routed := map[string]bool{}
	r.mu.Lock()
	for _, ls := range r.routes {
		for _, l := range ls {
			routed[l.TargetID] = true
		}
	}
	ids := slices.Collect(maps.Keys(r.targets))
	r.mu.Unlock()
	conns := map[string]handover.Conns{}
	for _, id := range ids {
		n, oldest := r.proxy.Conns(id)
		switch {
		case n > 0:
			conns[id] = handover.Conns{Open: n, Since: time.Now().Add(-oldest)}
		case !routed[id]:
			r.mu.Lock()
			delete(r.targets, id)
			r.mu.Unlock()
		}
	}
	return conns
}

// Conns implements supervisor.Router.
func (r *router) Conns(id string) supervisor.Conns {
	n, oldest := r.proxy.Conns(id)
	c := supervisor.Conns{Open: n, Oldest: oldest}
	for _, l := range r.links() {
		if earlier := l.Conns(id); earlier.Open > 0 {
			c.Open += earlier.Open
			c.Oldest = max(c.Oldest, time.Since(earlier.Since))
		}
	}
	return c
}

// Tally implements supervisor.Router.
func (r *router) Tally(id string) component.Tally {
	m := r.proxy.Measures(id)
	t := component.Tally{Tries: m.Tries, Unreached: m.Unreached, Broken: m.Broken, Errors: m.Errors}
	if len(m.Latency) > 0 {
		t.Latency = make(map[int64]int64, len(m.Latency))
	}
	for _, l := range m.Latency {
		t.Latency[int64(l.Below/time.Microsecond)] = l.Answers
	}
	return t
}

// Drain implements supervisor.Router.
func (r *router) Drain(id string) {
	r.proxy.Drain(id)
	r.mu.Lock()
	told := r.drained[id] || len(r.past) == 0
	r.mu.Unlock()
	if told {
		return
	}
	told = true
	for _, l := range r.links() {
		told = l.Drain(id) && told
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drained[id] = told // who was stuck is told with the next pass
}

// Connections implements supervisor.Router.
func (r *router) Connections(id string, most int) []component.Connection {
	var out []component.Connection
	for _, c := range r.left(id, most) {
		out = append(out, connection(c, false))
	}
	for _, l := range r.links() {
		for _, c := range l.Conns(id).Left {
			out = append(out, connection(c, true))
		}
	}
	slices.SortStableFunc(out, func(a, b component.Connection) int { return a.Since.Compare(b.Since) })
	return out[:min(len(out), most)]
}

func connection(c handover.Conn, earlier bool) component.Connection {
	return component.Connection{
		Client: c.Client, Target: c.Target, Since: c.Since, Active: c.Active, BytesIn: c.BytesIn, BytesOut: c.BytesOut, Earlier: earlier,
	}
}

// left are the oldest connections of a target in this process.
func (r *router) left(id string, most int) []handover.Conn {
	now := time.Now()
	list := r.proxy.Oldest(id, most)
	out := make([]handover.Conn, len(list))
	for i, c := range list {
		out[i] = handover.Conn{
			Client: c.Client, Target: c.Target, Since: now.Add(-c.Age), Active: now.Add(-c.Idle), BytesIn: c.BytesIn, BytesOut: c.BytesOut,
		}
	}
	return out
}

// Guests implements supervisor.Router. Those of earlier processes count, wherever they are from.
func (r *router) Guests(id string, home []netip.Addr) int {
	n := r.proxy.Guests(id, home)
	for _, l := range r.links() {
		n += l.Conns(id).Open
	}
	return n
}

// Cut implements supervisor.Router.
func (r *router) Cut(ctx context.Context, id string, rate int, home []netip.Addr) {
	untold := askToCut(r.links(), id, rate)
	r.proxy.CutGuests(ctx, id, rate, home)
	tick := time.NewTicker(cutTick)
	defer tick.Stop()
	for r.Guests(id, home) > 0 {
		untold = askToCut(untold, id, rate)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// askToCut tells earlier processes to cut, and returns those that were stuck.
func askToCut(ls []*handover.Link, id string, rate int) (stuck []*handover.Link) {
	for _, l := range ls {
		if !l.Cut(id, rate) && !l.Ended() {
			stuck = append(stuck, l)
		}
	}
	return stuck
}

// OnIdle implements supervisor.Router.
func (r *router) OnIdle(f func(id string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = f
}

// join adds an earlier process.
func (r *router) join(ls ...*handover.Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.past = append(r.past, ls...)
}

// links are the earlier processes that are left.
func (r *router) links() []*handover.Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.past = slices.DeleteFunc(r.past, func(l *handover.Link) bool {
		if l.Ended() {
			l.Close()
			return true
		}
		return false
	})
	if len(r.past) == 0 {
		clear(r.drained)
	}
	return slices.Clone(r.past)
}

// follow listens to the earlier processes until ctx ends.
func (r *router) follow(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, l := range r.links() {
		wg.Go(func() {
			l.Follow(ctx, func(id string) {
				r.mu.Lock()
				idle := r.idle
				r.mu.Unlock()
				idle(id)
			})
		})
	}
}

// forget leaves the earlier processes to whoever comes next.
func (r *router) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.past {
		l.Close()
	}
	r.past = nil
}

// dismiss asks the earlier processes to end, with this one.
func (r *router) dismiss() {
	for _, l := range r.links() {
		l.Leave()
		l.Close()
	}
}

// expect notes targets of an earlier process, whose connections may be here now.
func (r *router) expect(ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		r.targets[id] = true
	}
}

// ids are the targets that may have connections.
func (r *router) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.targets))
}
