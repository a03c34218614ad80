package etcdstate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

// watchResync is the longest time between two lists of Client.Watch: someone looks at it.
const watchResync = 5 * time.Second

// Project is all that is known of a project.
type Project struct {
	ConfigJSON []byte            // nil when there is none
	Config     component.Project // what could be read of it
	Problems   error             // values that do not parse, each with its key; nil when all do
	Components map[string]component.View
	Machines   map[string]component.Machine
	Drained    map[string]component.HostDrain // by host: those that are out of service
	Cluster    component.Cluster
}

// SetOption changes what SetDesired does.
type SetOption func(*setOptions)

type setOptions struct{ generation *int64 }

// IfGeneration makes the write depend on the state being of this generation still, 0 for no state:
// component.ErrChanged when it is not.
func IfGeneration(generation int64) SetOption {
	return func(o *setOptions) { o.generation = &generation }
}

// PutConfig replaces the project's config. It stores nothing that is not JSON of a project.
func (c *Client) PutConfig(ctx context.Context, project string, config []byte) error {
	k := projectKeys(project)
	err := checkName("project", project)
	if err == nil {
		err = decodeConfig(k.config(), config, projectConfig{}).problems()
	}
	if err != nil {
		return fmt.Errorf("write config of %q: %w", project, err)
	}
	if err := c.replace(ctx, k.config(), string(config)); err != nil {
		return fmt.Errorf("write config of %q: %w", project, err)
	}
	return nil
}

// ReplaceConfig is PutConfig on the condition that the config is of a revision still, 0 for no config, and
// returns the new one: component.ErrChanged when it is not.
func (c *Client) ReplaceConfig(ctx context.Context, project string, config []byte, revision int64) (int64, error) {
	k := projectKeys(project)
	err := checkName("project", project)
	if err == nil {
		err = decodeConfig(k.config(), config, projectConfig{}).problems()
	}
	if err == nil {
		revision, err = c.replaceFrom(ctx, k.config(), string(config), revision)
	}
	if err != nil {
		return 0, fmt.Errorf("write config of %q: %w", project, err)
	}
	return revision, nil
}

// replaceFrom writes a key that is of a revision still. One that has the value already is as good.
func (c *Client) replaceFrom(ctx context.Context, key, value string, revision int64) (int64, error) {
	resp, err := c.txn(ctx, []clientv3.Cmp{unchanged(key, revision)}, []clientv3.Op{clientv3.OpPut(key, value)}, []clientv3.Op{clientv3.OpGet(key)})
	if err != nil {
		return 0, err
	}
	if resp.Succeeded {
		return resp.Header.Revision, nil
	}
	raw, now := latest(resp.Responses[0].GetResponseRange().GetKvs())
	if string(raw) == value && now > revision {
		return now, nil // ours, of which the answer got lost, or as good
	}
	return 0, fmt.Errorf("%w: revision is %d, not %d", component.ErrChanged, now, revision)
}

// contention bounds how often an operator's write tries again because others wrote in between. Each
// try lost against a write that succeeded, so this many others must have been at it.
const contention = 100

// yield waits a moment so that of several who write the same key each gets its turn.
func yield(ctx context.Context, try int) bool {
	return pause(ctx, time.Duration(min(try, 20)+1)*time.Millisecond)
}

