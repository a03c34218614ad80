package etcdstate

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

// ErrAlive says that a host cannot be forgotten: its daemon runs.
var ErrAlive = errors.New("host is alive")

// Steer replaces the rollout record of a component by what decide makes of the view, and returns the
// generation that was steered. An error of decide is returned as it is. What decide saw is what is
// replaced: it is asked again when something changed in between.
func (c *Client) Steer(ctx context.Context, project, name string, decide func(component.View) (component.Rollout, error)) (int64, error) {
	if err := cmp.Or(checkName("project", project), checkName("component", name)); err != nil {
		return 0, err
	}
	k, op := projectKeys(project), newID()
	for try := range contention {
		resp, err := c.get(ctx, k.prefix, k.live())
		if err != nil {
			return 0, fmt.Errorf("steer %q: %w", name, err)
		}
		data := newCache(k)
		data.list(resp)
		v := data.view(name)
		r, err := decide(v)
		if err != nil {
			return 0, err
		}
		done, err := c.steer(ctx, data, name, v, r, op)
		if err != nil {
			return 0, fmt.Errorf("steer %q: %w", name, err)
		}
		if done {
			return v.Desired.Generation, nil
		}
		if !yield(ctx, try) {
			return 0, context.Cause(ctx)
		}
	}
	return 0, fmt.Errorf("steer %q: %w: others write it as well", name, component.ErrChanged)
}

func (c *Client) steer(ctx context.Context, data *cache, name string, v component.View, r component.Rollout, op string) (bool, error) {
	k := data.keys
	key := k.rollout(name)
	value, err := data.rolloutOver(name, r, op)
	if err != nil {
		return false, err
	}
	cmps := []clientv3.Cmp{unchanged(k.state(name), v.Desired.Generation), unchanged(key, v.RolloutRevision)}
	resp, err := c.txn(ctx, cmps, []clientv3.Op{clientv3.OpPut(key, value)}, []clientv3.Op{clientv3.OpGet(key)})
	if err != nil {
		return false, err
	}
	raw := []byte(nil)
	if !resp.Succeeded {
		raw, _ = latest(resp.Responses[0].GetResponseRange().GetKvs())
	}
	return resp.Succeeded || operation(raw) == op, nil // an answer that got lost
}

// Forget takes away what components wait for of a host that is gone for good: that it was lost in turns, and
// that it is a canary; and the word by which it is out of service. It returns the components that waited for it, and
// whether there was such a word. ErrAlive when its daemon runs. Each component is one transaction: after an error some
// may have forgotten it, and it is safe to repeat.
func (c *Client) Forget(ctx context.Context, project, host string) (waited []string, drained bool, err error) {
	if err := cmp.Or(checkName("project", project), checkName("host", host)); err != nil {
		return nil, false, err
	}
	k := projectKeys(project)
	if waited, err = c.forget(ctx, k, host); err == nil {
		drained, err = c.forgetDrain(ctx, k, host)
	}
	if err != nil {
		return nil, false, fmt.Errorf("forget host %q: %w", host, err)
	}
	return waited, drained, nil
}

// forgetDrain takes away the word by which a host whose daemon does not run is out of service, and says whether there
// was one.
func (c *Client) forgetDrain(ctx context.Context, k keys, host string) (bool, error) {
	resp, err := c.txn(ctx, []clientv3.Cmp{unchanged(k.machine(host), 0)}, []clientv3.Op{clientv3.OpDelete(k.drain(host))}, nil)
	switch {
	case err != nil:
		return false, err
	case !resp.Succeeded:
		return false, ErrAlive
	}
	return resp.Responses[0].GetResponseDeleteRange().Deleted > 0, nil
}

func (c *Client) forget(ctx context.Context, k keys, host string) ([]string, error) {
	data, err := c.read(ctx, k)
	if err == nil && data.has(k.machine(host)) {
		err = ErrAlive
	}
	if err != nil {
		return nil, err
	}
	var waited []string
	for _, name := range data.names() {
		did, err := c.forgetIn(ctx, k, name, host, data)
		if err != nil {
			return nil, err
		}
		if did {
			waited = append(waited, name)
		}
	}
	return waited, nil
}

// read is the project as it is now.
func (c *Client) read(ctx context.Context, k keys) (*cache, error) {
	resp, err := c.get(ctx, k.prefix, k.live())
	if err != nil {
		return nil, err
	}
	data := newCache(k)
	data.list(resp)
	return data, nil
}

// forgetIn makes a component wait for the host no longer, and says whether it did.
func (c *Client) forgetIn(ctx context.Context, k keys, name, host string, data *cache) (bool, error) {
	op, tried := newID(), false
	for try := range contention {
		v := data.view(name)
		writes, cmps, err := data.forgetting(name, host, v, op)
		switch {
		case err != nil:
			return false, err
		case len(writes) == 0:
			return tried, nil // an answer that got lost, or nothing to do
		case data.has(k.machine(host)):
			return false, ErrAlive
		}
		resp, err := c.txn(ctx, cmps, writes, nil)
		if err != nil {
			return false, err
		}
		if resp.Succeeded {
			return true, nil
		}
		tried = true
		if !yield(ctx, try) {
			return false, context.Cause(ctx)
		}
		if data, err = c.read(ctx, k); err != nil {
			return false, err
		}
	}
	return false, fmt.Errorf("%w: others write %q as well", component.ErrChanged, name)
}

// forgetting are the writes after which a component waits for the host no longer, and what they need.
func (c *cache) forgetting(name, host string, v component.View, op string) ([]clientv3.Op, []clientv3.Cmp, error) {
	k := c.keys
	cmps := []clientv3.Cmp{unchanged(k.machine(host), 0)}
	var writes []clientv3.Op
	if at, lost := v.Changing[host]; lost {
		writes = append(writes, clientv3.OpDelete(k.changing(name, host)))
		cmps = append(cmps, unchanged(k.changing(name, host), at))
	}
	if r, changed := v.Forgotten(host); changed {
		key := k.rollout(name)
		value, err := c.rolloutOver(name, r, op)
		if err != nil {
			return nil, nil, err
		}
		writes = append(writes, clientv3.OpPut(key, value))
		cmps = append(cmps, unchanged(k.state(name), v.Desired.Generation), unchanged(key, v.RolloutRevision))
	}
	return writes, cmps, nil
}
