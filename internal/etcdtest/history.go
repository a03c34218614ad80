package etcdtest

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A Change is one write of one key, or its end.
type Change struct {
	Revision int64
	Key      string
	Value    string // empty when the key is gone
	Gone     bool
}

// History is every change below prefix since the revision, in the order in which it happened. Etcd must
// have kept them all.
func History(tb testing.TB, endpoint, prefix string, since int64) []Change {
	tb.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	mark := prefix + "history-ends-here" // nobody's key: it tells when all has come
	end, err := c.Put(ctx, mark, "")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := c.Delete(ctx, mark); err != nil {
		tb.Fatal(err)
	}
	var out []Change
	for resp := range c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(since)) {
		if err := resp.Err(); err != nil {
			tb.Fatal(err)
		}
		for _, e := range resp.Events {
			if e.Kv.ModRevision == end.Header.Revision {
				return out
			}
			if string(e.Kv.Key) != mark {
				out = append(out, Change{e.Kv.ModRevision, string(e.Kv.Key), string(e.Kv.Value), e.Type == clientv3.EventTypeDelete})
			}
		}
	}
	tb.Fatalf("the history of %q did not come to its end", prefix)
	return nil
}
