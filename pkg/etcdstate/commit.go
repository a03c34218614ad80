package etcdstate

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/internal/failpoint"
)

// write is one write of a transaction.
type write struct {
	key, value string
	lease      clientv3.LeaseID
	remove     bool
}

func put(key, value string, lease clientv3.LeaseID) write {
	return write{key: key, value: value, lease: lease}
}

func remove(key string) write { return write{key: key, remove: true} }

func (w write) op() clientv3.Op {
	if w.remove {
		return clientv3.OpDelete(w.key)
	}
	return clientv3.OpPut(w.key, w.value, clientv3.WithLease(w.lease))
}

// read is a key, or all keys below a prefix that ends with a slash.
type read string

func reads(keys ...string) []read {
	rs := make([]read, len(keys))
	for i, k := range keys {
		rs[i] = read(k)
	}
	return rs
}

func (r read) op() clientv3.Op {
	if r.isPrefix() {
		return clientv3.OpGet(string(r), clientv3.WithPrefix())
	}
	return clientv3.OpGet(string(r))
}

func (r read) isPrefix() bool { return strings.HasSuffix(string(r), "/") }

func (r read) covers(key string) bool {
	return string(r) == key || r.isPrefix() && strings.HasPrefix(key, string(r))
}

// unchanged holds when the key's last change is that of revision; 0: when there is no such key.
func unchanged(key string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", revision)
}

// commit does the writes, all or none, when cmps hold, and brings the view up to date at once: with
// the writes when they were done, else with what is read instead. The first write must be a put of
// a value nobody else writes, and be among what is read: it tells a commit whose answer got lost.
// The revision is that of the answer.
func (s *Store) commit(ctx context.Context, cmps []clientv3.Cmp, writes []write, instead []read) (done bool, revision int64, err error) {
	then, otherwise := make([]clientv3.Op, len(writes)), make([]clientv3.Op, len(instead))
	for i, w := range writes {
		then[i] = w.op()
	}
	for i, r := range instead {
		otherwise[i] = r.op()
	}
	after := failpoint.Around(s.keys.pointOf(writes))
	resp, err := s.client.txn(ctx, cmps, then, otherwise)
	after()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		signal(s.doubt)
		return false, 0, errNoLease
	}
	if err != nil {
		return false, 0, s.failing(err)
	}
	s.observe(resp.Header.ClusterId, resp.Header.Revision)
	done = resp.Succeeded
	s.update(func() changes {
		changed := changes{}
		s.cache.revision = max(s.cache.revision, resp.Header.Revision)
		if resp.Succeeded {
			s.cache.applyWrites(writes, resp.Header.Revision, changed)
			return changed
		}
		done = s.cache.applyReads(instead, writes[0], resp, changed)
		return changed
	})
	return done, resp.Header.Revision, nil
}

// pointOf names what the writes do. Those of a turn come with others; a machine's have their names where they
// are made.
func (k keys) pointOf(writes []write) failpoint.Point {
	turn := false
	for _, w := range writes {
		turn = turn || k.parse(w.key).kind == kindTurn
	}
	switch first := k.parse(writes[0].key); {
	case first.kind == kindTurn:
		return failpoint.TakeTurn
	case first.kind == kindHost && turn:
		return failpoint.EndTurn
	case first.kind == kindHost:
		return failpoint.Publish
	case first.kind == kindChanging:
		return failpoint.Returned
	case first.kind == kindMachine:
		return ""
	default:
		return failpoint.PutRollout
	}
}

func (c *cache) applyWrites(writes []write, rev int64, changed changes) {
	for _, w := range writes {
		if w.remove {
			c.remove(w.key, rev, changed)
			continue
		}
		c.put(&mvccpb.KeyValue{Key: []byte(w.key), Value: []byte(w.value), ModRevision: rev, Lease: int64(w.lease)}, changed)
	}
}

// applyReads says whether the value of w was among what was read.
func (c *cache) applyReads(reads []read, w write, resp *clientv3.TxnResponse, changed changes) (found bool) {
	there := map[string]bool{}
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			there[string(kv.Key)] = true
			found = found || string(kv.Key) == w.key && string(kv.Value) == w.value
			c.put(kv, changed)
		}
	}
	for key := range c.known {
		for _, r := range reads {
			if r.covers(key) && !there[key] {
				c.remove(key, resp.Header.Revision, changed)
			}
		}
	}
	return found
}
