package modeltest

import (
	"hash/maphash"
	"strconv"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// A trait is how the containers of a release behave.
type trait uint8

const (
	good       trait = iota // gets ready, stays healthy, but for faults
	bad                     // never gets ready
	sick                    // gets ready, then unhealthy before it has baked
	dying                   // gets ready, then exits before it has baked
	rotten                  // exits, and never gets ready again
	unprepared              // its pre-deploy task fails; else it is good
)

// A scenario is a fleet, its releases and what its operators do.
type scenario struct {
	name      string
	hosts     int
	slots     int
	traits    [maxReleases]trait // of v1, v2, v3
	script    []command
	fresh     bool // no release is served at first
	exclusive bool
	pulls     bool // only the image of v1 is on the hosts
	faults    uint8
	kinds     []eventKind // faults that happen
	prompt    bool        // hosts see every change of the store at once
	linked    bool        // v2 needs a link
	slowly    bool        // connections end, and containers stop, in their own time, not at once
	long      bool        // not with -short

	// Policies of every release.
	canary   int
	pass     int  // hosts that may fail
	goesBack bool // a failure rolls back
	goesOn   bool // the others do not wait for a lost host
	follows  bool // v2 comes after another component
	guarded  bool // users of both releases are watched
	together bool // it is one release with that component: they go back as one
	prepares bool // v2 and v3 have a pre-deploy task, which succeeds unless the release is broken

	unmourned bool // nobody forgets hosts that are gone for good
	ailing    bool // what got sick does not get well by itself
	harmless  bool // nothing that happens is a failure of a release
}

type command struct {
	status  status
	release relID
	word    word // instead of a state, when there is one
}

// model is a scenario with what never changes while it is explored.
type model struct {
	scenario
	want [maxReleases + 1]component.Release
	seed maphash.Seed
	memo map[situation]move
	over map[standing]judgement
	held map[heldBy]bool
	busy map[changeBy]int
	wait map[heldBy]bool

	plant     func(situation, move) move // what hosts do instead of the move; nil is the move itself
	careless  bool                       // hosts write rollbacks without looking whether they are the first
	mute      eventKind                  // what never happens; zero is nothing
	reckless  bool                       // hosts disregard lost hosts
	hopeful   bool                       // a good release that was given a new try, and halted again, is a broken promise
	blind     bool                       // hosts take turns without looking at what was said in between
	hasty     bool                       // hosts judge over those that run at this moment
	attached  bool                       // a host that is forgotten stays a canary
	timid     bool                       // a turn to repair waits for lost hosts
	blaming   bool                       // hosts do not see that the engine ended a container
	impatient bool                       // hosts take a turn for the task beside others
	early     bool                       // hosts say that they are back while they run a task
	clinging  bool                       // hosts wait for a drained one, as it does for its turns
	stale     bool                       // a drained host takes turns
}

// A standing is all that decides how a rollout ends.
type standing struct {
	desired   desired
	record    record
	leases    [maxHosts]bool
	published [maxHosts]published
	lost      hostSet
	drained   hostSet
	steady    bool
}

// A situation is all that a host's decision depends on.
type situation struct {
	host  host
	state component.TurnState
	gen   uint8
	hold  bool // something is in the way of an update
	over  bool // it was passed over
	mends bool // its turn is to repair only
	tasks bool // its turn is for the pre-deploy task only
	alone bool // nobody else has a turn
	waits bool // the others wait for it
	out   bool // it is drained
}

// A move is an action of a host, with numbers for names.
type move struct {
	verb   component.Verb
	cont   int // from 0; -1 is none
	rel    relID
	proven bool
	repair bool
	task   bool
	why    string
	kind   component.FailureKind
	timed  bool // the host looks again by itself
}

func newModel(s scenario) *model {
	m := &model{scenario: s, seed: maphash.MakeSeed(), memo: map[situation]move{}, over: map[standing]judgement{}, held: map[heldBy]bool{}, busy: map[changeBy]int{}, wait: map[heldBy]bool{}}
	for i := range m.want {
		m.want[i] = m.desired(desired{Status: isReady, Release: relID(i)}).Release()
	}
	return m
}

func (m *model) first() world {
	w := world{Faults: m.faults, Last: 1, Steady: true}
	for i := range m.hosts {
		h := &w.Hosts[i]
		h.Up, h.Reach = true, true
		w.Store.Leases[i] = true
		if m.pulls {
			h.Images = [maxReleases]imageState{present, absent, absent}
		}
		if !m.fresh {
			h.Conts[0] = cont{Release: 1, For: 1, Stage: serving, Running: true, Ready: true, EverReady: true, Health: healthy, Old: true}
			h.Primary, h.Proven, h.ProvenGeneration, h.Served, h.MustServe = 1, 1, 1, true, true
			w.Store.Published[i] = published{Generation: 1, Serving: true}
		}
	}
	if !m.fresh {
		w.Store.Desired = desired{Generation: 1, Status: isReady, Release: 1}
		w.Store.Record = record{Generation: 1, Status: done}
		w.Store.Good = 1
	}
	w.Store.First = progressing
	for i := range m.hosts {
		w.Hosts[i].View = w.Store.view
	}
	return w
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (m *model) desired(d desired) component.Desired {
	bake := component.Duration(5 * time.Second)
	out := component.Desired{Generation: int64(d.Generation)}
	if d.Status == 0 {
		return out
	}
	out.Status = [...]component.Status{"", component.StatusReady, component.StatusStopped, component.StatusKilled}[d.Status]
	out.ImageID = imageID(d.Release)
	out.Spec = &component.Spec{
		Name: "web", Repo: "example/web", Exclusive: m.exclusive,
		HealthChecks: []component.Check{{Kind: component.CheckTCP, Port: 80}},
		Rollout:      component.RolloutPolicy{MaxParallel: component.Share(m.slots), Bake: &bake, Canary: component.Share(m.canary), MaxFailures: m.pass},
	}
	if m.goesBack {
		out.Spec.Rollout.OnFailure = component.OnFailureRollback
	}
	if m.guarded {
		out.Spec.Rollout.Guard = component.Guard{Errors: 100}
	}
	if m.goesOn {
		out.Spec.Rollout.OnHostLost = component.OnLostContinue
	}
	if d.Back {
		out.Source, out.Automatic = 1, true
	}
	if m.prepares && d.Release > 1 {
		out.Spec.PreDeploy.Command = []string{"migrate"}
		out.Prepared = d.Back
	}
	if m.follows && d.Release == 2 && !d.Back {
		out.Follows = "db"
	}
	if m.linked && d.Release == 2 {
		out.Spec.RequireComponentLinks = []component.LinkRequest{{Name: "db", Alias: "db"}}
	}
	return out
}

func imageID(r relID) string { return "sha256:" + strconv.Itoa(int(r)) }

// observed is what a host sees, as Next takes it.
func (m *model) observed(i int, h host) component.Observed {
	o := component.Observed{
		Now: now, Host: hostName(i), Served: h.Served, Images: map[string]component.ImageState{}, Links: map[string]bool{"db": !h.Unlinked},
	}
	for i, c := range h.Conts {
		if c.Release != 0 {
			o.Containers = append(o.Containers, m.container(i, c))
		}
	}
	if h.Primary != 0 {
		o.Primary = contID(int(h.Primary) - 1)
	}
	if h.Proven != 0 {
		r := m.want[h.Proven]
		r.Generation = int64(h.ProvenGeneration)
		o.Proven = &r
	}
	for i, s := range h.Images {
		img := component.ImageState{Present: s == present, Pulling: s == pulling}
		if s == failed {
			img.Failures = component.PullTries
		}
		o.Images[imageID(relID(i+1))] = img
	}
	o.Rollout = m.rollout(h.View.Record)
	o.Restarts = component.Restarts{Count: int(h.Restarts), Last: now.Add(-time.Hour)}
	if h.Failure != 0 {
		o.Failure = &component.Failure{Generation: int64(h.Failure), Attempt: int(h.FailureTry), Kind: component.UpdateFail, Reason: "sad"}
	}
	if h.Recent {
		o.Restarts.Last = now
	}
	if !m.stale {
		o.Out = rollout.Out(o.Host, m.viewOf(h.View))
	}
	o.Awaited = m.waitedFor(i, &h)
	o.Waits = !m.goesOn && !h.View.Desired.Back
	if t := h.Task; t.Release != 0 {
		o.Tasks = []component.Task{m.task(t)}
	}
	return o
}

var recordStatuses = [...]component.RolloutStatus{"", component.RolloutProgressing, component.RolloutHalted, component.RolloutDone}

func (m *model) container(i int, c cont) component.Container {
	out := component.Container{
		ID: contID(i), Hash: m.want[c.Release].Hash(), Stage: component.Stage(c.Stage), StageSince: now,
		Running: c.Running, Ready: c.Ready, Health: component.Health(c.Health), Busy: c.Busy, Failed: c.Failed,
		Terminated: c.Drained, Conns: 1, WithEngine: c.Taken && !m.blaming,
	}
	if c.Drained {
		out.Conns = 0
	}
	if c.Old {
		out.StageSince = now.Add(-time.Hour)
	}
	if c.Stage == draining {
		out.DrainingSince = out.StageSince
	}
	return out
}

func contID(i int) string { return "c" + strconv.Itoa(i+1) }

// turnOf is the turn of a host, as its store client answers.
func turnOf(h int, x host) component.Turn {
	state, generation := stateOf(h, &x)
	t := component.Turn{State: state, Generation: int64(generation)}
	if i := x.View.holds(h); i >= 0 {
		t.Repair, t.Task = x.View.Turns[i].Repair, x.View.Turns[i].Task
	}
	for _, held := range x.View.Turns {
		if held.Host != 0 {
			t.Holders = append(t.Holders, hostName(int(held.Host)-1))
			if held.Task {
				t.Tasker = hostName(int(held.Host) - 1)
			}
		}
	}
	return t
}

func stateOf(h int, x *host) (component.TurnState, uint8) {
	i := x.View.holds(h)
	switch {
	case !x.Reach:
		return component.TurnUnreachable, 0
	case i >= 0:
		return component.TurnMine, x.View.Turns[i].Generation
	}
	return component.TurnWaiting, 0
}

// decide asks Next, once per situation.
func (m *model) decide(h int, x host) move {
	key := situation{host: x}
	key.state, key.gen = stateOf(h, &x)
	key.hold, key.over, key.out = m.holds(h, &x), x.View.Record.Failed.has(h), x.View.Drained.has(h)
	key.mends = x.View.holds(h) >= 0 && x.View.Turns[x.View.holds(h)].Repair
	key.tasks = x.View.holds(h) >= 0 && x.View.Turns[x.View.holds(h)].Task
	if m.prepares {
		key.alone, key.waits = x.View.Turns == [maxSlots]turn{}, m.waitedFor(h, &x)
	}
	v := &key.host.View
	v.Turns, v.Marks, v.Drained, v.Record.Canaries, v.Record.Failed = [maxSlots]turn{}, 0, 0, 0, 0
	key.host.MustServe, key.host.Changing, key.host.Lost = false, false, false
	if mv, ok := m.memo[key]; ok {
		return mv
	}
	have, turn := m.observed(h, x), turnOf(h, x)
	if key.hold {
		have.Hold = "held"
	}
	a := component.Next(m.desired(x.View.Desired), have, turn)
	mv := move{verb: a.Verb, cont: -1, proven: a.Proven, repair: a.Repair, task: a.Task, why: a.Reason, kind: a.Kind, timed: !a.At.IsZero()}
	if a.Container != "" && !a.Task {
		n, err := strconv.Atoi(a.Container[1:])
		if err != nil {
			panic(err)
		}
		mv.cont = n - 1
	}
	if a.Release != nil {
		for i := range maxReleases {
			if a.Release.ImageID == imageID(relID(i+1)) {
				mv.rel = relID(i + 1)
			}
		}
	}
	if m.plant != nil {
		mv = m.plant(key, mv)
	}
	m.memo[key] = mv
	return mv
}
