// Package modeltest explores what a small fleet can come to, under every order of events.
//
// Its tests join the very decisions that ship (component.Next, rollout.MayTake, rollout.Done) to a
// model of all the rest: a store with turns and leases, hosts that see it late, containers that get
// ready, crash or sicken, operators who change their minds. Every state that some order of these
// events leads to is visited once. In each of them the promises are checked: a host that served
// serves (P1), nothing is routed to a draining container (P2), no more hosts change at once than may,
// and none after a halt (P3), nobody begins before the promotion of canaries (P6) or in a pause (P8), no host is disturbed
// while another one was lost in its turn (P5), a rollout that failed goes back once (P7), and no pre-deploy task runs
// beside another, nor does a host begin before it has succeeded (P9), or before the component that comes first is done (P10), or while it is
// drained (P11). From each of them the faults are then stopped, and the fleet must come
// to rest where it should, in a bounded number of steps (P4).
//
// A broken promise is reported with the shortest story that leads to it.
//
// The package has no code of its own, and knows neither etcd, Docker Engine nor the proxy; what their
// adapters do wrong cannot be seen here.
package modeltest
