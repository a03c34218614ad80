package modeltest

import (
	"fmt"
	"math/bits"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// act lets host h do its next action, as the supervisor does it. It returns what promise that breaks.
func (m *model) act(w *world, h int) error {
	x := &w.Hosts[h]
	mv := m.decide(h, *x)
	if mv.cont >= 0 && x.Conts[mv.cont].Release == 0 {
		return fmt.Errorf("%s of a container that is not there", mv.verb)
	}
	if err := x.neglects(mv.verb); err != nil {
		return err
	}
	err := m.do(w, h, mv)
	m.tidy(w, h)
	return err
}

// neglects says whether the host does something else while new connections go to nothing that runs,
// although a container could take them.
func (h *host) neglects(v component.Verb) error {
	d := h.View.Desired.Status
	if p := h.primary(); d == isStopped || d == isKilled || !h.Served || p != nil && p.Running {
		return nil
	}
	switch v {
	case component.Route, component.Discard, component.Yield, component.Stop, component.Remove:
		return nil
	}
	for _, c := range h.Conts {
		if c.sound() && c.Stage == serving && c.Release == h.Proven {
			return fmt.Errorf("%s while new connections go nowhere, although a container could take them (P1)", v)
		}
	}
	return nil
}

// writes reports whether the move is a transaction of the store.
func (mv move) writes() bool {
	switch mv.verb {
	case component.AwaitTurn, component.Fail, component.Finish, component.Yield, component.Prepared:
		return true
	}
	return false
}

func (m *model) do(w *world, h int, mv move) error {
	x := &w.Hosts[h]
	var c *cont
	if mv.cont >= 0 {
		c = &x.Conts[mv.cont]
	}
	if mv.task && mv.verb != component.AwaitTurn {
		return m.doTask(w, h, mv)
	}
	switch mv.verb {
	case component.Nothing, component.Wait:
	case component.AwaitTurn:
		return m.takeTurn(w, h, mv)
	case component.Pull:
		x.Images[mv.rel-1] = pulling
	case component.Start:
		return m.start(w, h, mv)
	case component.Route:
		return m.route(x, mv, c)
	case component.Discard:
		c.Failed = true
		x.Failure, x.FailureTry = c.For, x.try(c.For)
		x.Restarts, x.Recent = min(3, x.Restarts+1), true
	case component.Fail:
		m.fail(w, h, c)
	case component.Finish:
		x.proves(x.View.Desired)
		x.Failure, x.FailureTry = 0, 0
		m.endTurn(w, h, nil)
	case component.Yield:
		m.endTurn(w, h, nil)
	case component.Drain:
		return m.drain(x, mv, c)
	case component.Cut:
		return fmt.Errorf("cut without a deadline")
	case component.Stop:
		return m.stop(x, mv, c)
	case component.Kill:
		if x.View.Desired.Status != isKilled {
			return fmt.Errorf("kill that nobody asked for")
		}
		c.Busy = true
	case component.Remove:
		if c.Running || c.Stage != stopped {
			return fmt.Errorf("remove of a container that is not stopped")
		}
		x.remove(mv.cont)
	}
	return nil
}

func (m *model) start(w *world, h int, mv move) error {
	x := &w.Hosts[h]
	d := x.View.Desired
	if d.Status == isStopped || d.Status == isKilled {
		return fmt.Errorf("start although nothing is to run")
	}
	if x.Images[mv.rel-1] != present {
		return fmt.Errorf("start without the image")
	}
	if m.exclusive {
		for _, c := range x.Conts {
			if c.Running {
				return fmt.Errorf("start beside a container of an exclusive component")
			}
		}
	}
	if mv.rel != x.Proven && !x.sees(done) {
		if x.View.holds(h) < 0 || x.sees(halted) {
			return fmt.Errorf("start of an unproven release without a turn or after a halt (P3)")
		}
		if x.View == w.Store.view && w.Halted&(1<<d.Generation) != 0 {
			return fmt.Errorf("start of a generation that was halted (P3)")
		}
		if m.prepares && d.Release > 1 && !d.Back && !w.Store.Record.Prepared && w.Store.Record.Generation == d.Generation && w.Store.Record.Status != done {
			return fmt.Errorf("start before the pre-deploy task has succeeded (P9)")
		}
		if m.follows && d.Release == 2 && !d.Back && w.Store.Desired == d && !w.Store.Record.Begun && x.View.Record.Status != done {
			return fmt.Errorf("start before the component that comes first is done (P10)")
		}
		x.Changing = w.Store.holds(h) >= 0
		if x.Changing {
			w.Began = w.Began.with(h)
		}
		if n := bits.OnesCount8(uint8(w.Began &^ w.Store.Drained)); x.Changing && m.canary > 0 && n > m.canary && !d.Back && !w.Store.Record.Promoted && w.Store.Desired == d {
			return fmt.Errorf("%d hosts begin before the promotion, %d may (P6)", n, m.canary)
		}
	}
	if mv.repair {
		x.Restarts, x.Recent = min(3, x.Restarts+1), true
	}
	generation := d.Generation
	if mv.rel != d.Release {
		generation = x.ProvenGeneration
	}
	if !x.add(cont{Release: mv.rel, For: generation, Running: true}) {
		return fmt.Errorf("more than %d containers", maxConts)
	}
	return nil
}

// try is the try of a generation that the host knows of.
func (h *host) try(generation uint8) uint8 {
	if h.View.Record.Generation != generation {
		return 0
	}
	return h.View.Record.Attempt
}

// sees reports whether the host sees the wanted generation's record in state s.
func (h *host) sees(s recordStatus) bool {
	return h.View.Record.Generation == h.View.Desired.Generation && h.View.Record.Status == s
}

func (m *model) route(x *host, mv move, c *cont) error {
	if !c.Running || c.Failed || c.Stage >= draining || c.Stage == starting && !c.Ready {
		return fmt.Errorf("route to a container that cannot serve (P2)")
	}
	if c.Stage == starting {
		c.Stage, c.Health, c.Old = serving, unknown, false
	}
	x.Primary = uint8(mv.cont + 1)
	x.MustServe = true
	if mv.proven {
		x.proves(x.View.Desired)
	}
	return nil
}

func (h *host) proves(d desired) {
	h.Proven, h.ProvenGeneration, h.Served = d.Release, d.Generation, true
}

func (m *model) drain(x *host, mv move, c *cont) error {
	if int(x.Primary) == mv.cont+1 {
		asked := x.View.Desired.Status != isReady
		if !asked && !m.exclusive && c.sound() {
			return fmt.Errorf("drain of the container that serves (P1)")
		}
		x.Primary, x.MustServe = 0, false
	}
	c.Stage, c.Old, c.Drained = draining, false, false
	return nil
}

func (m *model) stop(x *host, mv move, c *cont) error {
	if c.Running && c.Stage == serving {
		return fmt.Errorf("stop without a drain (P2)")
	}
	if c.Running && c.Stage == draining && !c.Drained {
		return fmt.Errorf("stop before the drain has ended (P2)")
	}
	if c.Running {
		c.Busy = true
		return nil
	}
	c.Stage = stopped
	if int(x.Primary) == mv.cont+1 {
		x.Primary = 0
	}
	return nil
}

// ends is the end of a container's process, asked for or not.
func (h *host) ends(i int) {
	c := &h.Conts[i]
	asked := c.Busy
	c.Running, c.Busy, c.Ready = false, false, false
	if int(h.Primary) == i+1 {
		h.MustServe = false
	}
	if asked {
		c.Stage = stopped
		if int(h.Primary) == i+1 {
			h.Primary = 0
		}
	}
}

// reboot ends all containers together with their engine.
func (h *host) reboot() {
	for i := range h.Conts {
		if c := &h.Conts[i]; c.Running {
			h.ends(i)
			c.Taken = c.Stage < draining
		}
	}
}

func (m *model) takeTurn(w *world, h int, mv move) error {
	x := &w.Hosts[h]
	s := &w.Store
	a := component.Action{Verb: component.AwaitTurn, Task: mv.task && !m.impatient, Repair: mv.repair}
	slots := rollout.SlotsFor("web", hostName(h), m.sized(m.viewOf(x.View)), a)
	ok, _ := rollout.MayTake(slots, turnOf(h, *x))
	if !ok || m.disturbed(h, x.View, mv.repair) >= slots || !x.Reach || !s.Leases[h] {
		return nil
	}
	seen := x.View.Record
	if m.blind {
		seen = s.Record
	}
	if s.Desired != x.View.Desired || s.Record != seen || m.disturbed(h, s.view, mv.repair) >= slots {
		return nil
	}
	v := m.viewOf(s.view)
	v.Turn.Repair, v.Turn.Task = mv.repair, mv.task
	if x.View.Drained.has(h) && !m.clinging && (!mv.task || x.Task.Release == 0) && v.Marked() && x.Proven != s.Desired.Release {
		return fmt.Errorf("a drained host takes a turn (P11)")
	}
	if s.Record.Paused && s.Record.Generation == s.Desired.Generation && v.Marked() && x.Proven != s.Desired.Release {
		return fmt.Errorf("a turn is taken in a pause (P8)")
	}
	for i := range slots {
		if s.Turns[i].Host != 0 {
			continue
		}
		s.Turns[i] = turn{Host: uint8(h + 1), Generation: s.Desired.Generation, Repair: mv.repair, Task: mv.task}
		if v.Marked() {
			s.Marks = s.Marks.with(h)
		}
		if r, changed := v.Taken(hostName(h), now); changed {
			s.Record = recordOf(r)
		}
		m.look(w, h)
		return nil
	}
	return nil
}

// endTurn gives the turn of h up in one transaction that needs it, reporting r when not nil. It reports whether the host still had the turn; after it the
// host sees the store as it is.
func (m *model) endTurn(w *world, h int, r *record) bool {
	x := &w.Hosts[h]
	if !x.Reach {
		return false
	}
	i := w.Store.holds(h)
	if i >= 0 {
		w.Store.Turns[i] = turn{}
		w.Store.Marks = w.Store.Marks.without(h)
		if r != nil {
			w.write(m.after(w.Store.Record, *r, h))
		}
		x.Changing = false
	}
	m.look(w, h)
	return i >= 0
}

// after is the record once host h has reported r.
func (m *model) after(s, r record, h int) record {
	news := m.rollout(r)
	news.Host = hostName(h)
	next, _ := m.rollout(s).After(news, m.pass)
	return recordOf(next)
}

func (m *model) fail(w *world, h int, c *cont) {
	x := &w.Hosts[h]
	g := x.View.Desired.Generation
	r := record{Generation: g, Status: halted, Attempt: x.try(g)}
	x.Failure, x.FailureTry = r.Generation, r.Attempt
	if c != nil {
		c.Failed = true
	}
	if x.View.holds(h) >= 0 {
		m.endTurn(w, h, &r)
		return
	}
	if x.Reach && w.Store.Desired == x.View.Desired && w.Store.Record == x.View.Record {
		w.write(m.after(w.Store.Record, r, h))
		m.look(w, h)
	}
}

// look shows the store to host h, who takes in what is asked for.
func (m *model) look(w *world, h int) {
	x := &w.Hosts[h]
	if !x.Up || !x.Reach {
		return
	}
	w.Steady = w.Steady && (w.Store.Leases[h] || m.pass == 0)
	w.Store.Leases[h] = true
	before, tries := x.View.Desired, x.View.Record.Attempt
	x.View = w.Store.view
	d := x.View.Desired
	if d.Generation == before.Generation {
		if r := x.View.Record; r.Generation == d.Generation && r.Attempt > tries {
			x.anew()
		}
		return
	}
	if d.Status == isStopped || d.Status == isKilled {
		x.Served, x.MustServe = false, false
	}
	if d.Status == isReady && x.Failure < d.Generation {
		x.Failure, x.FailureTry = 0, 0
	}
	x.anew()
}

// anew is what a host forgets when it hears of a new generation, or of a new try of one.
func (h *host) anew() {
	if h.View.Desired.Status == isReady {
		h.Restarts, h.Recent = 0, false
	}
	for i, s := range h.Images {
		if s == failed {
			h.Images[i] = absent
		}
	}
}

// tidy is what follows from any event on host h by observation alone.
func (m *model) tidy(w *world, h int) {
	x := &w.Hosts[h]
	for i := maxConts - 1; i >= 0; i-- {
		c := &x.Conts[i]
		if c.Release == 0 {
			continue
		}
		if !c.Running && (c.Stage == draining || c.Failed) {
			c.Stage = stopped
			if int(x.Primary) == i+1 {
				x.Primary = 0
			}
		}
		if c.Failed && c.Stage == stopped {
			x.remove(i) // kept for inspection: no part of any decision
			continue
		}
		c.normalize()
	}
	if d := x.View.Desired; d.Status == isReady && d.Release == x.Proven {
		x.ProvenGeneration = d.Generation
	}
	if x.Changing && w.Store.holds(h) < 0 {
		x.Changing = false // the turn is lost: the host holds still
	}
	m.publish(w, h)
}

// normalize forgets what has no meaning in the container's stage, so that fewer states differ.
func (c *cont) normalize() {
	switch c.Stage {
	case draining:
		c.Health, c.Old, c.Ready = unknown, false, false
	case starting:
		c.Health, c.Drained = unknown, false
	case serving:
		c.Ready = true
	}
	if c.Ready {
		c.EverReady = true
	}
}

func (m *model) publish(w *world, h int) {
	x := &w.Hosts[h]
	if !x.Up || !x.Reach || !w.Store.Leases[h] {
		return
	}
	p := x.primary()
	d := x.View.Desired
	w.Store.Published[h] = published{
		Generation: x.ProvenGeneration,
		Serving:    p != nil && p.sound() && p.Release == x.Proven && d.Status == isReady && d.Release == x.Proven,
	}
}
