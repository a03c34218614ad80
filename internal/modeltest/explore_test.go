package modeltest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/pkg/component"
)

// A node is how a world was first come to.
type node struct {
	from uint64
	by   event
}

// explorer visits every world that is within reach of the first one, nearest first.
type explorer struct {
	*model
	first  world
	seen   map[uint64]node
	calm   map[uint64]struct{} // worlds that are known to come to rest well
	events int
	depth  int
}

func newExplorer(s scenario) *explorer {
	m := newModel(s)
	return &explorer{model: m, first: m.first(), seen: map[uint64]node{}, calm: map[uint64]struct{}{}}
}

func TestFleetKeepsItsPromises(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { explore(t, s) })
	}
}

// explore visits all of a scenario; with -short or the race detector, with one fault at most.
func explore(t *testing.T, s scenario) {
	t.Helper()
	if testing.Short() || raceEnabled {
		if s.long {
			t.Skip("long exploration")
		}
		s.faults = min(s.faults, 1)
	}
	x := newExplorer(s)
	if err := x.run(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d states, %d events, depth %d; %d situations decided", len(x.seen), x.events, x.depth, len(x.memo))
}

// TestExplorerFindsPlantedFaults shows that the exploration is not blind: hosts that do not do what
// Next says break a promise, and it finds out.
func TestExplorerFindsPlantedFaults(t *testing.T) {
	update := scenario{hosts: 2, slots: 1, script: []command{update(2)}}
	badUpdate := scenario{hosts: 2, slots: 1, traits: [maxReleases]trait{good, bad}, script: []command{{status: isReady, release: 2}}}
	tests := []struct {
		name  string
		in    scenario
		plant func(situation, move) move
		want  string
	}{
		{"routes to what is not ready", update, func(s situation, mv move) move {
			if mv.verb == component.Wait && mv.cont >= 0 && s.host.Conts[mv.cont].Stage == starting {
				mv.verb = component.Route
			}
			return mv
		}, "(P2)"},
		{"drains the old container first", update, func(s situation, mv move) move {
			if mv.verb == component.Start && s.host.Primary == 1 && mv.rel == 2 {
				return move{verb: component.Drain}
			}
			return mv
		}, "(P1)"},
		{"starts without a turn", update, func(_ situation, mv move) move {
			if mv.verb == component.AwaitTurn {
				return move{verb: component.Start, cont: -1, rel: 2}
			}
			return mv
		}, "(P3)"},
		{"goes on after a halt", badUpdate, func(s situation, mv move) move {
			if mv.verb == component.Wait && s.host.sees(halted) {
				return move{verb: component.Start, cont: -1, rel: 2}
			}
			return mv
		}, "(P3)"},
		{"stops without a drain", update, func(_ situation, mv move) move {
			if mv.verb == component.Drain {
				mv.verb = component.Stop
			}
			return mv
		}, "(P2)"},
		{"keeps its turn", update, func(_ situation, mv move) move {
			if mv.verb == component.Finish {
				return move{verb: component.Nothing, cont: -1}
			}
			return mv
		}, "never given back"},
		{"takes and gives for ever", update, func(_ situation, mv move) move {
			if mv.verb == component.Start {
				return move{verb: component.Yield, cont: -1}
			}
			return mv
		}, "does not come to rest"},
		{"forgets the old container", update, func(_ situation, mv move) move {
			if mv.verb == component.Drain {
				return move{verb: component.Nothing, cont: -1}
			}
			return mv
		}, "a container too many"},
		{"never wakes up", badUpdate, func(_ situation, mv move) move {
			mv.timed = false
			return mv
		}, "at rest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newExplorer(tt.in)
			x.plant = tt.plant
			if err := x.run(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("found %v, want %q", err, tt.want)
			}
		})
	}
}

// run explores until there is nothing new, or a promise is broken.
func (x *explorer) run() error {
	x.seen[x.key(&x.first)] = node{}
	for level := []world{x.first}; len(level) > 0; x.depth++ {
		var next []world
		for _, w := range level {
			from := x.key(&w)
			if err := x.calms(w, x.calm); err != nil {
				return fmt.Errorf("%w\nafter:\n%s", err, x.story(from))
			}
			for _, e := range x.model.events(&w) {
				x.events++
				after, err := x.happen(w, e)
				if err != nil {
					return fmt.Errorf("%w\nafter:\n%s  %s\n%v", err, x.story(from), x.tell(w, e), after)
				}
				key := x.key(&after)
				if _, ok := x.seen[key]; ok {
					continue
				}
				x.seen[key] = node{from, e}
				next = append(next, after)
			}
		}
		level = next
	}
	return nil
}

// story tells how a world was come to.
func (x *explorer) story(at uint64) string {
	var es []event
	for root := x.key(&x.first); at != root; at = x.seen[at].from {
		es = append(es, x.seen[at].by)
	}
	var b strings.Builder
	w := x.first
	for _, e := range slices.Backward(es) {
		b.WriteString("  " + x.tell(w, e) + "\n")
		w, _ = x.happen(w, e)
	}
	return b.String() + w.String()
}
