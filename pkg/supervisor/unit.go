package supervisor

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// A unit is one component on this host. One worker at a time makes passes over it; what probes and
// operations learn meanwhile arrives under mu.
type unit struct {
	name string

	// Used by the worker that has the unit only.
	failures int
	lastErr  string
	lastVerb string
	startErr startError
	routes   []Listener           // as of the last pass
	routeErr string               // why ports are not as they were asked for, as of the last pass
	mark     mark                 // of the rollout
	hosts    mark                 // those that run the component
	refused  mark                 // operation of an automatic rollback that the store refuses
	weighed  rollout.Guard        // what users see of the rollout, on all hosts
	atRest   bool                 // as of the last pass
	out      *component.HostDrain // by which the host is out of service; nil when it is in service
	looked   bool                 // its containers were seen in this process

	publishing sync.Mutex           // held while something is published, so that nothing older follows
	published  component.HostStatus // guarded by publishing

	saving  sync.Mutex // held while the record is stored, so that nothing older is stored after it
	saveErr string     // why it could not be stored last; guarded by saving

	mu      sync.Mutex // guards what follows
	rec     component.Record
	dirty   bool                                 // rec has changes that are not stored yet
	live    map[string]*live                     // by container ID
	seen    map[string]component.EngineContainer // by container ID, as of the last pass
	status  component.HostStatus                 // as of the last pass
	known   bool                                 // had a pass that knew what is wanted and what is there
	next    *component.HostStatus                // to be published; nil when it was
	waits   bool                                 // as of the last pass: it does nothing of its own
	left    int64                                // revision of the word by which the host is out of service, as of the last pass; 0 when none
	saw     seen                                 // what that pass saw
	counted counted                              // what users see
}

// seen is what everything but the turns and the words of other hosts comes with.
type seen struct {
	generation, record int64
	machines           int
}

func seenOf(v component.View) seen {
	return seen{v.Desired.Generation, v.RolloutRevision, len(v.Machines)}
}

// look notes what a pass saw and whether it waits for others.
func (u *unit) look(v component.View, act component.Action, turn component.Turn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.saw = seenOf(v)
	u.waits = turn.State == component.TurnWaiting &&
		(act.Verb == component.Nothing || act.Verb == component.AwaitTurn || act.Verb == component.Wait && act.Container == "" && act.Release == nil)
}

// live is what is known of a container in this process only.
type live struct {
	ready      bool
	health     component.Health
	problem    string
	terminated bool
	busy       string             // the operation under way; empty when none
	signalling bool               // termination signals are being sent
	cancel     context.CancelFunc // ends that operation early; nil when none
	rate       int                // of a cut under way
	out        context.CancelFunc // ends a cut of those who are left while the host is out of service; nil when none
	watch      watchKind
	stop       context.CancelFunc // ends the watch
}

// startError is why a container of a generation could not be created or started.
type startError struct {
	gen    int64
	reason string
}

func newUnit(name string, rec component.Record, now time.Time) *unit {
	rec.Accepted.Generation = rec.Generation
	if rec.Containers == nil {
		rec.Containers = make(map[string]component.ContainerRecord)
	}
	for id, c := range rec.Containers {
		if c.Stage == component.Starting {
			c.StageSince = now // its ready checks begin anew
		}
		c.StageSince, c.DrainingSince = reckoned(c.StageSince, now), reckoned(c.DrainingSince, now)
		rec.Containers[id] = c
	}
	return &unit{name: name, rec: rec, live: make(map[string]*live)}
}

// reckoned is t, which was loaded, reckoned from now: so what is measured from it does not follow a clock that is set from
// now on. Nothing began in the future: the clock was set back before.
func reckoned(t, now time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return now.Add(-max(0, now.Sub(t)))
}

// generationOf is the generation a container was started for, 0 when it is not there.
func (u *unit) generationOf(id string) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen[id].Release.Generation
}

func (u *unit) owns(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.rec.Containers[id]
	return ok
}

// follows is the component whose rollout comes before this one's; empty when none.
func (u *unit) follows() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rec.Accepted.Follows
}

// settle notes a pass that knew what is wanted and what is there.
func (u *unit) settle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known = true
}

// isSettled reports whether there was such a pass.
func (u *unit) isSettled() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.known
}

// record returns a copy of what is remembered.
func (u *unit) record() component.Record {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.rec
	r.Containers = maps.Clone(r.Containers)
	return r
}

// liveOf returns the live state of a container; mu is held.
func (u *unit) liveOf(id string) *live {
	l, ok := u.live[id]
	if !ok {
		l = &live{}
		u.live[id] = l
	}
	return l
}

// edit changes what is known of a running container in this process.
func (u *unit) edit(id string, f func(*live)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(u.liveOf(id))
}

// remember changes the record and stores it durably before it returns. When that fails the change
// is not made. f may run twice, on two states of the record.
func (s *Supervisor) remember(u *unit, f func(*component.Record)) error {
	u.saving.Lock()
	defer u.saving.Unlock()
	r := u.record()
	f(&r)
	if err := s.Memory.Save(u.name, r); err != nil {
		return err
	}
	u.change(f)
	return nil
}

// rememberOrNote is remember for what the world tells as well: a disk that fails keeps nothing from being
// repaired.
func (s *Supervisor) rememberOrNote(u *unit, f func(*component.Record)) {
	if s.remember(u, f) != nil {
		s.note(u, f) // its save tells
	}
}

// note changes the record, which is stored soon. It is for what costs nothing to lose in a crash:
// the next daemon finds it out again.
func (s *Supervisor) note(u *unit, f func(*component.Record)) {
	u.change(f)
	u.mu.Lock()
	u.dirty = true
	u.mu.Unlock()
	s.poke()
}

func (u *unit) change(f func(*component.Record)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rec.Containers = maps.Clone(u.rec.Containers) // copies of the record stay as they are
	f(&u.rec)
}

// saveAll stores what note left of every component.
func (s *Supervisor) saveAll() {
	for _, u := range s.allUnits() {
		s.saveNoted(u)
	}
}

// saveNoted stores what note left.
func (s *Supervisor) saveNoted(u *unit) {
	u.saving.Lock()
	defer u.saving.Unlock()
	u.mu.Lock()
	dirty := u.dirty
	u.dirty = false
	u.mu.Unlock()
	if !dirty {
		return
	}
	s.saveHost()
	err := s.Memory.Save(u.name, u.record())
	u.mu.Lock()
	u.dirty = u.dirty || err != nil
	u.mu.Unlock()
	s.tellSave(u, err)
}

// tellSave logs that the record cannot be stored, once for each reason, and that it can be again. saving is held.
func (s *Supervisor) tellSave(u *unit, err error) {
	problem := problem(err)
	switch {
	case problem == u.saveErr:
	case err != nil:
		s.Log.Error("record not stored: what serves goes on", "component", u.name, "err", err)
	default:
		s.Log.Info("record stored again", "component", u.name)
	}
	u.saveErr = problem
}
