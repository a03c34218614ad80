package modeltest

import "fmt"

// An eventKind is something that can happen.
type eventKind uint8

const (
	step       eventKind = iota // a host does its next action
	look                        // a host sees the store as it is now
	order                       // an operator gives the next command
	getReady                    // the ready checks of a container pass
	getHealthy                  // its health checks pass
	grow                        // a container is in its stage past any deadline
	drained                     // its connections end
	ended                       // a stop that was asked for comes to its end
	calm                        // the back-off of a host passes
	pulled                      // a pull succeeds
	finish                      // some host records the rollout as done
	restart                     // the daemon of a host starts
	heal                        // a host reaches the store again
	expire                      // the lease of a host that is away expires
	returned                    // a host that is back says so
	firstEnds                   // the rollout of the component that comes first ends, or something else is asked for of it
	follow                      // some host records what that means
	taskEnds                    // a pre-deploy task ends by itself, or because it is stopped
	mourned                     // an operator forgets a host that is gone for good
	settled                     // the same hosts have run for long enough
	watched                     // the guard has watched the release for long enough
	takenBack                   // another component of the same release brings all of it back
	revert                      // a host that sees the rollout halted brings the last good release back
	// Faults:.
	crash  // a container exits
	sicken // a container gets unhealthy
	slow   // a good container misses its ready deadline
	noPull // a pull fails
	die    // the daemon of a host dies
	forget // it starts again without its memory
	cutOff // a host loses the store
	lapse  // the lease of a live host expires
	rot    // a release does not come up any more
	deaf   // a write of a host reaches the store, the answer does not reach the host
	unlink // a link goes away, or comes back
	stall  // the rollout has come no further for too long
	botch  // a pre-deploy task fails
	linger // a pre-deploy task runs too long
	vanish // a host is gone for good
	early  // the daemon of a host starts anew, before the store answers
	reboot // the engine of a host starts anew, which ends all containers
	trip   // users fare worse with the new release: the guard halts the rollout
	numKinds
)

var kindNames = [numKinds]string{
	"step", "look", "command", "ready", "healthy", "time passes", "drained", "ended", "back-off over", "pulled", "record done", "daemon starts",
	"store back", "lease expires", "is back", "first component ends", "follows", "task ends", "is forgotten", "hosts stay", "watch ends", "is taken back with the first component", "rolls back", "crash", "unhealthy", "too slow", "pull fails", "daemon dies", "memory lost", "store away", "lease lapses", "rots", "hears no answer to", "link changes", "too late", "task fails", "task lingers", "is gone", "daemon starts without the store", "engine restarts", "guard trips",
}

// An event is one thing that happens; host and cont count from 0.
type event struct {
	kind       eventKind
	host, cont uint8
}

func (m *model) tell(w world, e event) string {
	s := fmt.Sprintf("h%d %s", e.host+1, kindNames[e.kind])
	switch e.kind {
	case step, deaf:
		mv := m.decide(int(e.host), w.Hosts[e.host])
		s += ": " + mv.verb.String()
		if mv.cont >= 0 {
			s += fmt.Sprintf(" c%d", mv.cont+1)
		}
		if mv.rel != 0 {
			s += fmt.Sprintf(" v%d", mv.rel)
		}
	case order:
		c := m.script[w.Script]
		s = "operator: " + desired{Generation: w.Last + 1, Status: c.status, Release: c.release}.String()
		if c.word != 0 {
			s = "operator: " + wordNames[c.word]
		}
		if c.word == drainHost {
			s += " " + hostName(int(e.host))
		}
	case getReady, getHealthy, grow, drained, ended, crash, sicken, slow:
		s += fmt.Sprintf(": c%d", e.cont+1)
	case rot, pulled, noPull:
		s += fmt.Sprintf(": v%d", e.cont+1)
	}
	return s
}

// events lists everything that can happen in w.
func (m *model) events(w *world) []event {
	var es []event
	if int(w.Script) < len(m.script) {
		es = append(es, event{kind: order})
		for h := 1; h < m.hosts && m.script[w.Script].word == drainHost; h++ {
			es = append(es, event{kind: order, host: uint8(h)})
		}
	}
	if m.judge(w).now != (record{}) {
		es = append(es, event{kind: finish})
	}
	if m.guarded && m.mute != watched && m.judge(w).late.Status == done {
		es = append(es, event{kind: watched})
	}
	es = m.firstEvents(w, es)
	if m.settles(w) {
		es = append(es, event{kind: settled})
	}
	for h := range uint8(m.hosts) {
		es = m.hostEvents(w, h, es)
	}
	if w.Faults == 0 {
		return es
	}
	for _, k := range m.kinds {
		es = m.strike(w, k, es)
	}
	return es
}

