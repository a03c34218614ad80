package etcdstate

import (
	"maps"
	"slices"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

// cache is a project as far as it is known. What comes late is recognised by its revision, so that
// own writes, watch events and lists can be applied in any order. It is not safe for concurrent use.
type cache struct {
	keys    keys
	listed  bool
	cluster uint64 // etcd's ID, which may survive a loss of its data
	marker  string // our own ID in the data, which does not
	// complete is the revision up to which every change is known; revision is that of the newest
	// answer, which may be one of an own write with others before it.
	complete, revision int64
	// heard is the newest revision that a watch told of, of whatever part: a list made after it cannot be older.
	heard int64

	known map[string]version // keys, so that what vanished between two lists is noticed
	gone  map[string]int64   // keys deleted after complete

	configJSON []byte
	config     projectConfig
	adoption   component.Adoption
	components map[string]*componentCache
	machines   shared[component.Machine]
	drains     shared[component.HostDrain]
	problems   map[string]error // by key: values that do not parse
	// partial says that what other hosts say is not known, see scope; then complete moves on with lists only,
	// because watches of several spans are in order each for itself.
	partial bool
}

type version struct {
	mod   int64
	lease clientv3.LeaseID
}

type componentCache struct {
	desired    component.Desired
	desiredErr error
	rollout    component.Rollout
	rolloutRaw []byte // as it is stored
	hosts      shared[component.HostStatus]
	turns      map[int]turn
	changing   map[string]int64 // hosts with a turn for an update that did not end, with the revision of that
	asOf       int64            // revision up to which the watch told all but what hosts say; it may be behind complete
}

// turn is the value of a turn key.
type turn struct {
	version
	turnValue
}

func newCache(k keys) *cache {
	return &cache{
		keys:       k,
		known:      map[string]version{},
		gone:       map[string]int64{},
		components: map[string]*componentCache{},
		problems:   map[string]error{},
	}
}

// changes are the names of components whose view changed; "" stands for all of them. Those of a quiet change
// only, such as another count of connections, are false: no host has to look, people may want to.
type changes map[string]bool

func (c changes) add(name string) { c[name] = true }

func (c changes) addQuiet(name string) {
	if _, there := c[name]; !there {
		c[name] = false
	}
}

// list makes the cache what resp says, except for what is newer. Data of another cluster, or older
// than what was seen, replaces everything.
func (c *cache) list(resp *clientv3.GetResponse) changes {
	changed := changes{}
	marker := ""
	for _, kv := range resp.Kvs {
		if string(kv.Key) == c.keys.identity() {
			marker = string(kv.Value)
		}
	}
	if c.replaced(resp, marker) {
		*c = *newCache(c.keys)
		changed.add("")
	}
	c.listed, c.cluster, c.marker = true, resp.Header.ClusterId, marker
	c.complete, c.revision = resp.Header.Revision, max(c.revision, resp.Header.Revision)
	there := make(map[string]struct{}, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		there[string(kv.Key)] = struct{}{}
		c.put(kv, changed)
	}
	for key, v := range c.known {
		if _, ok := there[key]; !ok && v.mod <= c.complete {
			c.remove(key, c.complete, changed)
		}
	}
	maps.DeleteFunc(c.gone, func(_ string, rev int64) bool { return rev <= c.complete })
	return changed
}

// replaced says whether resp is of other data than the cache.
func (c *cache) replaced(resp *clientv3.GetResponse, marker string) bool {
	return c.listed && (resp.Header.ClusterId != c.cluster || marker != c.marker || c.outdated(resp.Header.Revision))
}

// outdated reports whether data of the revision is older than what is known. Own writes do not count: a list that was
// made before one may come after it.
func (c *cache) outdated(revision int64) bool { return revision < max(c.complete, c.heard) }

// id names the data; it changes when the data is replaced.
func (c *cache) id() string {
	if !c.listed {
		return ""
	}
	id := strconv.FormatUint(c.cluster, 16)
	if c.marker != "" {
		id += "-" + c.marker
	}
	return id
}

// events applies what a watch says. It applies nothing and says false when the project's identity
// is in it: then the data may be other data, which only a list can tell.
func (c *cache) events(resp clientv3.WatchResponse) (changes, bool) {
	changed := changes{}
	for _, e := range resp.Events {
		if string(e.Kv.Key) == c.keys.identity() {
			return nil, false
		}
	}
	for _, e := range resp.Events {
		if e.Type == clientv3.EventTypeDelete {
			c.remove(string(e.Kv.Key), e.Kv.ModRevision, changed)
		} else {
			c.put(e.Kv, changed)
		}
		c.told(string(e.Kv.Key), e.Kv.ModRevision)
		c.heard = max(c.heard, e.Kv.ModRevision)
	}
	c.revision = max(c.revision, c.complete)
	return changed, true
}

// told notes that a watch told of everything up to the revision: of all there is, or of the component.
func (c *cache) told(key string, rev int64) {
	if !c.partial {
		c.complete = max(c.complete, rev)
		return
	}
	p := c.keys.parse(key)
	if d, ok := c.components[p.component]; ok && p.kind != kindHost {
		d.asOf = max(d.asOf, rev)
	}
}

// put applies one key.
func (c *cache) put(kv *mvccpb.KeyValue, changed changes) {
	key := string(kv.Key)
	p := c.keys.parse(key)
	if p.kind == kindOther || c.known[key].mod >= kv.ModRevision || c.gone[key] >= kv.ModRevision {
		return
	}
	v := version{mod: kv.ModRevision, lease: clientv3.LeaseID(kv.Lease)}
	c.known[key] = v
	delete(c.gone, key)
	delete(c.problems, key)
	before, told := c.status(p)
	c.set(p, key, kv.Value, v)
	if after, tells := c.status(p); told && tells && equal(before.Still(), after.Still()) {
		changed.addQuiet(p.component)
		return
	}
	changed.add(p.component)
}

// status is what the host says whose key p is the place of, if it is one.
func (c *cache) status(p place) (st component.HostStatus, ok bool) {
	if d := c.components[p.component]; d != nil && p.kind == kindHost {
		st, ok = d.hosts.m[p.host]
	}
	return st, ok
}

// set keeps the value of a key. One that does not parse is kept as a problem.
func (c *cache) set(p place, key string, raw []byte, v version) {
	var err error
	switch p.kind {
	case kindConfig:
		c.configJSON = slices.Clone(raw)
		c.config = decodeConfig(key, raw, c.config)
		err = c.config.problems()
	case kindAdopted:
		c.adoption = component.Adoption{}
		err = decode(key, raw, &c.adoption)
	case kindState:
		d := c.at(p.component)
		d.desired, err = decodeDesired(key, raw, v.mod)
		d.desiredErr = err
	case kindRollout:
		var r rolloutValue
		err = decode(key, raw, &r)
		c.at(p.component).rollout, c.at(p.component).rolloutRaw = r.Rollout, slices.Clone(raw)
	case kindTurn:
		t := turn{version: v}
		err = decode(key, raw, &t.turnValue)
		c.at(p.component).turns[p.slot] = t
	case kindChanging:
		c.at(p.component).changing[p.host] = v.mod
	case kindHost:
		var h hostValue
		if err = decode(key, raw, &h); err != nil {
			c.at(p.component).hosts.remove(p.host)
			break
		}
		c.at(p.component).hosts.put(p.host, h.HostStatus)
	case kindMachine:
		var m machineValue
		if err = decode(key, raw, &m); err != nil {
			c.machines.remove(p.host)
			break
		}
		c.machines.put(p.host, m.Machine)
	case kindDrain:
		var d component.HostDrain
		if err = decode(key, raw, &d); err != nil { // somebody meant it to be out of service
			d = component.HostDrain{}
		}
		d.Revision = v.mod
		c.drains.put(p.host, d)
	case kindIdentity, kindOther: // the identity changes by list only, together with all the rest
	}
	if err != nil {
		c.problems[key] = err
	}
}

// remove applies the deletion of one key at a revision.
func (c *cache) remove(key string, rev int64, changed changes) {
	p := c.keys.parse(key)
	if p.kind == kindOther || c.known[key].mod > rev {
		return
	}
	if _, ok := c.known[key]; ok {
		changed.add(p.component)
	}
	delete(c.known, key)
	delete(c.problems, key)
	if rev > c.complete {
		c.gone[key] = rev
	}
	switch p.kind {
	case kindConfig:
		c.configJSON, c.config = nil, projectConfig{}
	case kindAdopted:
		c.adoption = component.Adoption{}
	case kindMachine:
		c.machines.remove(p.host)
	case kindDrain:
		c.drains.remove(p.host)
	case kindState, kindRollout, kindTurn, kindChanging, kindHost:
		c.removeOf(p)
	case kindIdentity, kindOther:
	}
}

func (c *cache) removeOf(p place) {
	d, ok := c.components[p.component]
	if !ok {
		return
	}
	switch p.kind {
	case kindState:
		d.desired, d.desiredErr = component.Desired{}, nil
	case kindRollout:
		d.rollout, d.rolloutRaw = component.Rollout{}, nil
	case kindTurn:
		delete(d.turns, p.slot)
	case kindChanging:
		delete(d.changing, p.host)
	case kindHost:
		d.hosts.remove(p.host)
	default:
	}
	if !c.has(c.keys.state(p.component)) && !c.has(c.keys.rollout(p.component)) && len(d.turns)+len(d.changing)+len(d.hosts.m) == 0 {
		delete(c.components, p.component)
	}
}

// at is what is known of a component, made when there was nothing.
func (c *cache) at(name string) *componentCache {
	d, ok := c.components[name]
	if !ok {
		d = &componentCache{turns: map[int]turn{}, changing: map[string]int64{}}
		c.components[name] = d
	}
	return d
}

// rollout is the rollout record of a component and its revision.
func (c *cache) rollout(name string) (component.Rollout, int64) {
	d, ok := c.components[name]
	if !ok {
		return component.Rollout{}, 0
	}
	return d.rollout, c.known[c.keys.rollout(name)].mod
}

// rolloutOver is the value of a component's rollout key with r in place of the record that is known.
func (c *cache) rolloutOver(name string, r component.Rollout, op string) (string, error) {
	var raw []byte
	if d, ok := c.components[name]; ok {
		raw = d.rolloutRaw
	}
	return mergeRollout(c.keys.rollout(name), raw, r, op)
}

func (c *cache) has(key string) bool {
	_, ok := c.known[key]
	return ok
}

// names are the components of the config and those with a state, sorted.
func (c *cache) names() []string {
	names := map[string]struct{}{}
	for name := range c.config.specs {
		names[name] = struct{}{}
	}
	for name := range c.components {
		if c.has(c.keys.state(name)) {
			names[name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// view is what is known of a component, without Turn.State and Turn.Generation. What it holds is shared
// and of this moment: nobody changes it.
func (c *cache) view(name string) component.View {
	v := component.View{
		RolloutRevision: c.known[c.keys.rollout(name)].mod,
		Machines:        c.machines.all(),
		Drained:         c.drains.all(),
		Partial:         c.partial,
	}
	if spec, ok := c.config.specs[name]; ok {
		v.Config = &spec
	}
	d, ok := c.components[name]
	if !ok {
		v.Hosts = map[string]component.HostStatus{}
		return v
	}
	v.Desired, v.DesiredErr = d.desired, d.desiredErr
	v.Rollout = d.rollout
	v.Changing = maps.Clone(d.changing)
	v.Hosts = d.hosts.all()
	v.Turn.Holders, v.Turn.Tasker = d.holders(), d.tasker()
	if problem := c.config.problem(name); v.DesiredErr == nil && v.Desired.Spec == nil && v.Desired.Generation != 0 && v.Config == nil && problem != nil {
		v.Desired, v.DesiredErr = component.Desired{}, problem // a state by hand, its spec is in the config
	}
	return v
}

// tasker is the host that has a turn to run the pre-deploy task, if any.
func (d *componentCache) tasker() string {
	for _, t := range d.turns {
		if t.Task {
			return t.Host
		}
	}
	return ""
}

// holders are the hosts that have turns, by slot.
func (d *componentCache) holders() []string {
	var hosts []string
	for _, slot := range slices.Sorted(maps.Keys(d.turns)) {
		host := d.turns[slot].Host
		if host == "" {
			host = "unknown"
		}
		hosts = append(hosts, host)
	}
	return hosts
}
