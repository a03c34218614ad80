// Package etcdtest starts etcd for tests: members in this process that can be stopped and started
// again on their data, and clusters of them. What networks do to connections is internal/faulttest's.
//
//	m := etcdtest.Start(t)
//	c := m.Client(t)               // an etcd client of one's own, to look behind the store's back
//	m.Stop(); m.Start(t)           // same data, same address
//	members := etcdtest.Cluster(t, 3)
//
// Everything is closed by t.Cleanup. A Member is used from one goroutine.
package etcdtest
