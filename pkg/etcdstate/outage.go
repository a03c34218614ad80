package etcdstate

import (
	"cmp"
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

// Drain takes a host out of service by an operator's word, provided that decide, which sees the project, has nothing
// against it; its error is returned as it is. What decide saw of other hosts that are out of service is what there is: of
// two that are drained at once, one is decided on first. It returns the word with its revision.
func (c *Client) Drain(ctx context.Context, project, host string, w component.Word, decide func(Project) error) (component.HostDrain, error) {
	d := component.HostDrain{Word: w, Operation: newID()}
	if err := cmp.Or(checkName("project", project), checkName("host", host)); err != nil {
		return d, err
	}
	if d.At.IsZero() {
		d.At = now()
	}
	k := projectKeys(project)
	value, err := encode(k.drain(host), d)
	if err != nil {
		return d, err
	}
	for try := range contention {
		p, err := c.decided(ctx, k, func(p Project) error {
			if p.Drained[host].Operation == d.Operation { // an answer that got lost
				return nil
			}
			return decide(p)
		})
		if err != nil {
			return d, err
		}
		if is := p.Drained[host]; is.Operation == d.Operation {
			return is, nil
		}
		resp, err := c.txn(ctx, []clientv3.Cmp{
			unchanged(k.drain(host), 0),
			clientv3.Compare(clientv3.ModRevision(k.drains()), "<", p.Cluster.Revision+1).WithPrefix(), // nobody that decide did not see
		}, []clientv3.Op{clientv3.OpPut(k.drain(host), value)}, nil)
		if err != nil {
			return d, fmt.Errorf("drain host %q: %w", host, err)
		}
		if resp.Succeeded {
			d.Revision = resp.Header.Revision
			return d, nil
		}
		if !yield(ctx, try) {
			return d, context.Cause(ctx)
		}
	}
	return d, fmt.Errorf("drain host %q: %w: others are drained as well", host, component.ErrChanged)
}

// decided is the project as it is now, when decide has nothing against it.
func (c *Client) decided(ctx context.Context, k keys, decide func(Project) error) (Project, error) {
	data, err := c.read(ctx, k)
	if err != nil {
		return Project{}, fmt.Errorf("read project: %w", err)
	}
	p := data.project(component.Cluster{Reachable: true, Since: now()})
	return p, decide(p)
}

// Undrain takes a host back into service, provided that decide, which sees the project, has nothing against it. It returns
// the word that it took back.
func (c *Client) Undrain(ctx context.Context, project, host string, decide func(Project) error) (component.HostDrain, error) {
	if err := cmp.Or(checkName("project", project), checkName("host", host)); err != nil {
		return component.HostDrain{}, err
	}
	k := projectKeys(project)
	var last component.HostDrain
	for try := range contention {
		p, err := c.decided(ctx, k, func(p Project) error {
			if _, drained := p.Drained[host]; !drained && last.Revision != 0 { // this, or another operator, did it
				return nil
			}
			return decide(p)
		})
		is, drained := p.Drained[host]
		switch {
		case err != nil:
			return is, err
		case !drained:
			return last, nil
		}
		last = is
		resp, err := c.txn(ctx, []clientv3.Cmp{unchanged(k.drain(host), is.Revision)}, []clientv3.Op{clientv3.OpDelete(k.drain(host))}, nil)
		if err != nil {
			return is, fmt.Errorf("undrain host %q: %w", host, err)
		}
		if resp.Succeeded {
			return is, nil
		}
		if !yield(ctx, try) {
			return is, context.Cause(ctx)
		}
	}
	return last, fmt.Errorf("undrain host %q: %w: others write it as well", host, component.ErrChanged)
}
