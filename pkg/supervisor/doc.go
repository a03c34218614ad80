// Package supervisor is the level-triggered loop of one host: it observes the containers of each
// component, asks component.Next for one action, does it, and goes again.
//
// A watch event of the store, an event of the engine, a change of health, a connection that ended, a
// timer and the resync every 30 s all do one thing: they put the component's name in a queue. A name
// is never in two hands at once. Whatever takes long (pull, drain, stop, checks) runs in a goroutine
// that the supervisor owns and puts the name in the queue when it ends.
//
// The package declares the interfaces it needs; it knows neither etcd, Docker Engine nor the proxy.
package supervisor
