package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantryd/gantryd/internal/workqueue"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// Defaults of Options.
const (
	DefaultResync  = 30 * time.Second
	DefaultWorkers = 4

	minBackoff = 200 * time.Millisecond
	maxBackoff = 15 * time.Second
)

// Options are what a Supervisor is made of. All fields without "may be" must be set.
type Options struct {
	Host       string   // name of this host in the store
	Bind       string   // IP address that external ports and links listen on
	Advertise  string   // IP address at which other hosts reach Bind
	Components []string // the ones this host runs; may be nil: all of the project
	Machine    component.Machine

	Store  Store
	Engine Engine
	Router Router
	Prober Prober
	Memory Memory
	Report func(component.Event) // may be nil; called from many goroutines, must not block
	Log    *slog.Logger

	// Inherited says that this supervisor goes on where another process stopped: what the store says of this
	// host stands until every component was looked at. Links is where its links went.
	Inherited bool
	Links     map[string]LinkTarget // by name; may be nil

	Resync  time.Duration // may be 0: DefaultResync
	Workers int           // may be 0: DefaultWorkers
}

// A Supervisor keeps one host's containers the way the operators asked.
type Supervisor struct {
	Options
	queue *workqueue.Queue[string]
	tasks sync.WaitGroup // everything that runs beside the workers
	lost  bool           // the memory was new or lost at the start
	wake  chan struct{}  // one place: something is to be published
	ready chan struct{}  // closed when every remembered component had a pass

	heeding sync.Mutex // held while a view is read for what it says of this host

	mu      sync.Mutex           // guards what follows
	unseen  map[string]bool      // remembered components that had no pass yet
	passing map[string]time.Time // since when a pass is under way
	paused  chan struct{}        // closed when passes may begin again; nil when they may
	host    component.HostRecord
	units   map[string]*unit
	pulls   map[string]*component.ImageState // by image ID
	trusted bool
	reason  string // why the store is not trusted

	links linkTable
}

// New returns a supervisor that remembers what Memory holds.
func New(o Options) (*Supervisor, error) {
	if o.Resync == 0 {
		o.Resync = DefaultResync
	}
	if o.Workers == 0 {
		o.Workers = DefaultWorkers
	}
	if o.Report == nil {
		o.Report = func(component.Event) {}
	}
	recs, loaded, err := o.Memory.Load()
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		Options: o,
		queue:   workqueue.New[string](),
		lost:    !loaded,
		wake:    make(chan struct{}, 1),
		ready:   make(chan struct{}),
		unseen:  make(map[string]bool),
		passing: make(map[string]time.Time),
		host:    recs.Host,
		units:   make(map[string]*unit),
		pulls:   make(map[string]*component.ImageState),
	}
	s.links.inherit(o.Links)
	if d := s.host.Drained; d != nil {
		was := *d
		was.Since = reckoned(was.Since, time.Now())
		s.host.Drained = &was
	}
	for name, rec := range recs.Components {
		s.units[name] = newUnit(name, rec, time.Now())
		if s.runs(name) {
			s.unseen[name] = true
		}
	}
	if len(s.unseen) == 0 {
		close(s.ready)
	}
	s.Router.OnIdle(s.onIdle)
	return s, nil
}

// Run reconciles until ctx is done and everything it started has ended. Containers keep running.
func (s *Supervisor) Run(ctx context.Context) error {
	defer s.queue.Close()
	defer s.saveAll() // what was noted last
	defer s.tasks.Wait()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Store.Run(ctx, s.heardOf) })
	g.Go(func() error { return s.Engine.Run(ctx, s.changed) })
	g.Go(func() error { return s.resync(ctx) })
	g.Go(func() error { return s.publishLoop(ctx) })
	g.Go(func() error { return s.sampleLoop(ctx) })
	for range s.Workers {
		g.Go(func() error { return s.work(ctx) })
	}
	return g.Wait()
}

// changed puts a component in the queue; "" stands for all of them.
func (s *Supervisor) changed(name string) {
	if name != "" {
		if s.runs(name) {
			s.queue.Add(name)
		}
		for _, n := range s.followers(name) {
			s.queue.Add(n)
		}
		return
	}
	for _, n := range s.names() {
		s.queue.Add(n)
	}
}

