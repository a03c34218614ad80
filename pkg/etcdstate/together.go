package etcdstate

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

// MaxTogether is how many components one transaction may write: etcd bounds its operations by 128.
const MaxTogether = 24

// A Write is the state that one component is to have.
type Write struct {
	Component string
	Desired   component.Desired
}

// SetTogether writes the states of several components in one transaction, all or none, so that they have
// the same generation, which it returns. Each write is as that of SetDesired; all are to have the same
// Operation.
func (c *Client) SetTogether(ctx context.Context, project string, writes []Write) (int64, error) {
	generation, err := c.setTogether(ctx, project, writes)
	if err != nil {
		return 0, fmt.Errorf("write states of %q: %w", project, err)
	}
	return generation, nil
}

func (c *Client) setTogether(ctx context.Context, project string, writes []Write) (int64, error) {
	writes = slices.Clone(writes)
	err := checkName("project", project)
	for i := range writes {
		var bad error
		writes[i].Desired, bad = complete(writes[i].Desired)
		err = cmp.Or(err, bad, checkName("component", writes[i].Component))
	}
	switch n := len(writes); {
	case err != nil:
		return 0, err
	case n == 0, n > MaxTogether:
		return 0, fmt.Errorf("%d components at once: 1 to %d can be", n, MaxTogether)
	}
	k := projectKeys(project)
	for try := range contention {
		ps, err := c.presents(ctx, k, writes)
		if err != nil {
			return 0, err
		}
		if operation(ps[0].state) == writes[0].Desired.Operation {
			return ps[0].revision, nil
		}
		generation, done, err := c.replaceAll(ctx, k, ps, writes)
		if err != nil || done {
			return generation, err
		}
		if !yield(ctx, try) {
			return 0, context.Cause(ctx)
		}
	}
	return 0, fmt.Errorf("%w: others write them as well", component.ErrChanged)
}

// presents reads what is asked for now of all components in writes, at one moment.
func (c *Client) presents(ctx context.Context, k keys, writes []Write) ([]present, error) {
	var ops []clientv3.Op
	for _, w := range writes {
		ops = append(ops, presentOps(k, w.Component)...)
	}
	resp, err := c.txn(ctx, nil, ops, nil)
	if err != nil {
		return nil, err
	}
	per := len(resp.Responses) / len(writes)
	ps := make([]present, len(writes))
	for i, w := range writes {
		one := clientv3.TxnResponse{Responses: resp.Responses[i*per : (i+1)*per]}
		ps[i] = presentOf(k, w.Component, &one)
	}
	return ps, nil
}

// replaceAll commits the writes in place of ps, together with the past of each, in one transaction. Not done:
// some state or record was another. An answer that got lost is recognised by the operation of the first.
func (c *Client) replaceAll(ctx context.Context, k keys, ps []present, writes []Write) (generation int64, done bool, err error) {
	var cmps []clientv3.Cmp
	var ops []clientv3.Op
	size := 0
	for i, w := range writes {
		p := ps[i]
		next := p.takenOver(k, w.Component, w.Desired)
		value, err := mergeDesired(k.state(w.Component), p.state, next)
		if err != nil {
			return 0, false, err
		}
		size += len(value)
		ops = append(ops, clientv3.OpPut(k.state(w.Component), value))
		past := p.archive(k, w.Component, next, size)
		for _, op := range past {
			size += len(op.ValueBytes())
		}
		ops = append(ops, past...)
		cmps = append(cmps, unchanged(k.state(w.Component), p.revision), unchanged(k.rollout(w.Component), p.recordedAt))
	}
	first := writes[0]
	resp, err := c.txn(ctx, cmps, ops, []clientv3.Op{clientv3.OpGet(k.state(first.Component))})
	switch {
	case err != nil:
		return 0, false, err
	case resp.Succeeded:
		return resp.Header.Revision, true, nil
	}
	raw, revision := latest(resp.Responses[0].GetResponseRange().GetKvs())
	return revision, operation(raw) == first.Desired.Operation, nil
}

// rollbackTogether takes a release of several components back: of each that is still asked for what at says
// was asked for together. ErrNoRelease when none of them has anything to go back to.
func (c *Client) rollbackTogether(ctx context.Context, k keys, name string, by component.Desired, at component.View) error {
	var ps []present
	var writes []Write
	for _, n := range at.Desired.Together {
		p, past, err := c.history(ctx, k, n)
		if err != nil {
			return err
		}
		switch {
		case n == name && operation(p.state) == by.Operation:
			return nil
		case n == name && (p.revision != at.Desired.Generation || p.recordedAt != at.RolloutRevision):
			return component.ErrChanged
		case p.revision != at.Desired.Generation:
			continue // something else is asked for of it
		}
		config, err := c.spec(ctx, k, n)
		if err != nil {
			return err
		}
		d, ok := component.BackTogether(past, config)
		if !ok {
			continue
		}
		d.Operation, d.By, d.At, d.Reason, d.Automatic = by.Operation, by.By, by.At, by.Reason, by.Automatic
		ps, writes = append(ps, p), append(writes, Write{n, d})
	}
	if len(writes) == 0 {
		return component.ErrNoRelease
	}
	_, done, err := c.replaceAll(ctx, k, ps, writes)
	if err == nil && !done {
		err = component.ErrChanged
	}
	return err
}
