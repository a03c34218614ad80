// Package etcdstate keeps a project in etcd. It is the only package that knows etcd: its keys,
// watches, leases, transactions and its embedded server. It decides nothing.
//
// A Client is an operator's side: it writes the config and the desired state and reads all of it.
//
//	c, err := etcdstate.Dial(ctx, etcdstate.Config{Endpoints: []string{"127.0.0.1:2379"}})
//	generation, err := c.SetDesired(ctx, "shop", "web", component.Desired{Status: component.StatusReady, …})
//	err = c.Watch(ctx, "shop", func(p etcdstate.Project) { … })
//
// A Store is a host's side, the supervisor.Store on etcd: one lease, one watch, a view in memory,
// and turns.
//
//	s, err := etcdstate.NewStore(c, etcdstate.StoreOptions{Project: "shop", Host: "h1"})
//	err = s.Run(ctx, changed)  // until ctx ends, or ErrHostTaken
//	err = s.Deregister(ctx)    // a clean exit
//
// A Server is a member of an etcd cluster in this process.
//
// # Errors of etcd
//
// An error of etcd does not mean "not done": a transaction whose answer got lost has often been
// committed. So every write carries the ID of its operation and compares the revisions of the keys
// it replaces, and its else-branch reads them: repeating it is at the same time reading again, it
// either commits once or finds its own ID. What remains unknown after the command timeout wraps
// component.ErrUnreachable and is safe to repeat.
//
// # Turns
//
// A turn is a key turns/{slot} under the host's lease. Holding it is a rumour until etcd confirms
// it: each write made under a turn compares the key's revision in the same transaction. The turn
// in a View is Mine while the key is known to exist under the current lease and the lease cannot
// have expired yet, counted from before the last renewal was sent.
//
// # Concurrency
//
// All methods of Client, Store and Server may be called at once, Store.Run once only. Writes of one
// host about one component are made one after another. View, Names and Cluster answer from memory.
// The functions given to Run and Watch are called without any lock held, from one goroutine at a
// time for Watch and from several for Run; they must not block.
//
// The package does not know containers, proxies or rollout policy, and it never judges whether what
// it reads can be trusted: it reports component.Cluster and leaves that to the supervisor.
package etcdstate
