package etcdtest

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Value is what a key holds.
type Value struct {
	Text     string
	Revision int64 // of its last change
}

// Put writes a key behind everybody's back.
func (m *Member) Put(tb testing.TB, key, value string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	if _, err := m.own(tb).Put(ctx, key, value); err != nil {
		tb.Fatal(err)
	}
}

// Delete removes keys at once, as the end of a lease does.
func (m *Member) Delete(tb testing.TB, keys ...string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	ops := make([]clientv3.Op, 0, len(keys))
	for _, k := range keys {
		ops = append(ops, clientv3.OpDelete(k))
	}
	if _, err := m.Client(tb).Txn(ctx).Then(ops...).Commit(); err != nil {
		tb.Fatal(err)
	}
}

// All is everything below a prefix.
func (m *Member) All(tb testing.TB, prefix string) map[string]Value {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	resp, err := m.own(tb).Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		tb.Fatal(err)
	}
	all := make(map[string]Value, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		all[string(kv.Key)] = Value{string(kv.Value), kv.ModRevision}
	}
	return all
}

// Count is how many keys there are below a prefix.
func (m *Member) Count(tb testing.TB, prefix string) int {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	resp, err := m.own(tb).Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		tb.Fatal(err)
	}
	return int(resp.Count)
}

// Await waits until the value of a key, empty when there is none, is as ok wants it.
func (m *Member) Await(tb testing.TB, key string, within time.Duration, ok func(value string) bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), within)
	defer cancel()
	c := m.own(tb)
	resp, err := c.Get(ctx, key)
	if err != nil {
		tb.Fatal(err)
	}
	last := ""
	for _, kv := range resp.Kvs {
		last = string(kv.Value)
	}
	if ok(last) {
		return
	}
	for resp := range c.Watch(ctx, key, clientv3.WithRev(resp.Header.Revision+1)) {
		for _, e := range resp.Events {
			if last = string(e.Kv.Value); ok(last) {
				return
			}
		}
	}
	tb.Fatalf("key %q: not within %v; it is %s", key, within, last)
}
