package etcdstate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/gantryd/gantryd/pkg/component"
)

// DefaultTTL is how long a host that is gone blocks others.
const DefaultTTL = 15 * time.Second

// DefaultResync is the longest time between two full lists.
const DefaultResync = time.Minute

// ErrHostTaken says that another daemon that is alive goes by the name of this host.
var ErrHostTaken = errors.New("host name is taken")

// StoreOptions say whose store it is.
type StoreOptions struct {
	Project string
	Host    string
	// TTL is the life of the lease; whole seconds, at least 2 s, DefaultTTL when 0.
	TTL time.Duration
	// LeaseFile keeps the ID of the lease, so that a daemon that comes back does not wait for its
	// own lease to end. Its owner must hold a lock that no second daemon of this host gets. May be empty.
	LeaseFile string
	// Resync is the longest time between two full lists, give or take a fifth; DefaultResync when 0.
	Resync time.Duration
	// Inherit is what another process of this daemon had, which has stopped using it. May be nil.
	Inherit *Tenancy
	Log     *slog.Logger // nil discards
}

// A Tenancy is what makes a process the daemon of its host: whoever has it goes on with the lease, the turns
// and everything else that hangs on it.
type Tenancy struct {
	Lease   int64             `json:"lease"` // 0: none
	Nonce   string            `json:"nonce"`
	Machine component.Machine `json:"machine"` // as it was published last
}

// Tenancy is for the process that comes after this one. Run must have ended.
func (s *Store) Tenancy() Tenancy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Tenancy{Lease: int64(s.granted), Nonce: s.nonce, Machine: clone(s.machine)}
}

// Store is a host's side of a project. It implements supervisor.Store.
type Store struct {
	client    *Client
	keys      keys
	host      string
	nonce     string // tells this daemon from another of the same name
	ttl       time.Duration
	resync    time.Duration
	leaseFile string
	log       *slog.Logger

	doubt  chan struct{} // one token: ask etcd for a sign of life now
	relist chan struct{} // one token: list now

	mu        sync.Mutex
	cache     *cache
	changed   func(name string) // nil outside Run
	lease     lease
	granted   clientv3.LeaseID // the newest lease that etcd gave; 0 when none
	listErr   error            // why the last list failed
	leaseErr  error            // why the last renewal or registration failed
	reachable bool
	cause     string // of not being reachable, as far as there is one
	since     time.Time
	published map[string]component.HostStatus // what this host wants to be known, by component
	machine   component.Machine
	endings   map[string]ending        // ends of turns whose outcome is unknown, by component
	writing   map[string]chan struct{} // by component, "" for the machine: one token, who has it may write
	reported  map[string]string        // problems logged, by key
}

// lease is the lease everything of this host hangs on.
type lease struct {
	id         clientv3.LeaseID // 0: none
	until      time.Time        // it cannot have expired before
	registered bool             // the machine's key hangs on it
}

// NewStore makes the store of a host. It does nothing before Run. The client stays the caller's.
func NewStore(c *Client, o StoreOptions) (*Store, error) {
	o.TTL, o.Resync = orDuration(o.TTL, DefaultTTL), orDuration(o.Resync, DefaultResync)
	if err := cmp.Or(checkName("project", o.Project), checkName("host", o.Host)); err != nil {
		return nil, err
	}
	if o.TTL < 2*time.Second || o.TTL%time.Second != 0 {
		return nil, fmt.Errorf("lease TTL %s is not a number of whole seconds from 2 on", o.TTL)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	k, nonce := projectKeys(o.Project), newID()
	s := &Store{
		client: c, keys: k, host: o.Host, nonce: nonce, ttl: o.TTL, resync: o.Resync, leaseFile: o.LeaseFile,
		log:       o.Log.With("project", o.Project),
		doubt:     make(chan struct{}, 1),
		relist:    make(chan struct{}, 1),
		cache:     newCache(k),
		since:     time.Now(),
		machine:   component.Machine{Status: "running", Nonce: nonce, StartedAt: time.Now().UTC().Truncate(time.Second)},
		published: map[string]component.HostStatus{},
		endings:   map[string]ending{},
		writing:   map[string]chan struct{}{},
		reported:  map[string]string{},
	}
	if t := o.Inherit; t != nil {
		s.granted, s.nonce, s.machine = clientv3.LeaseID(t.Lease), t.Nonce, clone(t.Machine)
		s.machine.Nonce = t.Nonce
	}
	return s, nil
}

// Run registers this host and keeps the view current until ctx ends. Errors of etcd do not end it;
// it goes on trying. It returns ErrHostTaken, after TTL + 2 s of waiting, when another daemon of
// this host's name is alive. What hangs on the lease stays until it expires or Deregister.
func (s *Store) Run(ctx context.Context, changed func(name string)) error {
	s.mu.Lock()
	s.changed = changed
	s.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.watchLoop(ctx) })
	g.Go(func() error { return s.leaseLoop(ctx) })
	err := g.Wait()
	s.mu.Lock()
	s.changed = nil
	s.mu.Unlock()
	return err
}

