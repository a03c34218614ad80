// Package sdnotify tells systemd how the daemon is doing.
//
// Ready ends start-up (Type=notify), Status is the line that `systemctl status` shows, Stopping
// begins the end, and Watchdog proves every half of WatchdogSec that the daemon is alive:
//
//	g.Go(func() error { return sdnotify.Watchdog(ctx, d.Alive) })
//	err := sdnotify.Ready("3 components")
//
// Without systemd, which is when NOTIFY_SOCKET is not set, everything succeeds and does nothing. All
// functions may be called at once. Each message is one datagram. Watchdog blocks and starts no goroutine.
//
// The package does not know what alive means, and does not restart anything: that is systemd's part.
package sdnotify
