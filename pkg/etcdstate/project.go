package etcdstate

import (
	"context"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

// project lists a project. A project without an identity gets one: etcd's own cluster ID is made
// of its addresses and comes back when its data is lost, so it cannot tell new data from old.
func (c *Client) project(ctx context.Context, k keys) (*clientv3.GetResponse, error) {
	for {
		resp, err := c.get(ctx, k.prefix, k.live())
		if err != nil {
			return nil, err
		}
		identified := slices.ContainsFunc(resp.Kvs, func(kv *mvccpb.KeyValue) bool {
			return string(kv.Key) == k.identity()
		})
		if identified {
			return resp, nil
		}
		_, err = c.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(k.identity()), "=", 0)},
			[]clientv3.Op{clientv3.OpPut(k.identity(), newID())}, nil)
		if err != nil {
			return nil, err
		}
	}
}

// project is a copy of all that is known, with cluster's Reachable and Since.
func (c *cache) project(cluster component.Cluster) Project {
	cluster.ID, cluster.Revision, cluster.Adoption = c.id(), c.revision, c.adoption
	p := Project{
		ConfigJSON: slices.Clone(c.configJSON),
		Components: map[string]component.View{},
		Machines:   c.machines.all(),
		Drained:    c.drains.all(),
		Problems:   c.problem(),
		Cluster:    cluster,
	}
	for _, name := range c.config.order {
		p.Config.Components = append(p.Config.Components, clone(c.config.specs[name]))
	}
	for _, name := range c.names() {
		p.Components[name] = c.view(name)
	}
	return p
}

// problem is every value that does not parse, or nil.
func (c *cache) problem() error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(c.problems)) {
		errs = append(errs, c.problems[key])
	}
	return together(errs)
}

// latest is the value and revision of a key that was read, nil and 0 when there is none.
func latest(kvs []*mvccpb.KeyValue) ([]byte, int64) {
	if len(kvs) == 0 {
		return nil, 0
	}
	return kvs[0].Value, kvs[0].ModRevision
}
