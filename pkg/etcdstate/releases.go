package etcdstate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

// maxTogether bounds what one transaction writes, below the 1.5 MiB that etcd takes.
const maxTogether = 1400 << 10

// pastValue is the value of a release key. The state and the record are kept as they were written,
// with fields of a newer version.
type pastValue struct {
	Desired json.RawMessage   `json:"desired"`
	Rollout json.RawMessage   `json:"rollout,omitempty"`
	Outcome component.Outcome `json:"outcome"`
}

// present is what is asked for of a component now, and where its past is.
type present struct {
	state, rollout       []byte
	revision, recordedAt int64
	past                 []int64 // generations that are kept, oldest first
}

// presentOps read what presentOf takes.
func presentOps(k keys, name string) []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpGet(k.state(name)), clientv3.OpGet(k.rollout(name)),
		clientv3.OpGet(k.releases(name), clientv3.WithPrefix(), clientv3.WithKeysOnly()),
	}
}

func presentOf(k keys, name string, resp *clientv3.TxnResponse) present {
	var p present
	p.state, p.revision = latest(resp.Responses[0].GetResponseRange().GetKvs())
	p.rollout, p.recordedAt = latest(resp.Responses[1].GetResponseRange().GetKvs())
	for _, kv := range resp.Responses[2].GetResponseRange().GetKvs() {
		if g, err := strconv.ParseInt(strings.TrimPrefix(string(kv.Key), k.releases(name)), 10, 64); err == nil {
			p.past = append(p.past, g)
		}
	}
	slices.Sort(p.past)
	return p
}

// present reads what is asked for of a component at one moment.
func (c *Client) present(ctx context.Context, k keys, name string) (present, error) {
	resp, err := c.txn(ctx, nil, presentOps(k, name), nil)
	if err != nil {
		return present{}, err
	}
	return presentOf(k, name, resp), nil
}

// record is the rollout record, zero when there is none that can be read.
func (p present) record(k keys, name string) component.Rollout {
	var r rolloutValue
	if p.rollout == nil || decode(k.rollout(name), p.rollout, &r) != nil {
		return component.Rollout{}
	}
	return r.Rollout
}

// takenOver is d with what the present state says of the same release. A state that cannot be read
// says nothing.
func (p present) takenOver(k keys, name string, d component.Desired) component.Desired {
	if p.revision == 0 {
		return d
	}
	before, err := decodeDesired(k.state(name), p.state, p.revision)
	if err != nil {
		return d
	}
	return d.After(before, p.record(k, name))
}

// archive are the operations that move the present state into the past, because next takes its
// place with a value of so many bytes. A state that cannot be read leaves no trace.
func (p present) archive(k keys, name string, next component.Desired, size int) []clientv3.Op {
	if p.revision == 0 {
		return nil
	}
	d, err := decodeDesired(k.state(name), p.state, p.revision)
	if err != nil {
		return nil
	}
	v := pastValue{Desired: p.state, Outcome: component.Ended(d, p.record(k, name), next)}
	if p.record(k, name).Generation == p.revision {
		v.Rollout = p.rollout
	}
	if size+len(p.state) > maxTogether || len(p.state)+len(p.rollout) > maxValue-4096 {
		d.Spec = nil // what it was can be told, to go back to it cannot
		if v.Desired, err = json.Marshal(d); err != nil {
			return nil
		}
	}
	value, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	ops := []clientv3.Op{clientv3.OpPut(k.release(name, p.revision), string(value))}
	for _, g := range p.past[:max(0, len(p.past)-component.KeepReleases+2)] { // one more comes, and the present one counts
		ops = append(ops, clientv3.OpDelete(k.release(name, g)))
	}
	return ops
}

// replacing commits put, the new value of the state key for next, together with the past. Not
// succeeded: the state or the record was another, and the answer holds what they are now.
func (c *Client) replacing(ctx context.Context, k keys, name string, p present, next component.Desired, value string, more ...clientv3.Op) (*clientv3.TxnResponse, error) {
	ops := append([]clientv3.Op{clientv3.OpPut(k.state(name), value)}, more...)
	ops = append(ops, p.archive(k, name, next, len(value))...)
	cmps := []clientv3.Cmp{unchanged(k.state(name), p.revision), unchanged(k.rollout(name), p.recordedAt)}
	return c.txn(ctx, cmps, ops, presentOps(k, name))
}

