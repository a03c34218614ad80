// Package holder keeps a daemon's listening sockets in a small process of its own, so that a daemon that is
// killed leaves no refused client behind: clients wait in the sockets' queues until the next daemon is there.
//
//	k := holder.New(dir, argv, log)           // in the daemon: an app.Keeper
//	err := holder.Serve(ctx, l, wait, log)    // in the process that argv starts
//
// The process has a session of its own, a unix socket in the data directory for the user of the daemon, and
// duplicates of the listening sockets: it accepts nothing and knows no component. It leaves when the daemon says
// that it ends, or when no daemon was there for a while. One that was killed is started again by the
// daemon. There is one for each data directory.
//
// A Keeper may be used by many goroutines; Run is called once. Serve runs a goroutine for each
// connection and waits for all of them.
package holder
