// Package daemontest runs the real gantryd as a process of its own, for tests that measure it or
// put real software behind it.
//
//	d := daemontest.Start(t, daemontest.Options{Project: project, Endpoint: member.Endpoint()})
//	d.Ready(t)                              // what it remembers is served again
//	c := daemontest.Dial(t, member.Endpoint())
//	gen := c.Update(t, project, spec, imageID)
//	c.Served(t, project, spec.Name, gen)    // the host's turn for gen has ended
//
// The daemon is built as it ships, without the race detector, once for each package of tests. It is
// stopped when its test ends.
//
// All functions may be called at once; a Daemon belongs to one test. The package knows nothing of
// Docker Engine.
package daemontest