// History is what was asked for of a component, the present first, up to component.KeepReleases
// entries.
func (c *Client) History(ctx context.Context, project, name string) ([]component.Past, error) {
	if err := cmp.Or(checkName("project", project), checkName("component", name)); err != nil {
		return nil, err
	}
	k := projectKeys(project)
	_, past, err := c.history(ctx, k, name)
	if err != nil {
		return nil, fmt.Errorf("read history of %q: %w", name, err)
	}
	return past, nil
}

// history reads the present and what history makes of it at one moment.
func (c *Client) history(ctx context.Context, k keys, name string) (present, []component.Past, error) {
	ops := append(presentOps(k, name), clientv3.OpGet(k.releases(name), clientv3.WithPrefix()))
	resp, err := c.txn(ctx, nil, ops, nil)
	if err != nil {
		return present{}, nil, err
	}
	p := presentOf(k, name, resp)
	past, err := history(k, name, p, resp.Responses[3].GetResponseRange().GetKvs())
	return p, past, err
}

// rollback writes the state that brings the newest good release back, provided that state and record are
// those of at. One that was written before, by the same operation, is done.
func (c *Client) rollback(ctx context.Context, k keys, name string, by component.Desired, at component.View) error {
	p, past, err := c.history(ctx, k, name)
	if err != nil {
		return err
	}
	switch {
	case operation(p.state) == by.Operation:
		return nil
	case p.revision != at.Desired.Generation || p.recordedAt != at.RolloutRevision:
		return component.ErrChanged
	}
	to, ok := component.BackFrom(past[0].Desired, past[1:])
	if !ok {
		return component.ErrNoRelease
	}
	config, err := c.spec(ctx, k, name)
	if err != nil {
		return err
	}
	d := to.Back(config)
	d.Operation, d.By, d.At, d.Reason, d.Automatic = by.Operation, by.By, by.At, by.Reason, by.Automatic
	value, err := mergeDesired(k.state(name), p.state, d)
	if err != nil {
		return err
	}
	resp, err := c.replacing(ctx, k, name, p, d, value)
	if err != nil || resp.Succeeded {
		return err
	}
	if operation(presentOf(k, name, resp).state) == by.Operation {
		return nil
	}
	return component.ErrChanged
}

// spec is what the stored config says of a component, nil when it does not or cannot be read.
func (c *Client) spec(ctx context.Context, k keys, name string) (*component.Spec, error) {
	resp, err := c.get(ctx, k.config())
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	if s, ok := decodeConfig(k.config(), resp.Kvs[0].Value, projectConfig{}).specs[name]; ok {
		return &s, nil
	}
	return nil, nil
}

// history joins the present and the past, newest first. A past state that cannot be read is left out.
func history(k keys, name string, p present, kvs []*mvccpb.KeyValue) ([]component.Past, error) {
	var out []component.Past
	if p.revision != 0 {
		d, err := decodeDesired(k.state(name), p.state, p.revision)
		if err != nil {
			return nil, err
		}
		now := component.Past{Generation: p.revision, Desired: d, Outcome: component.Ended(d, p.record(k, name), component.Desired{})}
		if r := p.record(k, name); r.Generation == p.revision {
			now.Rollout = r
		}
		out = append(out, now)
	}
	for _, kv := range kvs {
		g, err := strconv.ParseInt(strings.TrimPrefix(string(kv.Key), k.releases(name)), 10, 64)
		if err != nil {
			continue
		}
		var v pastValue
		if decode(string(kv.Key), kv.Value, &v) != nil {
			continue
		}
		e := component.Past{Generation: g, Outcome: v.Outcome}
		if e.Desired, err = decodeDesired(string(kv.Key), v.Desired, g); err != nil {
			continue
		}
		if v.Rollout != nil && decode(string(kv.Key), v.Rollout, &e.Rollout) != nil {
			e.Rollout = component.Rollout{}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b component.Past) int { return cmp.Compare(b.Generation, a.Generation) })
	return out, nil
}
