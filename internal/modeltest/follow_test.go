package modeltest

import (
	"strings"
	"testing"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// firstEvents are what can happen to the component that comes first, and what follows from it.
func (m *model) firstEvents(w *world, es []event) []event {
	if !m.follows {
		return es
	}
	switch w.Store.First {
	case progressing:
		es = append(es, event{firstEnds, 0, uint8(done)}, event{firstEnds, 0, uint8(halted)}, event{firstEnds, 0, 0})
	case done, halted:
		es = append(es, event{firstEnds, 0, 0})
	}
	if _, ok := m.followed(w); ok {
		es = append(es, event{kind: follow})
	}
	if m.together && w.Store.First == halted && w.Store.Desired.Release == 2 && !w.Store.Desired.Back {
		es = append(es, event{kind: takenBack})
	}
	return es
}

// takesBack is the rollback that a host writes for all components of a release, because the first one failed.
// Whatever this one has come to, it goes back as well.
func (m *model) takesBack(w *world) {
	w.Back |= 1 << w.Store.Desired.Generation
	w.asks(isReady, 1)
	w.Store.Desired.Back, w.Store.First = true, 0
}

// followed is the record that some host writes because of the component that comes first.
func (m *model) followed(w *world) (record, bool) {
	if !m.follows || m.mute == follow {
		return record{}, false
	}
	first := component.View{Desired: component.Desired{Status: component.StatusReady, Generation: int64(w.Store.Desired.Generation)}}
	if w.Store.First == 0 {
		first.Desired.Generation++
	}
	first.Rollout = component.Rollout{Generation: first.Desired.Generation, Status: recordStatuses[w.Store.First]}
	r, ok := rollout.Follow(m.viewOf(w.Store.view), first)
	return recordOf(r), ok
}

// waits reports whether the wanted release waits for the component that comes first.
func (m *model) waits(w *world) bool {
	d, r := w.Store.Desired, w.Store.Record
	begun := r.Generation == d.Generation && (r.Begun || r.Status != progressing)
	return m.follows && d.Release == 2 && !d.Back && !begun && w.Store.First == progressing
}

// followings are the scenarios of a release that follows another component's.
var followings = []scenario{
	{name: "comes second", hosts: 2, slots: 1, follows: true, script: []command{update(2)}, faults: 1, kinds: allFaults},
	{name: "comes second, three hosts", hosts: 3, slots: 2, follows: true, prompt: true, script: []command{update(2)}, faults: 1, kinds: []eventKind{die, lapse, stall}},
	{name: "comes second, retry", hosts: 2, slots: 1, follows: true, prompt: true, script: []command{update(2), says(retry)}, faults: 1, kinds: hostFaults},
	{name: "comes second, pause and resume", hosts: 2, slots: 1, follows: true, prompt: true, script: []command{update(2), says(pause), says(resume)}, faults: 1, kinds: hostFaults},
	{name: "comes second, another update", hosts: 2, slots: 1, follows: true, prompt: true, script: []command{update(2), update(3)}, faults: 1, kinds: hostFaults},
	{name: "comes second, bad, goes back", hosts: 2, slots: 1, follows: true, goesBack: true, traits: bad2, prompt: true, script: []command{update(2)}, faults: 1, kinds: []eventKind{die}},
	{name: "comes second, with a task", hosts: 2, slots: 1, follows: true, prepares: true, prompt: true, script: []command{update(2)}, faults: 1, kinds: []eventKind{die, botch}},
}

// togethers are the scenarios of a component that is one release with another one.
var togethers = []scenario{
	{name: "one release, the other fails", hosts: 2, slots: 1, follows: true, together: true, goesBack: true, prompt: true, script: []command{update(2)}, faults: 1, kinds: allFaults},
	{name: "one release, both fail", hosts: 2, slots: 1, follows: true, together: true, goesBack: true, traits: bad2, prompt: true, script: []command{update(2)}, faults: 1, kinds: hostFaults},
	{name: "one release, then another one", hosts: 2, slots: 1, follows: true, together: true, goesBack: true, prompt: true, script: []command{update(2), update(3)}, faults: 1, kinds: []eventKind{die}, long: true},
}

func TestReleasesOfSeveralKeepTheirPromises(t *testing.T) {
	for _, s := range togethers {
		t.Run(s.name, func(t *testing.T) { explore(t, s) })
	}
}

func TestWhatFollowsKeepsItsPromises(t *testing.T) {
	for _, s := range followings {
		t.Run(s.name, func(t *testing.T) { explore(t, s) })
	}
}

// TestExplorerFindsPlantedOrderFaults shows that each guard of the order is needed.
func TestExplorerFindsPlantedOrderFaults(t *testing.T) {
	second := scenario{hosts: 2, slots: 1, follows: true, script: []command{update(2)}}
	oneOfTwo := scenario{hosts: 2, slots: 1, follows: true, together: true, goesBack: true, traits: bad2, script: []command{update(2)}}
	tests := []struct {
		name  string
		in    scenario
		plant func(*model)
		want  string
	}{
		{"does not wait for what comes first", second, func(m *model) {
			m.plant = func(s situation, mv move) move {
				if s.hold && mv.verb == component.Wait && mv.cont < 0 {
					return move{verb: component.AwaitTurn, cont: -1}
				}
				return mv
			}
		}, "(P10)"},
		{"nobody says that it may begin", second, func(m *model) { m.mute = follow }, "neither done nor halted"},
		{"rolls back what was taken back with the first component", oneOfTwo, func(m *model) { m.careless = true }, "(P7)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newExplorer(tt.in)
			tt.plant(x.model)
			if err := x.run(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("found %v, want %q", err, tt.want)
			}
		})
	}
}