// replace writes a key, whatever its value is now; the last one wins.
func (c *Client) replace(ctx context.Context, key, value string) error {
	for try := range contention {
		if done, err := c.replaceOnce(ctx, key, value); err != nil || done {
			return err
		}
		if !yield(ctx, try) {
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("%w: others write it as well", component.ErrChanged)
}

// replaceOnce writes a key in place of the value it has now. False: another value came in between.
func (c *Client) replaceOnce(ctx context.Context, key, value string) (bool, error) {
	was, err := c.get(ctx, key)
	if err != nil {
		return false, err
	}
	revision := int64(0)
	for _, kv := range was.Kvs {
		revision = kv.ModRevision
	}
	resp, err := c.txn(ctx, []clientv3.Cmp{unchanged(key, revision)},
		[]clientv3.Op{clientv3.OpPut(key, value)}, []clientv3.Op{clientv3.OpGet(key)})
	if err != nil {
		return false, err
	}
	if resp.Succeeded {
		return true, nil
	}
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		if string(kv.Value) == value { // ours, or as good
			return true, nil
		}
	}
	return false, nil
}

// Config is the project's config as it was stored, and whether there is one.
func (c *Client) Config(ctx context.Context, project string) ([]byte, bool, error) {
	raw, revision, err := c.ConfigAt(ctx, project)
	return raw, revision != 0, err
}

// ConfigAt is the project's config as it was stored, and its revision; 0 when there is none.
func (c *Client) ConfigAt(ctx context.Context, project string) ([]byte, int64, error) {
	if err := checkName("project", project); err != nil {
		return nil, 0, err
	}
	resp, err := c.get(ctx, projectKeys(project).config())
	if err != nil {
		return nil, 0, fmt.Errorf("read config of %q: %w", project, err)
	}
	raw, revision := latest(resp.Kvs)
	return raw, revision, nil
}

// SetDesired writes the desired state of a component and returns its generation. StatusReady
// replaces image, spec and restart; StatusStopped and StatusKilled leave them as they are; fields of
// a newer version stay. What was asked for before becomes history in the same transaction, with how
// it ended. A write with an Operation that the state already has was done before, and
// its generation is returned; without one, it gets one. A zero At becomes now. After
// component.ErrUnreachable the same write, with the same Operation, is safe to repeat.
func (c *Client) SetDesired(ctx context.Context, project, name string, d component.Desired, opts ...SetOption) (int64, error) {
	var o setOptions
	for _, opt := range opts {
		opt(&o)
	}
	generation, err := c.setDesired(ctx, project, name, d, o)
	if err != nil {
		return 0, fmt.Errorf("write state of %q: %w", name, err)
	}
	return generation, nil
}

// complete checks d and fills in what the caller left out.
func complete(d component.Desired) (component.Desired, error) {
	switch d.Status {
	case component.StatusReady, component.StatusStopped, component.StatusKilled:
	default:
		return d, fmt.Errorf("status %q is none of ready, stopped, killed", d.Status)
	}
	if d.Operation == "" {
		d.Operation = newID()
	}
	if d.At.IsZero() {
		d.At = now()
	}
	return d, nil
}

func (c *Client) setDesired(ctx context.Context, project, name string, d component.Desired, o setOptions) (int64, error) {
	d, err := complete(d)
	if err = cmp.Or(err, checkName("project", project), checkName("component", name)); err != nil {
		return 0, err
	}
	k := projectKeys(project)
	p, err := c.present(ctx, k, name)
	if err != nil {
		return 0, err
	}
	for try := range contention {
		if operation(p.state) == d.Operation {
			return p.revision, nil
		}
		if o.generation != nil && *o.generation != p.revision {
			return 0, fmt.Errorf("%w: generation is %d, not %d", component.ErrChanged, p.revision, *o.generation)
		}
		next := p.takenOver(k, name, d)
		value, err := mergeDesired(k.state(name), p.state, next)
		if err != nil {
			return 0, err
		}
		resp, err := c.replacing(ctx, k, name, p, next, value)
		if err != nil {
			return 0, err
		}
		if resp.Succeeded {
			return resp.Header.Revision, nil
		}
		p = presentOf(k, name, resp)
		if !yield(ctx, try) {
			return 0, context.Cause(ctx)
		}
	}
	return 0, fmt.Errorf("%w: others write it as well", component.ErrChanged)
}

// operation is the ID of the write that a state key holds; empty when it does not tell.
func operation(raw []byte) string {
	var v struct {
		Operation string `json:"operation"`
	}
	if json.Unmarshal(raw, &v) != nil {
		return ""
	}
	return v.Operation
}

// Adopt writes an operator's word that the data there is now is what counts.
func (c *Client) Adopt(ctx context.Context, project, by string) error {
	if err := c.adopt(ctx, project, by); err != nil {
		return fmt.Errorf("adopt %q: %w", project, err)
	}
	return nil
}

func (c *Client) adopt(ctx context.Context, project, by string) error {
	if err := checkName("project", project); err != nil {
		return err
	}
	k := projectKeys(project)
	resp, err := c.project(ctx, k)
	if err != nil {
		return err
	}
	data := newCache(k)
	data.list(resp)
	value, err := encode(k.adopted(), component.Adoption{Nonce: newID(), Cluster: data.id(), By: by, At: now()})
	if err != nil {
		return err
	}
	return c.replace(ctx, k.adopted(), value)
}

// Project reads all of a project.
func (c *Client) Project(ctx context.Context, project string) (Project, error) {
	if err := checkName("project", project); err != nil {
		return Project{}, err
	}
	k := projectKeys(project)
	resp, err := c.get(ctx, k.prefix, k.live())
	if err != nil {
		return Project{}, fmt.Errorf("read project %q: %w", project, err)
	}
	data := newCache(k)
	data.list(resp)
	return data.project(component.Cluster{Reachable: true, Since: time.Now()}), nil
}

// maxProjects is how many names Projects returns at most.
const maxProjects = 1000

// Projects are the names of the projects that have anything stored, in order.
func (c *Client) Projects(ctx context.Context) ([]string, error) {
	var names []string
	end := clientv3.GetPrefixRangeEnd(root)
	for from := root; len(names) < maxProjects; {
		resp, err := c.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil {
			return nil, fmt.Errorf("list projects: %w", err)
		}
		if len(resp.Kvs) == 0 {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(string(resp.Kvs[0].Key), root), "/")
		if name != "" {
			names = append(names, name)
		}
		from = root + name + "0" // the first key that is not below name and a slash
	}
	return names, nil
}

// Watch calls f with the project as it is, and again after changes, until ctx ends. Changes that
// come together are told together. While etcd does not answer f is called once with
// Cluster.Reachable false; at the start that is an error.
func (c *Client) Watch(ctx context.Context, project string, f func(Project)) error {
	if err := checkName("project", project); err != nil {
		return err
	}
	k := projectKeys(project)
	w := watcher{client: c, data: newCache(k), f: f}
	for ctx.Err() == nil {
		resp, err := c.get(ctx, k.prefix, k.live())
		switch {
		case ctx.Err() != nil:
		case err != nil && (!w.data.listed || !errors.Is(err, component.ErrUnreachable)):
			return fmt.Errorf("watch project %q: %w", project, err)
		case err != nil:
			w.reachable(false)
			pause(ctx, time.Second)
		default:
			w.data.list(resp)
			w.reachable(true)
			w.follow(ctx, resp.Header.Revision)
		}
	}
	return context.Cause(ctx)
}

// watcher is a Watch that runs.
type watcher struct {
	client  *Client
	data    *cache
	f       func(Project)
	cluster component.Cluster
}

// reachable notes whether etcd answers, and tells what there is.
func (w *watcher) reachable(yes bool) {
	if was := w.cluster.Reachable; was != yes || w.cluster.Since.IsZero() {
		w.cluster.Reachable, w.cluster.Since = yes, time.Now()
	} else if !yes {
		return // told already
	}
	w.f(w.data.project(w.cluster))
}

// follow tells changes after rev until a new list is due.
func (w *watcher) follow(ctx context.Context, rev int64) {
	etcd, err := w.client.etcd(ctx)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), jitter(watchResync))
	defer cancel()
	events := etcd.Watch(ctx, w.data.keys.prefix, w.data.keys.live(), clientv3.WithRev(rev+1), clientv3.WithProgressNotify())
	told := true
	tell := func() {
		if !told {
			w.f(w.data.project(w.cluster))
		}
		told = true
	}
	defer tell()
	resp, ok := <-events
	for ok && resp.Err() == nil {
		changed, good := w.data.events(resp)
		if !good {
			return
		}
		told = told && len(changed) == 0
		select { // what has come already is told with it
		case resp, ok = <-events:
			continue
		default:
		}
		tell()
		resp, ok = <-events
	}
}
