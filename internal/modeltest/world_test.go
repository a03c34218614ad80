package modeltest

import (
	"fmt"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

// Bounds of the model. A world is an array of small values, so that it can be compared and hashed.
const (
	maxHosts    = 3
	maxConts    = 5
	maxReleases = 3
	maxSlots    = 2
)

// A relID names a release; zero is none.
type relID uint8

// world is everything there is at one moment.
type world struct {
	Store  store
	Hosts  [maxHosts]host
	Script uint8             // operator commands given so far
	Last   uint8             // newest generation
	Faults uint8             // faults that may still happen
	Rotten [maxReleases]bool // releases that do not come up any more
	Halted uint16            // of the observer: generations that halted and were not given a new try, one bit each
	Back   uint16            // of the observer: generations that were rolled back by themselves, one bit each
	Began  hostSet           // of the observer: hosts that began with the wanted generation
	Steady bool              // the same hosts have run for long enough to judge over them
}

type store struct {
	view
	Leases    [maxHosts]bool // hosts whose machine key is there
	Published [maxHosts]published
	First     recordStatus // of the component that comes first, when there is one; zero: something else is asked for of it
	Good      relID        // release of the last rollout that was done
}

// A hostSet is a set of hosts, one bit each.
type hostSet uint8

func (s hostSet) has(h int) bool        { return s&(1<<h) != 0 }
func (s hostSet) with(h int) hostSet    { return s | 1<<h }
func (s hostSet) without(h int) hostSet { return s &^ (1 << h) }

// A view is what hosts see of the store, late.
type view struct {
	Desired desired
	Record  record
	Turns   [maxSlots]turn
	Marks   hostSet // hosts that took a turn for an update and have not ended it
	Drained hostSet // hosts that are out of service
}

type desired struct {
	Generation uint8
	Status     status
	Release    relID
	Back       bool // it is a rollback
}

type status uint8

const (
	isReady status = iota + 1
	isStopped
	isKilled
)

type record struct {
	Generation uint8
	Status     recordStatus
	Attempt    uint8
	Paused     bool
	Promoted   bool
	Begun      bool // what comes first is done
	Prepared   bool // the pre-deploy task has succeeded
	Stays      bool // it would be rolled back, but there is nothing to go back to
	Canaries   hostSet
	Failed     hostSet
}

type recordStatus uint8

const (
	progressing recordStatus = iota + 1
	halted
	done
)

type turn struct {
	Host       uint8 // number of the host, from 1; zero is a free slot
	Generation uint8
	Repair     bool // not to update
	Task       bool // for the pre-deploy task
	Orphan     bool // of a lease whose daemon is gone: nobody's until it expires
}

type published struct {
	Generation uint8
	Serving    bool
}

type host struct {
	Up, Reach        bool // the daemon runs; it reaches the store
	View             view
	Proven           relID
	ProvenGeneration uint8
	Served           bool
	Primary          uint8 // number of the container, from 1; zero is none
	Conts            [maxConts]cont
	Images           [maxReleases]imageState
	Restarts         uint8 // in a row, at most 3
	Recent           bool  // the last of them was just now
	Failure          uint8 // generation of the last failure, zero when it succeeded since
	FailureTry       uint8 // the try of that generation
	Unlinked         bool  // the link that v2 needs is served nowhere
	Task             task  // the container of a pre-deploy task
	Gone             bool  // for good

	// Of the observer only, no part of the decisions:
	MustServe bool // it served, and nobody asked for anything else
	Changing  bool // between the start of a release not proven here and the end of the turn
	Lost      bool // its daemon died in between
}

// A task is the container of a pre-deploy task.
type task struct {
	Release relID // zero is none
	For     uint8 // generation
	Try     uint8
	Running bool
	Failed  bool
	Old     bool // it runs for longer than it may
	Busy    bool // it is being stopped
	End     end
}

type end uint8

const (
	endItself end = iota
	endOverdue
	endDropped
)

type imageState uint8

const (
	present imageState = iota
	absent
	pulling
	failed // as often as it is tried
)

type cont struct {
	Release   relID // zero is a free place
	For       uint8 // generation it was started for
	Stage     stage
	Running   bool
	Ready     bool
	Health    health
	Old       bool // in its stage for longer than any deadline
	Failed    bool
	Busy      bool // it is being stopped
	Drained   bool // its connections have ended and its termination checks passed
	Taken     bool // it ended with the engine
	EverReady bool // of the observer: it was ready once
}

// A stage and a health are those of the package component, in one byte.
type (
	stage  uint8
	health uint8
)

const (
	starting = stage(component.Starting)
	serving  = stage(component.Serving)
	draining = stage(component.Draining)
	stopped  = stage(component.Stopped)

	unknown   = health(component.HealthUnknown)
	healthy   = health(component.Healthy)
	unhealthy = health(component.Unhealthy)
)

func (c cont) sound() bool {
	return c.Release != 0 && c.Running && !c.Busy && !c.Failed && c.Stage < draining && c.Health != unhealthy
}

func (h *host) primary() *cont {
	if h.Primary == 0 {
		return nil
	}
	return &h.Conts[h.Primary-1]
}

// add puts a container at the end, or reports that there is no place: containers leak.
func (h *host) add(c cont) bool {
	for i := range h.Conts {
		if h.Conts[i].Release == 0 {
			h.Conts[i] = c
			return true
		}
	}
	return false
}

// remove takes a container away; younger ones move up.
func (h *host) remove(i int) {
	copy(h.Conts[i:], h.Conts[i+1:])
	h.Conts[maxConts-1] = cont{}
	switch n := uint8(i + 1); {
	case h.Primary == n:
		h.Primary = 0
	case h.Primary > n:
		h.Primary--
	}
}

// holds is the slot of the host's turn in v, or -1.
func (v view) holds(h int) int {
	for i, t := range v.Turns {
		if int(t.Host) == h+1 && !t.Orphan {
			return i
		}
	}
	return -1
}

func (w world) String() string {
	var b strings.Builder
	s := w.Store
	fmt.Fprintf(&b, "  store: want %v, record %v, turns %v, marks %03b, leases %v, published %v, good v%d, first %d\n", s.Desired, s.Record, s.Turns, s.Marks, s.Leases, s.Published, s.Good, s.First)
	for i, h := range w.Hosts {
		if h == (host{}) {
			continue
		}
		fmt.Fprintf(&b, "  h%d: up=%t reach=%t sees{%v %v %v %03b} proven=v%d(%d) served=%t primary=%d restarts=%d/%t failure=%d images=%v must=%t\n", i+1, h.Up, h.Reach,
			h.View.Desired, h.View.Record, h.View.Turns, h.View.Marks, h.Proven, h.ProvenGeneration, h.Served, h.Primary, h.Restarts, h.Recent, h.Failure, h.Images, h.MustServe)
		if t := h.Task; t.Release != 0 {
			fmt.Fprintf(&b, "    task: v%d(%d try %d) running=%t failed=%t old=%t busy=%t end=%d\n", t.Release, t.For, t.Try, t.Running, t.Failed, t.Old, t.Busy, t.End)
		}
		for j, c := range h.Conts {
			if c.Release != 0 {
				fmt.Fprintf(&b, "    c%d: v%d(%d) %s running=%t ready=%t %s old=%t failed=%t busy=%t drained=%t\n", j+1, c.Release, c.For, component.Stage(c.Stage), c.Running, c.Ready, component.Health(c.Health), c.Old, c.Failed, c.Busy, c.Drained)
			}
		}
	}
	return b.String()
}

func (d desired) String() string {
	return fmt.Sprintf("%d:%s v%d", d.Generation, [...]string{"nothing", "ready", "stopped", "killed"}[d.Status], d.Release)
}

func (r record) String() string {
	s := fmt.Sprintf("%d:%s", r.Generation, [...]string{"none", "progressing", "halted", "done"}[r.Status])
	if r.Begun {
		s += " begun"
	}
	if r.Prepared {
		s += " prepared"
	}
	if r.Attempt > 0 || r.Paused || r.Promoted || r.Stays || r.Canaries|r.Failed != 0 {
		s += fmt.Sprintf("{try %d paused=%t promoted=%t stays=%t canaries=%03b failed=%03b}", r.Attempt, r.Paused, r.Promoted, r.Stays, r.Canaries, r.Failed)
	}
	return s
}

func (t turn) String() string {
	switch {
	case t.Host == 0:
		return "free"
	case t.Orphan:
		return fmt.Sprintf("h%d/%d orphan", t.Host, t.Generation)
	}
	return fmt.Sprintf("h%d/%d", t.Host, t.Generation)
}
