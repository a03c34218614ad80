package localstate

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

const (
	storeName = "store.json"
	// reserve is how many revisions every version of the file sets aside for the versions after
	// it: when the newest one is lost, the one before knows which revisions may have been used.
	// So a revision is used only when both versions on the disk set it aside.
	reserve = 1000
	// maxRevision leaves room above every revision that is read from a file.
	maxRevision = 1 << 62
)

// Options of a Store.
type Options struct {
	Host string       // the name of this machine's host, as in View.Hosts
	Log  *slog.Logger // discards when nil
	// Above is a generation that was used before: new ones are greater. Pass the greatest one that
	// containers and Memory know, so that a lost file does not make generations start over.
	Above int64
}

// Store is desired and observed state of one host in a file. It implements the supervisor's Store,
// and what an operator needs on the same machine. All methods may be called at once.
//
// Desired states, specs, rollout records and the adoption are durable when the call that wrote
// them returns. What belongs to the running daemon (its turns, its statuses, its machine) is in
// memory and goes with the process, as it goes with a lease on a fleet.
//
// After a write returned an error the old value counts. Only when the disk failed at the very
// last step, a restart may find the new value; repeating the write settles it.
type Store struct {
	host    string
	file    *file
	created bool
	since   time.Time

	token    chan struct{} // held by who writes; size 1, never closed. It guards the three below.
	counter  int64         // greatest revision that may have been used
	reserved int64         // what the newest version on the disk sets aside, 0 when that is not certain
	before   int64         // what the version before it sets aside

	now atomic.Pointer[snapshot]

	mu        sync.Mutex
	listeners map[*listener]struct{}
}

// snapshot is everything at one moment. It never changes; a write makes the next one.
type snapshot struct {
	data     storeFile
	statuses map[string]json.RawMessage // component.HostStatus by component
	turns    map[string]held            // turns taken, by component
	machine  json.RawMessage            // component.Machine; nil before the first one
}

// held is a turn.
type held struct {
	generation int64 // what it was taken for
	repair     bool
	task       bool
}

// storeFile is the content of the file. Values are kept as they were written, and decoded for
// every reader, so that readers get copies and fields of a newer version survive.
type storeFile struct {
	ID         string                   `json:"id"`
	Revision   int64                    `json:"revision"` // of the last change
	Used       int64                    `json:"used"`     // greatest revision that may have been used
	Reserved   int64                    `json:"reserved"` // revisions up to here may be used by later versions of the file
	Adoption   json.RawMessage          `json:"adoption,omitempty"`
	Components map[string]componentData `json:"components"`
}

type componentData struct {
	Generation      int64           `json:"generation,omitempty"`
	Desired         json.RawMessage `json:"desired,omitempty"`
	Config          json.RawMessage `json:"config,omitempty"`
	RolloutRevision int64           `json:"rollout_revision,omitempty"`
	Rollout         json.RawMessage `json:"rollout,omitempty"`
	GoodGeneration  int64           `json:"good_generation,omitempty"`
	Good            json.RawMessage `json:"good,omitempty"` // the last desired state whose rollout ended done
}

func (c componentData) empty() bool {
	return c.Desired == nil && c.Config == nil && c.Rollout == nil
}

// OpenStore opens the store in dir; both are created when they are missing. A damaged file counts
// in its previous version; then revisions go on above all that may have been used, and Cluster
// shows the older one until the next write. A lost one is replaced by an empty store with another
// ID. The error is ErrNewer, or that the directory cannot be read or written.
func OpenStore(dir string, o Options) (*Store, error) {
	return openStore(dir, o, osDisk{})
}

func openStore(dir string, o Options, d disk) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := d.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("create state directory %q: %w", dir, err)
	}
	s := &Store{
		host: o.Host, since: time.Now(), token: make(chan struct{}, 1), listeners: map[*listener]struct{}{},
		file: &file{
			disk: d, path: filepath.Join(dir, storeName), kind: kindStore, log: o.Log,
			keep: keep{"components": {"*": {}}}, normalise: normaliseStore,
		},
	}
	if err := s.load(o.Above); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

func (s *Store) load(above int64) error {
	content, from, err := s.file.load()
	if err != nil {
		return err
	}
	snap := &snapshot{statuses: map[string]json.RawMessage{}, turns: map[string]held{}}
	if err := decode(content, &snap.data); err != nil {
		return err
	}
	s.now.Store(snap)
	switch from {
	case fromCurrent:
		s.counter = snap.data.Used
		if s.file.certain() {
			s.reserved = snap.data.Reserved
		}
	case fromPrevious:
		s.counter = snap.data.Reserved
	case fromNothing, fromLost:
		s.counter = max(0, above) + 1
		s.reserved = maxRevision // there is no version before the first one
		s.created = true
		snap.data = storeFile{ID: rand.Text(), Revision: s.counter, Components: map[string]componentData{}}
		return s.reserveMore()
	}
	s.counter = max(s.counter, above)
	return nil
}

// normaliseStore is data as this version understands it; the error means that it makes no sense.
func normaliseStore(data []byte) ([]byte, error) {
	var f storeFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if f.ID == "" || f.Revision < 0 || f.Used < f.Revision || f.Reserved < f.Used || f.Reserved > maxRevision {
		return nil, errors.New("revisions or identity make no sense")
	}
	return json.Marshal(f)
}

