package modeltest

import (
	"fmt"
	"slices"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// die ends the daemon of host h: what it knew only by itself is gone, its turn is nobody's.
func (m *model) die(w *world, h int) {
	x := &w.Hosts[h]
	x.Up, x.Changing, x.Lost = false, false, (x.Lost || x.Changing) && !w.Store.Drained.has(h)
	x.Task.Busy = false
	x.View.Record, x.View.Turns, x.View.Marks = record{}, [maxSlots]turn{}, 0
	for i := range x.Conts {
		c := &x.Conts[i]
		c.Busy, c.Drained, c.Health = false, false, unknown
		if c.Stage == starting {
			c.Ready, c.Old = false, false // its ready checks begin anew
		}
	}
	for i, s := range x.Images {
		if s == pulling {
			x.Images[i] = absent
		}
	}
	for i, t := range w.Store.Turns {
		if int(t.Host) == h+1 {
			w.Store.Turns[i].Orphan = true
		}
	}
}

// recover is what a daemon makes of its containers when its memory is lost: the oldest one that runs
// is taken for the one that served, the others have to pass their ready checks.
func (m *model) recover(w *world, h int) {
	x := &w.Hosts[h]
	x.Primary, x.MustServe, x.Proven, x.ProvenGeneration, x.Served = 0, false, 0, 0, false
	x.Restarts, x.Recent, x.Failure, x.FailureTry = 0, false, 0, 0
	for i := range x.Conts {
		c := &x.Conts[i]
		if !c.Running || c.Release == 0 {
			continue
		}
		c.Stage, c.Ready, c.Failed, c.Old = starting, false, false, false
		if x.Primary == 0 {
			c.Stage, x.Primary = serving, uint8(i+1)
			x.Proven, x.ProvenGeneration, x.Served = c.Release, c.For, true
		}
	}
	x.View = view{} // so that what is asked for is taken in anew
	m.look(w, h)
}

// settle is what follows from an event on host h at once. Unless the scenario says otherwise, that
// includes what only one host is concerned with: the end of connections and of containers.
func (m *model) settle(w *world, h int) error {
	if m.prompt {
		for i := range m.hosts {
			if m.look(w, i); w.Hosts[i].Up {
				m.tidy(w, i)
			}
		}
	}
	x := &w.Hosts[h]
	if !x.Up {
		return nil
	}
	m.tidy(w, h)
	if m.slowly {
		return nil
	}
	for m.hurry(x) {
		m.tidy(w, h)
	}
	switch m.decide(h, *x).verb {
	case component.Stop, component.Kill, component.Remove:
		if err := m.act(w, h); err != nil {
			return err
		}
		return m.settle(w, h)
	}
	return nil
}

// hurry ends one thing that is about to end.
func (m *model) hurry(x *host) bool {
	for i := range x.Conts {
		switch c := &x.Conts[i]; {
		case c.Busy:
			x.ends(i)
			return true
		case c.Stage == draining && c.Running && !c.Drained:
			c.Drained = true
			return true
		}
	}
	return false
}

// check says which promise does not hold in w.
func (m *model) check(w *world) error {
	changing, lost, tasks := 0, 0, 0
	for i, h := range w.Hosts {
		if h.Changing {
			changing++
		}
		if h.Task.Running {
			tasks++
		}
		if h.Lost && !h.Up {
			lost++
		}
		if !h.Up {
			continue
		}
		p := h.primary()
		if h.MustServe && (p == nil || !p.Running || !p.EverReady) {
			return fmt.Errorf("h%d served and serves no more (P1)", i+1)
		}
		if p != nil && p.Running && p.Stage != serving {
			return fmt.Errorf("h%d routes to a container that is %d (P2)", i+1, p.Stage)
		}
	}
	if tasks > 1 && !m.goesOn {
		return fmt.Errorf("%d pre-deploy tasks run at once (P9)", tasks)
	}
	if changing > m.slots {
		return fmt.Errorf("%d hosts change at once, %d may (P3)", changing, m.slots)
	}
	if goesOn := m.goesOn || w.Store.Desired.Back; changing > 0 && changing+lost > m.slots && !goesOn { // as View.Lost says
		return fmt.Errorf("%d hosts change although %d were lost in their turn, %d may be disturbed (P5)", changing, lost, m.slots)
	}
	return nil
}

// calms runs w without any more faults or commands until nothing happens any more.
func (m *model) calms(w world, known map[uint64]struct{}) error {
	const bound = 500
	w.Faults, w.Script = 0, uint8(len(m.script))
	m.link(&w, false)
	var path []uint64
	start := w
	for range bound {
		key := m.key(&w)
		if _, ok := known[key]; ok {
			break
		}
		path = append(path, key)
		next, ok, err := m.quietly(w)
		if err != nil {
			return err
		}
		if !ok {
			if err := m.verify(&w); err != nil {
				return fmt.Errorf("at rest: %w\n%v", err, w)
			}
			break
		}
		w = next
	}
	if len(path) == bound {
		if m.hopeless(&w) {
			return nil
		}
		return fmt.Errorf("does not come to rest:\n%s", m.tail(start, bound-40))
	}
	for _, key := range path {
		known[key] = struct{}{}
	}
	return nil
}

// tail tells what goes on in a world that does not come to rest.
func (m *model) tail(w world, skip int) string {
	s := ""
	for i := range skip + 40 {
		if i >= skip {
			s += fmt.Sprintf("  %s\n", m.nextQuiet(w))
		}
		w, _, _ = m.quietly(w)
	}
	return s + w.String()
}

func (m *model) nextQuiet(w world) string {
	for _, k := range quiet {
		for _, e := range m.events(&w) {
			if next, err := m.happen(w, e); e.kind == k && (err != nil || next != w) {
				return m.tell(w, e)
			}
		}
	}
	return "time"
}

// quiet are the kinds of events that are no fault, those first that others wait for.
var quiet = []eventKind{restart, heal, expire, look, mourned, step, returned, revert, follow, finish, taskEnds, ended, drained, pulled, getReady, getHealthy, sicken, crash, settled, watched}

// quietly lets one thing happen in w that is no fault; time passes only when nothing else happens,
// and only for hosts that asked to be woken. It reports whether anything happened.
func (m *model) quietly(w world) (world, bool, error) {
	es := m.events(&w)
	for _, k := range quiet {
		for _, e := range es {
			if e.kind != k {
				continue
			}
			if next, err := m.happen(w, e); err != nil || next != w {
				return next, true, err
			}
		}
	}
	before := w
	for i := range m.hosts {
		x := &w.Hosts[i]
		if !m.decide(i, *x).timed {
			continue
		}
		x.Recent = false
		x.Task.Old = x.Task.Running
		for j := range x.Conts {
			if c := &x.Conts[j]; c.Release != 0 && c.Stage < draining {
				c.Old = true
			}
		}
	}
	return w, w != before, nil
}

// verify says what is wrong with the fleet w at rest.
func (m *model) verify(w *world) error {
	s := &w.Store
	d := s.Desired
	for i := range s.Turns {
		if s.Turns[i].Host != 0 {
			return fmt.Errorf("turn %v is never given back", s.Turns[i])
		}
	}
	for i, h := range w.Hosts {
		if h.Task.Running || h.Task.Release != 0 && !s.Record.Paused {
			return fmt.Errorf("h%d keeps the container of a pre-deploy task", i+1)
		}
	}
	if d.Status != isReady && d.Status != 0 {
		for i, h := range w.Hosts {
			if h.Conts[0].Release != 0 && !h.Gone {
				return fmt.Errorf("h%d still has containers", i+1)
			}
		}
		return nil
	}
	r := s.Record
	if !slices.ContainsFunc(w.Hosts[:m.hosts], func(h host) bool { return !h.Gone }) {
		return nil // nobody is left to do anything
	}
	awaited := m.awaited(w)
	if lost := w.gone() &^ awaited &^ s.Drained; lost != 0 {
		return fmt.Errorf("hosts %v count as lost for ever", lost.names())
	}
	current := r.Generation == d.Generation
	stopped := m.waits(w) || rollout.AllDrained("web", m.published(w)) || current && (r.Status == halted || r.Status == progressing && (r.Paused || awaited != 0 || m.awaitsWord(w)))
	if !stopped && d.Status == isReady && (!current || r.Status != done) {
		return fmt.Errorf("rollout is neither done nor halted")
	}
	if m.hopeful && r.Status == halted && r.Attempt > 0 {
		return fmt.Errorf("the new try was in vain")
	}
	if current && m.goesBackFrom(s.view) {
		return fmt.Errorf("rollout halted and nobody rolls it back")
	}
	for i := range m.hosts {
		h := &w.Hosts[i]
		want := h.Proven
		stopped := stopped || current && r.Failed.has(i) || s.Drained.has(i)
		if h.Gone || stopped && (!h.Served || m.traitOf(w, want) != good) || d.Status == 0 {
			continue
		}
		p := h.primary()
		switch {
		case !stopped && want != d.Release:
			return fmt.Errorf("h%d has not proven v%d", i+1, d.Release)
		case p == nil || !p.sound() || p.Release != want:
			return fmt.Errorf("h%d does not serve v%d", i+1, want)
		case h.Conts[1].Release != 0:
			return fmt.Errorf("h%d keeps a container too many", i+1)
		}
	}
	return nil
}

// awaited are hosts that are gone for good and that nobody forgets.
func (m *model) awaited(w *world) (s hostSet) {
	for i := range m.hosts {
		if m.unmourned && w.Hosts[i].Gone && !w.Store.Drained.has(i) {
			s = s.with(i)
		}
	}
	return s
}

// awaitsWord reports whether the canaries wait for their promotion.
func (m *model) awaitsWord(w *world) bool {
	return m.canary > 0 && rollout.AwaitsPromotion("web", m.published(w))
}

// hopeless reports whether some host can only try again and again.
func (m *model) hopeless(w *world) bool {
	for i := range m.hosts {
		h := &w.Hosts[i]
		r := w.Store.Record
		stuck := r.Generation == w.Store.Desired.Generation && (r.Status == halted || r.Paused || r.Failed.has(i) || m.awaitsWord(w)) || m.waits(w) || h.Proven == w.Store.Desired.Release
		if stuck && h.Proven != 0 && m.traitOf(w, h.Proven) != good {
			return true
		}
	}
	return false
}
