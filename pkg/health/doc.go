// Package health runs the checks of a container and sends its termination signals.
//
// A check is configuration (component.Check); a probe is one execution of it. A Prober does both
// one probe (Probe) and the loops around it:
//
//	Ready       in order, again from the first after a failure, until all passed in one pass
//	Health      each check at its own interval for as long as the container serves
//	Signal      the termination signals, in order, each once
//	Terminated  the termination checks, in order, each until it passed
//
// A check that cannot be run (no port, no address, a kind nobody knows, a command that does not
// parse) is a failed check, never a passed one. Every probe ends within its check's request timeout
// and dials the container's own address only: no name is resolved, no proxy of the environment is
// used, no redirect is followed elsewhere. No connection outlives its probe.
//
// All methods of a Prober block until they are done or their context ends, wait for every goroutine
// they started, and may be called at once. report and changed are called by the goroutine that
// called the method, one event at a time; an event carries Kind, Container, Text and Detail, the
// rest is the caller's.
//
// The package knows neither components nor hosts, neither Docker Engine (a Runner does) nor the
// proxy (the target's Conns does), and decides nothing: what an unhealthy container means is the
// supervisor's business.
package health
