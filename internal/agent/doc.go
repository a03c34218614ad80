// Package agent lets the commands of gantry, which come and go, talk to the process that stays.
//
// The proxies, drains and health checks of gantry live in a background agent: the daemon's own
// supervisor over a store on this machine. A Server answers on a unix socket in the state directory;
// Ensure finds the agent or starts one, so that a dead agent is replaced and the new one adopts the
// containers that run. An action streams the events of the story until it has ended.
//
// The wire is HTTP with one JSON object a line; both ends are of the same binary. A Server serves
// many clients at once; a Client may be used by many goroutines. The package knows neither Docker
// Engine nor the proxy.
package agent