// followers are the components of this host whose rollout waits for the one of name.
func (s *Supervisor) followers(name string) []string {
	var out []string
	for _, u := range s.allUnits() {
		if s.runs(u.name) && u.follows() == name {
			out = append(out, u.name)
		}
	}
	return out
}

// heardOf is changed for news of the store. In a big fleet most of them are turns of other hosts: a host that
// only waits looks at those in its own time.
func (s *Supervisor) heardOf(name string) {
	s.mu.Lock()
	u := s.units[name]
	s.mu.Unlock()
	if u == nil || !s.runs(name) {
		s.changed(name)
		return
	}
	view := s.Store.View(name)
	patience := rollout.Patience(view)
	u.mu.Lock()
	waits := u.waits && u.saw == seenOf(view)
	u.mu.Unlock()
	if !waits || patience == 0 {
		s.changed(name)
		return
	}
	s.queue.AddAfter(name, rand.N(patience)) //nolint:gosec // spreads load, no secret
}

// runs reports whether this host is to run the component.
func (s *Supervisor) runs(name string) bool {
	return len(s.Components) == 0 || slices.Contains(s.Components, name)
}

// names are the components of this host: those of the store and those it remembers.
func (s *Supervisor) names() []string {
	var names []string
	add := func(n string) {
		if s.runs(n) && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, n := range s.Store.Names() {
		add(n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.units {
		add(n)
	}
	slices.Sort(names)
	return names
}

func (s *Supervisor) resync(ctx context.Context) error {
	for {
		s.discover(ctx)
		s.changed("")
		wait := s.Resync - s.Resync/10 + rand.N(s.Resync/5+1) //nolint:gosec // spreads load, no secret
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// discover finds components by their containers: what the store and the memory have lost is adopted
// and goes on serving.
func (s *Supervisor) discover(ctx context.Context) {
	cs, err := s.Engine.Containers(ctx)
	if err != nil {
		return // the passes tell
	}
	for _, c := range cs {
		if s.runs(c.Component) {
			s.unit(c.Component)
		}
	}
}

func (s *Supervisor) onIdle(id string) {
	s.mu.Lock()
	var owner string
	for name, u := range s.units {
		if u.owns(id) {
			owner = name
		}
	}
	s.mu.Unlock()
	if owner != "" {
		s.queue.Add(owner)
	}
}

func (s *Supervisor) work(ctx context.Context) error {
	for {
		name, done, err := s.queue.Get(ctx)
		if err != nil {
			return err
		}
		u := s.unit(name)
		if err := s.begins(ctx, name); err != nil {
			done()
			return err
		}
		next, err := s.pass(ctx, u)
		s.ends(name)
		s.follow(u, next, err)
		done() // another worker may have the unit from here on
	}
}

// begins notes that a pass is under way, once passes may begin.
func (s *Supervisor) begins(ctx context.Context, name string) error {
	for {
		s.mu.Lock()
		paused := s.paused
		if paused == nil {
			s.passing[name] = time.Now()
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-paused:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Supervisor) ends(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.passing, name)
	if s.unseen[name] {
		delete(s.unseen, name)
		if len(s.unseen) == 0 {
			close(s.ready)
		}
	}
}

// Ready is closed once every component that the host remembers had a pass, whatever came of it.
func (s *Supervisor) Ready() <-chan struct{} { return s.ready }

// Settled reports whether this host knows all that it is to run, and has looked at it: the store was read in this
// process and is trusted, and every component had a pass since with an answer of the engine. What nobody asked the
// Router for by then, nobody is about to.
func (s *Supervisor) Settled() bool {
	if _, ok := s.trust(s.Store.Cluster()); !ok {
		return false
	}
	for _, name := range s.names() {
		if !s.unit(name).isSettled() {
			return false
		}
	}
	return true
}

func (s *Supervisor) isReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// stuckAfter is far beyond the deadlines of everything a pass waits for.
const stuckAfter = 5 * time.Minute

// Alive says whether the loop makes progress: for a watchdog. It blocks when the loop is locked up.
func (s *Supervisor) Alive(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, since := range s.passing {
		if took := time.Since(since); took > stuckAfter {
			return fmt.Errorf("component %q: a pass has taken %v", name, took.Truncate(time.Second))
		}
	}
	return nil
}

// follow decides when the component is looked at again; all retry policy is here.
func (s *Supervisor) follow(u *unit, next time.Time, err error) {
	switch {
	case err == nil:
		u.failures = 0
		if !next.IsZero() {
			s.queue.AddAfter(u.name, max(0, time.Until(next)))
		}
	case errors.Is(err, component.ErrChanged), errors.Is(err, component.ErrTurnTaken), errors.Is(err, component.ErrTurnLost):
		s.queue.AddAfter(u.name, minBackoff) // a change of the view wakes it sooner
	case errors.Is(err, context.Canceled):
	default:
		u.failures++
		delay := min(maxBackoff, minBackoff<<min(u.failures-1, 10))
		if msg := err.Error(); msg != u.lastErr || u.failures == 1 {
			u.lastErr = msg
			s.Log.Warn("pass failed", "component", u.name, "attempt", u.failures, "err", err)
		}
		s.queue.AddAfter(u.name, delay)
	}
}

// pass takes one step for a component and says when to come back; a zero time means on an event.
func (s *Supervisor) pass(ctx context.Context, u *unit) (time.Time, error) {
	_, known := s.trust(s.Store.Cluster())
	view, out := s.heed(u.name, known)
	u.out = out
	want, turn := s.accept(u, &view)
	if want.Status == component.StatusKilled {
		u.hurry()
	}
	u.spare(want)
	have, err := s.observe(ctx, u, view, want, turn)
	if err != nil {
		if out != nil { // to close ports takes nothing from the engine
			if closing := s.Router.Apply(u.name, closed(u.routes)); closing != nil {
				s.Log.Warn("ports of a host out of service stay open", "component", u.name, "err", closing)
			}
		}
		s.publishBlind(u, want, err)
		return time.Time{}, err
	}
	if known {
		u.settle()
	}
	u.leave()
	have.Rollout, have.Host = view.Rollout, s.Host
	if out != nil {
		have.Out, have.OutSince = out.String(), out.Since
	}
	view.Desired = want // with the project's configuration, when the state has none
	have.Hold, have.Waits, have.Awaited = rollout.Hold(u.name, s.Host, view), view.Waits(), rollout.Awaited(s.Host, view)
	act := component.Next(want, have, turn)
	u.atRest = atRest(have, turn, act)
	u.look(view, act, turn)
	s.logAction(u, want, act)
	st := s.publish(u, want, have, act, turn)
	next, err := s.do(ctx, step{u: u, view: view, want: want, have: have, turn: turn, act: act, status: st})
	if err != nil {
		return time.Time{}, err
	}
	due, err := s.conclude(ctx, u, view)
	if err != nil {
		s.Log.Debug("rollout not concluded", "component", u.name, "err", err)
	}
	return sooner(next, due), nil
}

// unit returns the component's unit, made on first sight.
func (s *Supervisor) unit(name string) *unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.units[name]
	if !ok {
		u = newUnit(name, component.Record{}, time.Now())
		s.units[name] = u
	}
	return u
}

// task runs f beside the workers, then looks at the component again. Run waits for it.
func (s *Supervisor) task(name string, f func()) {
	s.tasks.Go(func() {
		f()
		s.queue.Add(name)
	})
}

// logAction logs what is done next when it is something else than before, and tells who waits for
// what.
func (s *Supervisor) logAction(u *unit, want component.Desired, act component.Action) {
	line := act.Verb.String() + act.Container + act.Reason
	if line == u.lastVerb {
		return
	}
	u.lastVerb = line
	s.Log.Debug("next", "component", u.name, "generation", want.Generation, "action", act.Verb.String(),
		"container", component.Short(act.Container), "reason", act.Reason)
	if act.Verb == component.Wait && act.Container == "" && act.Reason != "" {
		s.report(u, component.EventWaiting, "", "Component "+u.name+" waits", act.Reason)
	}
}

func (s *Supervisor) report(u *unit, kind component.EventKind, container, text, detail string) {
	s.Report(component.Event{
		At: time.Now(), Host: s.Host, Component: u.name, Kind: kind,
		Container: container, Text: text, Detail: detail,
	})
}

// reporter fills in what a Prober does not know.
func (s *Supervisor) reporter(u *unit) func(component.Event) {
	return func(e component.Event) {
		e.Host, e.Component = s.Host, u.name
		if e.At.IsZero() {
			e.At = time.Now()
		}
		s.Report(e)
	}
}
