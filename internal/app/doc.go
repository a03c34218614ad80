// Package app builds a daemon out of its parts and takes it down again in reverse order.
//
// New opens what can fail early (data directory, store, engine); Run blocks until its context ends.
// Both daemons are made here: gantryd's over etcd, gantry's agent over a file on this machine. It is
// the only package that sees both sides, the adapters and the supervisor; it makes no decisions.
package app
