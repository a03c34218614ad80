package etcdtest

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Leader is the place in endpoints of the member that leads, once there is one that a majority follows.
func Leader(tb testing.TB, endpoints []string) int {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	c := dial(tb, endpoints...)
	defer c.Close()
	for ctx.Err() == nil {
		if _, err := c.Get(ctx, "x"); err != nil { // a majority is there
			continue
		}
		for i, e := range endpoints {
			asked, cancel := context.WithTimeout(ctx, 2*time.Second)
			st, err := c.Status(asked, e)
			cancel()
			if err == nil && st.Leader == st.Header.MemberId {
				return i
			}
		}
	}
	tb.Fatalf("no leader among %v", endpoints)
	return 0
}

// Compact forgets all past values.
func Compact(tb testing.TB, endpoint string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	c := dial(tb, endpoint)
	defer c.Close()
	resp, err := c.Get(ctx, "x")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := c.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		tb.Fatal(err)
	}
}

func dial(tb testing.TB, endpoints ...string) *clientv3.Client {
	tb.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
