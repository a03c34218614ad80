package etcdstate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

// ErrForgotten says that etcd does not hold any more what was at a revision: it was compacted, or the data is
// other data.
var ErrForgotten = errors.New("what was then is not kept any more")

// progressAfter is when a watch asks how far it is: others move the revision on, and etcd forgets old ones.
const progressAfter = time.Second

// Moments calls f with the project as it was at a revision, 0 for now, and then with each revision that changed
// it, one by one and in order: whoever asks for the same revisions is told the same. Now and then it calls f with
// a later revision that changed nothing. It ends with ctx, with the
// error of f, or with ErrForgotten. While etcd does not answer it waits; at the start that is an error.
func (c *Client) Moments(ctx context.Context, project string, from int64, f func(revision int64, p Project) error) error {
	if err := checkName("project", project); err != nil {
		return err
	}
	k := projectKeys(project)
	opts := []clientv3.OpOption{k.live()}
	if from != 0 {
		opts = append(opts, clientv3.WithRev(from))
	}
	resp, err := c.get(ctx, k.prefix, opts...)
	if err != nil {
		return fmt.Errorf("read project %q: %w", project, forgotten(err))
	}
	if from == 0 {
		from = resp.Header.Revision
	}
	m := &moments{client: c, data: newCache(k), cluster: resp.Header.ClusterId, revision: from, f: f}
	m.data.list(resp)
	if err := m.tell(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := m.follow(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// forgotten is err, or ErrForgotten when that is what it means.
func forgotten(err error) error {
	if errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev) {
		return ErrForgotten
	}
	return err
}

// moments is a Moments that runs.
type moments struct {
	client   *Client
	data     *cache
	cluster  uint64
	revision int64 // the last one that was told, or is known to have changed nothing
	f        func(int64, Project) error
}

func (m *moments) tell() error {
	return m.f(m.revision, m.data.project(component.Cluster{Reachable: true}))
}

// follow tells what comes after the revision, until the watch ends or it is time to make sure of it.
func (m *moments) follow(ctx context.Context) error {
	etcd, err := m.client.etcd(ctx)
	if err != nil {
		pause(ctx, time.Second)
		return nil //nolint:nilerr // it is asked again
	}
	watch, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), jitter(watchResync))
	defer cancel()
	ask := time.AfterFunc(progressAfter, func() { _ = etcd.RequestProgress(watch) }) // else the next watch asks
	defer ask.Stop()
	for resp := range etcd.Watch(watch, m.data.keys.prefix, m.data.keys.live(), clientv3.WithRev(m.revision+1)) {
		if resp.CompactRevision > m.revision {
			return ErrForgotten
		}
		if resp.Err() != nil {
			break
		}
		if err := m.apply(resp); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return m.sure(ctx)
}

// sure makes sure that etcd still has the data that was told of.
func (m *moments) sure(ctx context.Context) error {
	resp, err := m.client.get(ctx, m.data.keys.identity())
	switch {
	case err != nil:
		pause(ctx, time.Second)
	case resp.Header.ClusterId != m.cluster, resp.Header.Revision < m.revision:
		return ErrForgotten
	}
	return nil
}

// apply tells each revision in resp.
func (m *moments) apply(resp clientv3.WatchResponse) error {
	if resp.IsProgressNotify() && resp.Header.Revision > m.revision {
		m.revision = resp.Header.Revision
		m.data.complete, m.data.revision = m.revision, m.revision
		return m.tell()
	}
	for i, e := range resp.Events {
		switch key := string(e.Kv.Key); {
		case key == m.data.keys.identity() && m.data.marker != "" && m.data.marker != string(e.Kv.Value):
			return ErrForgotten
		case key == m.data.keys.identity():
			m.data.marker = string(e.Kv.Value)
		case e.Type == clientv3.EventTypeDelete:
			m.data.remove(key, e.Kv.ModRevision, changes{})
		default:
			m.data.put(e.Kv, changes{})
		}
		if i+1 < len(resp.Events) && resp.Events[i+1].Kv.ModRevision == e.Kv.ModRevision {
			continue
		}
		m.revision = e.Kv.ModRevision
		m.data.complete, m.data.revision = m.revision, m.revision
		if err := m.tell(); err != nil {
			return err
		}
	}
	return nil
}