// Names are the components of the project's config and those with a state, sorted.
func (s *Store) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache.names()
}

// View is what is known of a component. Turn.State is Mine as long as the lease of the turn cannot
// have expired, even while etcd does not answer; after that it is Unreachable until etcd answers.
func (s *Store) View(name string) component.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.cache.view(name)
	_, mine, ok := s.ownTurn(name)
	switch {
	case ok && time.Now().Before(s.lease.until):
		v.Turn.State, v.Turn.Generation, v.Turn.Repair = component.TurnMine, mine.Generation, mine.Repair
		v.Turn.Task = mine.Task
	case !s.reachable:
		v.Turn.State = component.TurnUnreachable
	}
	return v
}

// Cluster is what is known of etcd. Reachable means that this host can ask: the project was listed,
// the host is registered, and neither the last list nor the last renewal of the lease failed. A
// renewal is tried every TTL/3 and fails when there is no answer for TTL/5, so a silent etcd is
// noticed within 8 s at the default TTL; a refused request brings the next renewal forward.
func (s *Store) Cluster() component.Cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return component.Cluster{
		ID:        s.cache.id(),
		Revision:  s.cache.revision,
		Reachable: s.reachable,
		Since:     s.since,
		Adoption:  s.cache.adoption,
	}
}

// Deregister gives up the lease, and with it all that hangs on it: the machine, what this host
// published, its turns. It is for a clean exit, after Run; it takes 2 s at most.
func (s *Store) Deregister(ctx context.Context) error {
	s.mu.Lock()
	id := s.granted // also when Run ended in the middle of the registration
	s.granted, s.lease = 0, lease{}
	s.mu.Unlock()
	if id == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.revoke(ctx, id); err != nil {
		return fmt.Errorf("deregister host %q: %w", s.host, err)
	}
	return s.forgetLease()
}

// ownTurn is this host's turn under the current lease. The caller holds mu.
func (s *Store) ownTurn(name string) (slot int, t turn, ok bool) {
	d := s.cache.components[name]
	if d == nil || s.lease.id == 0 {
		return 0, turn{}, false
	}
	for slot, t := range d.turns {
		if t.lease == s.lease.id {
			return slot, t, true
		}
	}
	return 0, turn{}, false
}

// update applies f to the store, and then logs and tells what it changed.
func (s *Store) update(f func() changes) {
	s.mu.Lock()
	changed := f()
	if changed == nil {
		changed = changes{}
	}
	was, wasCause := s.reachable, s.cause
	s.checkReachable()
	now, cause, c := s.reachable, s.cause, s.cache
	cluster, revision := c.id(), c.revision
	problems := s.freshProblems()
	notify := s.changed
	s.mu.Unlock()

	switch {
	case now && !was:
		s.log.Info("store reachable", "cluster", cluster, "revision", revision)
	case !now && (was || cause != wasCause):
		s.log.Warn("store unreachable", "err", cause)
	}
	for _, err := range problems {
		s.log.Error("value in the store does not parse, it is left alone", "err", err)
	}
	if now != was {
		changed.add("")
	}
	changed.tell(notify)
}

// tell calls notify with what changed, as far as hosts have to look.
func (c changes) tell(notify func(string)) {
	if notify == nil {
		return
	}
	if c[""] {
		notify("")
		return
	}
	for name, loud := range c {
		if loud {
			notify(name)
		}
	}
}

// checkReachable brings reachable and its cause up to date. The caller holds mu.
func (s *Store) checkReachable() {
	err := s.listErr
	if err == nil {
		err = s.leaseErr
	}
	s.cause = ""
	if err != nil {
		s.cause = err.Error()
	}
	if now := s.cache.listed && s.lease.registered && err == nil; now != s.reachable {
		s.reachable, s.since = now, time.Now()
	}
}

// freshProblems are the values that do not parse and were not told of yet. The caller holds mu.
func (s *Store) freshProblems() []error {
	var fresh []error
	for key, err := range s.cache.problems {
		if s.reported[key] != err.Error() {
			s.reported[key] = err.Error()
			fresh = append(fresh, err)
		}
	}
	for key := range s.reported {
		if s.cache.problems[key] == nil {
			delete(s.reported, key)
		}
	}
	return fresh
}

// signal puts the token into ch, if it is not there.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// failing notes that a request got no answer, so that the renewal of the lease looks at once.
func (s *Store) failing(err error) error {
	if errors.Is(err, component.ErrUnreachable) {
		signal(s.doubt)
	}
	return err
}

// turnTo waits until this caller may write about a component, and returns how it lets go.
func (s *Store) turnTo(ctx context.Context, name string) (func(), error) {
	s.mu.Lock()
	ch, ok := s.writing[name]
	if !ok {
		ch = make(chan struct{}, 1) // one token: one writer
		s.writing[name] = ch
	}
	s.mu.Unlock()
	select {
	case ch <- struct{}{}:
		return func() { <-ch }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
