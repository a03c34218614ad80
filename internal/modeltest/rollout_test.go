package modeltest

import (
	"fmt"
	"strconv"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// A word is what an operator says about a rollout.
type word uint8

const (
	pause word = iota + 1
	resume
	promote
	abort
	retry
	forgetHosts // all that were lost and are not back
	drainHost   // any one
	undrain     // all that are drained
)

var wordNames = [...]string{"", "pause", "resume", "promote", "abort", "retry", "forget", "drain", "undrain"}

// A judgement is what any host may write about a rollout: at once, and when it comes no further.
type judgement struct{ now, late record }

// heldBy is all that decides whether something is in the way of an update of a host.
type heldBy struct {
	host int
	view view
}

// changeBy is all that decides how many hosts are in the way of a turn.
type changeBy struct {
	heldBy
	repair bool
}

func hostName(i int) string { return "h" + strconv.Itoa(i+1) }

// names are the hosts in s.
func (s hostSet) names() []string {
	var out []string
	for i := range maxHosts {
		if s.has(i) {
			out = append(out, hostName(i))
		}
	}
	return out
}

func setOf(names []string) (s hostSet) {
	for _, n := range names {
		i, err := strconv.Atoi(n[1:])
		if err != nil {
			panic(err)
		}
		s = s.with(i - 1)
	}
	return s
}

// rollout is r as the package component has it.
func (m *model) rollout(r record) component.Rollout {
	out := component.Rollout{
		Generation: int64(r.Generation), Status: recordStatuses[r.Status], Attempt: int(r.Attempt), Stays: r.Stays, Begun: r.Begun,
		Canaries: r.Canaries.names(), Failed: r.Failed.names(),
	}
	if r.Paused {
		out.Paused = &component.Word{By: "ann"}
	}
	if r.Prepared {
		out.Prepared = &component.Preparation{Host: "h1"}
	}
	if r.Promoted {
		out.Promoted = &component.Word{By: "ann"}
	}
	return out
}

// recordOf is the inverse of rollout.
func recordOf(r component.Rollout) record {
	out := record{
		Generation: uint8(r.Generation), Attempt: uint8(r.Attempt), Paused: r.Paused != nil, Promoted: r.Promoted != nil, Prepared: r.Prepared != nil, Begun: r.Begun,
		Stays: r.Stays, Canaries: setOf(r.Canaries), Failed: setOf(r.Failed),
	}
	for i, s := range recordStatuses {
		if s == r.Status {
			out.Status = recordStatus(i)
		}
	}
	return out
}

// viewOf is v as the package component has it, without what hosts publish.
func (m *model) viewOf(v view) component.View {
	out := component.View{Desired: m.desired(v.Desired), Rollout: m.rollout(v.Record), Changing: map[string]int64{}}
	for _, t := range v.Turns {
		if t.Host != 0 {
			out.Turn.Holders = append(out.Turn.Holders, hostName(int(t.Host)-1))
			if t.Task {
				out.Turn.Tasker = hostName(int(t.Host) - 1)
			}
		}
	}
	for _, h := range v.Marks.names() {
		out.Changing[h] = 1
	}
	if v.Drained != 0 && !m.clinging {
		out.Drained = map[string]component.HostDrain{}
		for _, h := range v.Drained.names() {
			out.Drained[h] = component.HostDrain{Word: component.Word{By: "ann"}}
		}
	}
	return out
}

// seen is viewOf, without lost hosts when hosts are reckless.
func (m *model) seen(v view) component.View {
	out := m.viewOf(v)
	if m.reckless {
		out.Changing = nil
	}
	return out
}

// holds reports whether something is in the way of an update of host h.
func (m *model) holds(h int, x *host) bool {
	key := heldBy{h, x.View}
	held, ok := m.held[key]
	if !ok {
		held = rollout.Hold("web", hostName(h), m.seen(x.View)) != ""
		m.held[key] = held
	}
	return held
}

// disturbed counts the hosts besides h that may not be disturbed by one more turn.
func (m *model) disturbed(h int, v view, repair bool) int {
	key := changeBy{heldBy{h, v}, repair && !m.timid}
	n, ok := m.busy[key]
	if !ok {
		seen := m.seen(v)
		seen.Turn.Repair = key.repair
		n = len(seen.Busy(hostName(h)))
		m.busy[key] = n
	}
	return n
}

// judge is what any host may write about the rollout in w.
func (m *model) judge(w *world) judgement {
	s := &w.Store
	key := standing{s.Desired, s.Record, s.Leases, s.Published, s.lost(), s.Drained, w.Steady || m.hasty}
	j, ok := m.over[key]
	if !ok {
		v, hosts := m.published(w), time.Duration(0)
		if key.steady {
			hosts = rollout.SteadyFor
		}
		if r, ok := rollout.Judge("web", v, rollout.Waited{Hosts: hosts}); ok {
			j.now = recordOf(r)
		}
		if r, ok := rollout.Judge("web", v, rollout.Waited{Mark: time.Hour, Hosts: hosts}); ok {
			j.late = recordOf(r)
		}
		m.over[key] = j
	}
	return j
}

// lost are the hosts that were lost in a turn.
func (s *store) lost() hostSet {
	lost := s.Marks
	for _, t := range s.Turns {
		if t.Host != 0 {
			lost = lost.without(int(t.Host) - 1)
		}
	}
	return lost
}

// published is the view of the whole project, as hosts that see all of it have it.
func (m *model) published(w *world) component.View {
	v := m.viewOf(w.Store.view)
	v.Hosts, v.Machines = map[string]component.HostStatus{}, map[string]component.Machine{}
	for i := range m.hosts {
		if !w.Store.Leases[i] {
			continue
		}
		name, p := hostName(i), w.Store.Published[i]
		v.Machines[name] = component.Machine{Components: []string{"web"}}
		st := component.HostStatus{Generation: int64(p.Generation), Step: component.StepWaiting}
		if p.Serving {
			st.Step = component.StepServing
		}
		if m.guarded {
			st.Target = v.Desired.Generation
			st.Traffic = &component.Traffic{Before: component.Tally{Tries: 1}}
		}
		v.Hosts[name] = st
	}
	return v
}

// write puts a record, and remembers what it means.
func (w *world) write(r record) {
	w.Store.Record = r
	if r.Status == done {
		w.Store.Good = w.Store.Desired.Release
	}
}

// says is the store after an operator's word. One that does not fit changes nothing.
func (m *model) says(w *world, said word, h int) {
	switch said {
	case forgetHosts:
		for i := range m.hosts {
			m.forgets(w, i)
		}
		return
	case drainHost:
		w.Store.Drained = w.Store.Drained.with(h)
		w.Hosts[h].Lost = false // nobody waits for it
		return
	case undrain:
		w.Store.Drained = 0
		return
	}
	f := [...]func(component.View, component.Word) (component.Rollout, error){
		pause: rollout.Pause, resume: rollout.Resume, promote: rollout.Promote, abort: rollout.Abort, retry: rollout.Retry,
	}[said]
	r, err := f(m.viewOf(w.Store.view), component.Word{By: "ann"})
	if err != nil {
		return
	}
	w.write(recordOf(r))
	if said == retry {
		w.Halted &^= 1 << r.Generation
	}
}

// forgets is the store after an operator forgot host h, unless its daemon runs.
func (m *model) forgets(w *world, h int) {
	if w.Store.Leases[h] {
		return
	}
	if r, changed := m.viewOf(w.Store.view).Forgotten(hostName(h)); changed && !m.attached {
		w.Store.Record = recordOf(r)
		w.Began = w.Began.without(h)
	}
	w.Store.Marks = w.Store.Marks.without(h)
	w.Hosts[h].Lost = false
}

// concludes writes what any host may write about the rollout now.
func (m *model) concludes(w *world) error {
	r := m.judge(w).now
	for i := range m.hosts {
		if r.Status == halted && !w.Store.Leases[i] && !w.Hosts[i].Gone {
			return fmt.Errorf("halts because the others failed, while h%d only starts anew (P9)", i+1)
		}
	}
	w.write(r)
	return nil
}

// tripped is what a host writes that sees users fare worse with the new release; nothing when no rollout goes on, or it
// is one that is not guarded.
func (m *model) tripped(w *world) record {
	v := m.published(w)
	r := v.Record()
	if !v.Guarded().On() || r.Status != component.RolloutProgressing {
		return record{}
	}
	r.Status, r.Kind, r.Paused = component.RolloutHalted, component.GuardFail, nil
	return recordOf(r)
}

// settles reports whether time may pass in which the same hosts run: one that only starts anew is back before.
func (m *model) settles(w *world) bool {
	for i := range m.hosts {
		if w.Store.Leases[i] == w.Hosts[i].Gone {
			return false
		}
	}
	return !w.Steady
}

// goesBackFrom reports whether a host that sees v brings the last good release back.
func (m *model) goesBackFrom(v view) bool {
	return m.goesBack && v.Record.Status == halted && rollout.GoesBack(m.viewOf(v))
}

// goBack is the rollback that host h writes, when what it sees is what there is.
func (m *model) goBack(w *world, h int) error {
	s, v := &w.Store, w.Hosts[h].View
	if m.careless {
		v.Desired, v.Record = s.Desired, s.Record // it does not compare
	}
	if s.Desired != v.Desired || s.Record != v.Record {
		return nil
	}
	g := w.Hosts[h].View.Desired.Generation
	if w.Back&(1<<g) != 0 {
		return fmt.Errorf("generation %d is rolled back twice (P7)", g)
	}
	if s.Desired.Back {
		return fmt.Errorf("a rollback is rolled back (P7)")
	}
	if s.Good == 0 || s.Good == s.Desired.Release {
		s.Record.Stays = true
		return nil
	}
	w.Back |= 1 << g
	w.asks(isReady, s.Good)
	s.Desired.Back = true
	if m.together {
		s.First = 0 // it goes back with this one
	}
	return nil
}

// asks writes a new state.
func (w *world) asks(st status, r relID) {
	w.Last++
	w.Began = 0
	w.Store.Desired = desired{}
	if st != 0 {
		w.Store.Desired = desired{Generation: w.Last, Status: st, Release: r}
	}
}

// returns reports whether host h takes away what says that it was lost.
func (m *model) returns(w *world, h int) bool {
	x := &w.Hosts[h]
	return m.mute != returned && x.Up && x.Reach && x.View.Marks.has(h) && x.View.holds(h) < 0 && w.Store.Marks.has(h) && w.Store.holds(h) < 0 &&
		m.decide(h, *x).verb <= component.AwaitTurn && (m.early || x.Task == (task{})) && (x.Primary != 0 || !x.Served)
}