func (m *model) hostEvents(w *world, h uint8, es []event) []event {
	x := &w.Hosts[h]
	switch {
	case !x.Up && !x.Gone:
		es = append(es, event{restart, h, 0})
	case x.Gone && !m.unmourned && (w.Store.Marks.has(int(h)) || w.Store.Record.Canaries.has(int(h))):
		es = append(es, event{mourned, h, 0})
	}
	if !x.Reach {
		es = append(es, event{heal, h, 0})
	}
	if (!x.Up || !x.Reach) && w.Store.Leases[h] || m.orphan(w, h) >= 0 {
		es = append(es, event{expire, h, 0})
	}
	if x.Up {
		if mv := m.decide(int(h), *x); mv.verb > 1 {
			es = append(es, event{step, h, 0})
		}
		if x.Reach && (x.View != w.Store.view || !w.Store.Leases[h]) {
			es = append(es, event{look, h, 0})
		}
		if x.Recent {
			es = append(es, event{calm, h, 0})
		}
		if m.returns(w, int(h)) {
			es = append(es, event{returned, h, 0})
		}
		if m.mute != revert && x.Reach && m.goesBackFrom(x.View) {
			es = append(es, event{revert, h, 0})
		}
	}
	if x.Task.Running {
		es = append(es, event{taskEnds, h, 0})
	}
	for i := range x.Images {
		if x.Images[i] == pulling {
			es = append(es, event{pulled, h, uint8(i)})
		}
	}
	for i, c := range x.Conts {
		for _, k := range []eventKind{getReady, getHealthy, sicken, crash, grow, drained, ended} {
			if m.comes(w, c, k) {
				es = append(es, event{k, h, uint8(i)})
			}
		}
	}
	return es
}

func (m *model) traitOf(w *world, r relID) trait {
	if w.Rotten[r-1] {
		return rotten
	}
	return m.traits[r-1]
}

// comes reports whether k is in the nature of container c.
func (m *model) comes(w *world, c cont, k eventKind) bool {
	if c.Release == 0 || !c.Running {
		return false
	}
	t := m.traitOf(w, c.Release)
	switch k {
	case getReady:
		return c.Stage == starting && !c.Ready && !c.Busy && t != bad && t != rotten
	case getHealthy:
		return c.Stage == serving && c.Health != healthy && t == good && (!m.ailing || c.Health != unhealthy)
	case sicken:
		return c.Stage == serving && c.Health != unhealthy && t == sick
	case crash:
		return c.Stage == serving && (t == dying || t == rotten)
	case grow:
		switch {
		case c.Old || c.Stage >= draining:
			return false
		case c.Stage == starting:
			return (t == bad || t == rotten) && !c.Ready
		}
		return t == good || c.Health == unhealthy
	case drained:
		return c.Stage == draining && !c.Drained
	case ended:
		return c.Busy
	}
	return false
}

func (m *model) strike(w *world, k eventKind, es []event) []event {
	for h := range uint8(m.hosts) {
		x := &w.Hosts[h]
		switch k {
		case die, forget, vanish, early:
			if x.Up {
				es = append(es, event{k, h, 0})
			}
		case reboot:
			if x.Conts[0].Running {
				es = append(es, event{k, h, 0})
			}
		case cutOff:
			if x.Reach {
				es = append(es, event{k, h, 0})
			}
		case lapse:
			if x.Up && x.Reach && w.Store.Leases[h] {
				es = append(es, event{k, h, 0})
			}
		case noPull:
			for i := range x.Images {
				if x.Images[i] == pulling {
					es = append(es, event{k, h, uint8(i)})
				}
			}
		case deaf:
			if x.Up && m.decide(int(h), *x).writes() {
				es = append(es, event{k, h, 0})
			}
		case botch, linger:
			if x.Task.Running && !x.Task.Busy && (k == botch || !x.Task.Old) {
				es = append(es, event{k, h, 0})
			}
		case unlink:
			if h == 0 {
				es = append(es, event{k, 0, 0})
			}
		case stall:
			if h == 0 && m.judge(w).late != (record{}) {
				es = append(es, event{k, 0, 0})
			}
		case trip:
			if h == 0 && m.tripped(w) != (record{}) {
				es = append(es, event{k, 0, 0})
			}
		case rot:
			if h == 0 && !w.Rotten[0] {
				es = append(es, event{k, 0, 0})
			}
		default:
			for i, c := range x.Conts {
				if m.strikes(c, k) {
					es = append(es, event{k, h, uint8(i)})
				}
			}
		}
	}
	return es
}

