// Package rollout decides, for all hosts together, how the rollout of a generation stands: who may
// take a turn, when it is done, and whether the data in the store can be trusted.
//
// All functions are pure. The package knows neither leases nor containers.
package rollout
