// Package component holds gantryd's vocabulary and its pure decisions.
//
// A project has components; a component runs as containers on hosts. Operators write a Desired
// state; a host observes its containers and asks Next for the one action that brings them closer
// to it. Next, the routes a component needs and the variables of its links are pure functions:
// no clock, no I/O, no logging. The time is an input.
//
// The types with JSON tags are also the wire format: Spec is a component in a project file,
// Desired, Rollout, HostStatus and Machine are values in the store.
//
// Everything here is a value; nothing needs locking. The package imports the standard library
// only, and knows neither etcd nor Docker Engine nor the proxy.
package component
