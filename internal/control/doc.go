// Package control is the local socket by which commands reach the daemon of a data directory.
//
//	l, err := control.Listen(ctx, dir)         // a socket in the directory, for its owner only
//	err = control.Serve(ctx, l, map[string]control.Handler{"upgrade": h}, log)
//
//	err := control.Call(ctx, dir, control.Request{Command: "upgrade"}, &answer)
//
// A daemon that has the lock of the directory and is about to open the socket is waited for. The wire is one JSON object each way on each connection; unknown fields are skipped. Root and the user that
// the daemon runs as may speak, which the kernel tells, and the mode of the socket. A path longer than
// the kernel's limit for sockets works, too.
//
// Serve runs one goroutine for each connection and waits for all of them. The package knows no
// command.
package control