// Created reports whether OpenStore found nothing it could use, and the store is a new one.
func (s *Store) Created() bool { return s.created }

// A draft is the next snapshot while a write works on it.
type draft struct {
	snapshot
	revision int64 // of this write, should it change anything durable
	durable  bool
	changed  []string // components whose view changes, "" for all
	quiet    bool     // not worth a pass of the supervisor
}

func (d *draft) put(name string, c componentData) {
	d.durable = true
	d.changed = append(d.changed, name)
	if c.empty() {
		delete(d.data.Components, name)
		return
	}
	d.data.Components[name] = c
}

// update makes one write: f works on a copy, which counts once it is durable.
func (s *Store) update(ctx context.Context, f func(*draft) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case s.token <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.token }()
	d := &draft{snapshot: *s.now.Load(), revision: s.counter + 1}
	d.statuses, d.turns = maps.Clone(d.statuses), maps.Clone(d.turns)
	d.data.Components = maps.Clone(d.data.Components)
	if d.data.Components == nil {
		d.data.Components = map[string]componentData{}
	}
	if err := f(d); err != nil {
		return err
	}
	if d.durable {
		if err := s.persist(d); err != nil {
			return err
		}
	}
	s.now.Store(&d.snapshot)
	s.notify(d.changed, d.quiet)
	return nil
}

func (s *Store) persist(d *draft) error {
	for d.revision > min(s.reserved, s.before) { // twice at most
		if err := s.reserveMore(); err != nil {
			return err
		}
	}
	d.data.Revision, d.data.Used, d.data.Reserved = d.revision, d.revision, d.revision+reserve
	settled, err := s.writeFile(d.data)
	if err == nil || !settled { // the revision may be on the disk: never use it again
		s.counter = d.revision
	}
	if err != nil {
		return err
	}
	s.before, s.reserved = s.reserved, d.data.Reserved
	return nil
}

// reserveMore writes a version that sets more revisions aside and uses none.
func (s *Store) reserveMore() error {
	data := s.now.Load().data
	data.Used, data.Reserved = s.counter, s.counter+reserve
	if data.Reserved == s.reserved {
		data.Reserved++ // an equal version would not be written, and not replace the one before
	}
	if _, err := s.writeFile(data); err != nil {
		return err
	}
	s.before, s.reserved = s.reserved, data.Reserved
	return nil
}

// writeFile reports also whether it is certain which version is on the disk.
func (s *Store) writeFile(data storeFile) (settled bool, err error) {
	b, err := json.Marshal(data)
	if err != nil {
		return true, err
	}
	if err := s.file.save(b); err != nil {
		return s.file.certain(), fmt.Errorf("write state file: %w", err)
	}
	return true, nil
}

// Names are the components that have a spec or a desired state, sorted.
func (s *Store) Names() []string {
	var names []string
	for n, c := range s.now.Load().data.Components {
		if c.Config != nil || c.Desired != nil {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// View is what is known of a component. It is a copy.
func (s *Store) View(name string) component.View {
	snap := s.now.Load()
	c := snap.data.Components[name]
	v := component.View{RolloutRevision: c.RolloutRevision, Turn: snap.turn(name, s.host)}
	if err := c.decode(&v); err != nil {
		v.Desired, v.DesiredErr = component.Desired{}, fmt.Errorf("read stored state of component %q: %w", name, err)
	}
	v.Hosts = one[component.HostStatus](s.host, snap.statuses[name])
	v.Machines = one[component.Machine](s.host, snap.machine)
	return v
}

func (c componentData) decode(v *component.View) error {
	if err := decode(c.Desired, &v.Desired); err != nil {
		return fmt.Errorf("desired state: %w", err)
	}
	v.Desired.Generation = c.Generation
	if err := decode(c.Rollout, &v.Rollout); err != nil {
		return fmt.Errorf("rollout record: %w", err)
	}
	if err := decode(c.Config, &v.Config); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	return nil
}

func (snap *snapshot) turn(name, host string) component.Turn {
	t, mine := snap.turns[name]
	if !mine {
		return component.Turn{State: component.TurnWaiting}
	}
	out := component.Turn{State: component.TurnMine, Generation: t.generation, Repair: t.repair, Task: t.task, Holders: []string{host}}
	if t.task {
		out.Tasker = host
	}
	return out
}

// one is the map of what this host said, empty when it said nothing.
func one[T any](host string, value json.RawMessage) map[string]T {
	m := map[string]T{}
	var v T
	if value != nil && json.Unmarshal(value, &v) == nil { // it was checked when it was stored
		m[host] = v
	}
	return m
}

// Cluster is the store's identity and its last revision. A file is always reachable.
func (s *Store) Cluster() component.Cluster {
	data := s.now.Load().data
	c := component.Cluster{ID: data.ID, Revision: data.Revision, Reachable: true, Since: s.since}
	if decode(data.Adoption, &c.Adoption) != nil {
		c.Adoption = component.Adoption{} // written by a newer version: nothing this one can act on
	}
	return c
}
