package etcdstate

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// judges is how many of the hosts that run a component look at all of the project: the first ones by name. The
// others read and watch what steers them, and not what each host says of itself: else every word of every host
// would go to every host. A project of so many hosts, or fewer, has no others.
const judges = 5

// A span is a range of keys, to not being in it.
type span struct{ from, to string }

func one(key string) span { return span{key, key + "\x00"} }

// scope is what a host reads and watches of its project.
type scope struct {
	whole bool
	names []string // components whose hosts' words are left out, in the order of their keys
	last  string   // the last judge; empty when all machines are watched
}

// scope is what is to be read and watched by the host, as far as the machines and components are known.
func (c *cache) scope(host string) scope {
	last, itself := c.lastJudge(host)
	if itself {
		return scope{whole: true}
	}
	s := scope{}
	names := map[string]struct{}{}
	for name := range c.config.specs {
		names[name] = struct{}{}
	}
	for name := range c.components {
		names[name] = struct{}{}
	}
	s.names = slices.SortedFunc(maps.Keys(names), func(a, b string) int { return cmp.Compare(a+"/", b+"/") })
	if !c.linked() {
		s.last = last
	}
	return s
}

// lastJudge is the last of those who look at all of what the host runs: the first hosts by name of each of its
// components. The host is a judge itself when there are too few before it that run one of them.
func (c *cache) lastJudge(host string) (last string, itself bool) {
	left := map[string]int{}
	for _, name := range c.machines.get(host).Components {
		left[name] = judges
	}
	hosts := judges // of all, as long as it is not known what this one runs
	for _, h := range slices.Sorted(maps.Keys(c.machines.m)) {
		if h >= host {
			break
		}
		hosts--
		for _, name := range c.machines.m[h].Components {
			if n, mine := left[name]; mine && n > 1 {
				left[name] = n - 1
			} else {
				delete(left, name)
			}
		}
		if len(left) == 0 && hosts <= 0 {
			return h, false
		}
	}
	return "", true
}

// linked says whether any component needs a link, which another host may serve.
func (c *cache) linked() bool {
	for _, spec := range c.config.specs {
		if len(spec.RequireComponentLinks) > 0 {
			return true
		}
	}
	for _, d := range c.components {
		if s := d.desired.Spec; s != nil && len(s.RequireComponentLinks) > 0 {
			return true
		}
	}
	return false
}

// outgrown says whether a scope that was right when it was made is not any more: it is the other kind, has
// too few judges in it, or a component came that it does not know.
func (c *cache) outgrown(s scope, host string) bool {
	_, judge := c.lastJudge(host)
	if s.whole {
		return !judge
	}
	if judge || s.last == "" != c.linked() {
		return true
	}
	for name := range c.components {
		if _, ok := slices.BinarySearchFunc(s.names, name, func(a, b string) int { return cmp.Compare(a+"/", b+"/") }); !ok {
			return true
		}
	}
	return false
}

// gaps is all of the project up to the machines but what hosts say of the components in s.
func (k keys) gaps(s scope) (spans []span, rest string) {
	rest = k.prefix
	for _, name := range s.names {
		hosts := k.component(name) + "hosts/"
		spans = append(spans, span{rest, hosts})
		rest = strings.TrimSuffix(hosts, "/") + "0" // the first key after those that begin with hosts/
	}
	return spans, rest
}

// lists are the spans to read: what steers the host, and what it said itself.
func (k keys) lists(s scope, host string) []span {
	spans, rest := k.gaps(s)
	for _, name := range s.names {
		spans = append(spans, one(k.host(name, host)))
	}
	return append(spans, span{rest, k.prefix + "releases/"})
}

// watches are the spans to watch: what steers the host.
func (k keys) watches(s scope, host string) []span {
	if s.whole {
		return []span{{k.prefix, k.prefix + "releases/"}}
	}
	spans, rest := k.gaps(s)
	if s.last == "" {
		return append(spans, span{rest, k.prefix + "releases/"})
	}
	return append(spans, span{rest, k.machine(s.last) + "\x00"}, one(k.machine(host)))
}

// readSpans lists the spans, all as of one revision.
func (c *Client) readSpans(ctx context.Context, spans []span) (*clientv3.GetResponse, error) {
	var all *clientv3.GetResponse
	for part := range slices.Chunk(spans, 100) { // etcd takes 128 in one transaction by default
		ops := make([]clientv3.Op, len(part))
		for i, s := range part {
			opts := []clientv3.OpOption{clientv3.WithRange(s.to)}
			if all != nil {
				opts = append(opts, clientv3.WithRev(all.Header.Revision))
			}
			ops[i] = clientv3.OpGet(s.from, opts...)
		}
		resp, err := c.txn(ctx, nil, ops, nil)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = &clientv3.GetResponse{Header: resp.Header}
		}
		for _, r := range resp.Responses {
			all.Kvs = append(all.Kvs, r.GetResponseRange().GetKvs()...)
		}
	}
	return all, nil
}

// lookAround reads of a project that is not known at all how many hosts and which components it has.
func (s *Store) lookAround(ctx context.Context) error {
	s.mu.Lock()
	listed := s.cache.listed
	s.mu.Unlock()
	if listed {
		return nil
	}
	resp, err := s.client.get(ctx, s.keys.config(), clientv3.WithRange(s.keys.prefix+"releases/"))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, kv := range resp.Kvs {
		s.cache.put(kv, changes{})
	}
	return nil
}

// project lists what is in the host's scope, and says what that is.
func (s *Store) project(ctx context.Context) (*clientv3.GetResponse, scope, error) {
	if err := s.lookAround(ctx); err != nil {
		return nil, scope{}, err
	}
	s.mu.Lock()
	scope := s.cache.scope(s.host)
	s.mu.Unlock()
	if scope.whole {
		resp, err := s.client.project(ctx, s.keys)
		return resp, scope, err
	}
	resp, err := s.client.readSpans(ctx, s.keys.lists(scope, s.host))
	return resp, scope, err
}

// answer is what one of several watches said.
type answer struct {
	clientv3.WatchResponse
	ended bool
}

// watch follows the scope from a revision on, until ctx ends. Each watch is in order for itself.
func (s *Store) watch(ctx context.Context, wg *sync.WaitGroup, etcd *clientv3.Client, scope scope, rev int64) <-chan answer {
	answers := make(chan answer) // read until ctx ends
	for i, sp := range s.keys.watches(scope, s.host) {
		opts := []clientv3.OpOption{clientv3.WithRange(sp.to), clientv3.WithRev(rev)}
		if i == 0 { // one that tells of silence is enough
			opts = append(opts, clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
		}
		events := etcd.Watch(ctx, sp.from, opts...)
		wg.Go(func() {
			for open := true; open; {
				var a answer
				a.WatchResponse, open = <-events
				a.ended = !open
				select {
				case answers <- a:
				case <-ctx.Done():
					open = false
				}
			}
		})
	}
	return answers
}