// strikes reports whether fault k can hit container c.
func (m *model) strikes(c cont, k eventKind) bool {
	if c.Release == 0 || !c.Running || m.traits[c.Release-1] != good {
		return false
	}
	switch k {
	case crash:
		return true
	case sicken:
		return c.Stage == serving && c.Health != unhealthy
	case slow:
		return c.Stage == starting && !c.Ready && !c.Old
	}
	return false
}

func (m *model) orphan(w *world, h uint8) int {
	for i, t := range w.Store.Turns {
		if t.Host == h+1 && t.Orphan {
			return i
		}
	}
	return -1
}

// isFault tells faults from what belongs to a container's nature.
func (m *model) isFault(w *world, e event) bool {
	switch e.kind {
	case crash, sicken:
		return !m.comes(w, w.Hosts[e.host].Conts[e.cont], e.kind)
	}
	return e.kind > revert
}

// happen is w after e.
func (m *model) happen(w world, e event) (world, error) {
	if m.isFault(&w, e) {
		w.Faults--
	}
	h := int(e.host)
	x := &w.Hosts[h]
	c := &x.Conts[min(int(e.cont), maxConts-1)]
	var err error
	switch e.kind {
	case step:
		err = m.act(&w, h)
	case deaf:
		w.Store = m.wrote(w, h)
	case unlink:
		m.link(&w, !x.Unlinked)
	case look:
		m.look(&w, h)
	case order:
		cmd := m.script[w.Script]
		w.Script++
		if cmd.word != 0 {
			m.says(&w, cmd.word, h)
		} else {
			w.asks(cmd.status, cmd.release)
		}
	case finish:
		err = m.concludes(&w)
	case mourned:
		m.forgets(&w, h)
	case settled:
		w.Steady = true
	case stall, watched:
		w.write(m.judge(&w).late)
	case trip:
		w.write(m.tripped(&w))
	case returned:
		w.Store.Marks = w.Store.Marks.without(h)
		m.look(&w, h)
	case revert:
		err = m.goBack(&w, h)
		m.look(&w, h)
	case firstEnds:
		w.Store.First = recordStatus(e.cont)
	case takenBack:
		m.takesBack(&w)
	case follow:
		r, _ := m.followed(&w)
		w.write(r)
	case taskEnds, botch:
		m.endTask(&x.Task, e.kind == botch)
	case linger:
		x.Task.Old = true
	case calm:
		x.Recent = false
	case pulled:
		x.Images[e.cont] = present
	case noPull:
		x.Images[e.cont] = failed // as often as it is tried
	case getReady:
		c.Ready = true
	case getHealthy:
		c.Health = healthy
	case sicken:
		c.Health = unhealthy
	case grow, slow:
		c.Old = true
	case drained:
		c.Drained = true
	case ended, crash:
		x.ends(int(e.cont))
	case rot:
		w.Rotten[0] = true
	case reboot:
		x.reboot()
	default:
		m.daemon(&w, h, e.kind)
	}
	if err == nil {
		err = m.settle(&w, h)
	}
	if r := w.Store.Record; r.Status == halted {
		if m.harmless && err == nil {
			err = fmt.Errorf("halts although no release failed (P10)")
		}
		w.Halted |= 1 << r.Generation
	}
	if err == nil {
		err = m.check(&w)
	}
	return w, err
}

func (m *model) link(w *world, gone bool) {
	for i := range m.hosts {
		w.Hosts[i].Unlinked = gone
	}
}

// wrote is the store after the next step of host h.
func (m *model) wrote(w world, h int) store {
	if err := m.act(&w, h); err != nil {
		panic(err)
	}
	return w.Store
}

// daemon is what happens to a daemon as a whole, or to its lease.
func (m *model) daemon(w *world, h int, k eventKind) {
	x := &w.Hosts[h]
	switch k {
	case restart, forget:
		m.die(w, h)
		x.Up, x.Lost = true, false
		if k == forget {
			m.recover(w, h)
		}
	case die, vanish:
		m.die(w, h)
		x.Gone = k == vanish
	case early:
		m.die(w, h)
		x.Up, x.Reach, x.Lost = true, false, false
	case heal:
		x.Reach = true
	case cutOff:
		x.Reach = false
	case expire, lapse:
		w.Steady = w.Steady && m.pass == 0 // where it does not matter, fewer states differ
		w.Store.Leases[h], w.Store.Published[h] = false, published{}
		for i, t := range w.Store.Turns {
			if int(t.Host) == h+1 {
				w.Store.Turns[i] = turn{}
			}
		}
	}
}
