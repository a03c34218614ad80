package sdnotify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready says that start-up is finished, and what the daemon does now. Systemd then starts what is
// ordered after it. It is called once, when the daemon serves.
func Ready(status string) error {
	return notify(daemon.SdNotifyReady, statusLine(status))
}

// Status says, in one line for people, what the daemon does now.
func Status(status string) error {
	return notify(statusLine(status))
}

// Stopping says that the daemon begins to end, and why.
func Stopping(status string) error {
	return notify(daemon.SdNotifyStopping, statusLine(status))
}

// Watchdog tells systemd that the daemon is alive, at once and then at half the interval that systemd
// asks for, as long as alive returns nil. After a failure it keeps asking: when alive recovers within
// the interval nothing happens, otherwise systemd restarts the daemon. The context of alive ends after
// half the interval; an alive that hangs is not alive.
//
// It blocks until ctx ends and returns its cause. When systemd does not ask for a watchdog it returns
// nil at once. A message that cannot be sent is tried again at the next turn.
func Watchdog(ctx context.Context, alive func(context.Context) error) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read the watchdog's interval: %w", err)
	}
	if interval == 0 {
		return nil
	}
	tick := time.NewTicker(max(interval/2, time.Millisecond))
	defer tick.Stop()
	for {
		_ = prove(ctx, interval/2, alive) // silence is the message
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// prove sends one sign of life if there is one.
func prove(ctx context.Context, within time.Duration, alive func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := alive(ctx); err != nil {
		return err
	}
	return notify(daemon.SdNotifyWatchdog)
}

func notify(lines ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// statusLine keeps status in its line: a line of its own would be another message.
func statusLine(status string) string {
	return "STATUS=" + strings.Join(strings.Fields(status), " ")
}

// Reloading says that the daemon is replacing itself; Ready ends that.
func Reloading(status string) error {
	usec := uint64(0)
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		usec = uint64(now.Nano() / 1000) //nolint:gosec // the clock starts at boot
	}
	return notify(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", usec), statusLine(status))
}

// Environment is environ without what systemd tells this process only, for one that is not part of its service.
func Environment(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "NOTIFY_SOCKET" || strings.HasPrefix(name, "WATCHDOG_") || strings.HasPrefix(name, "LISTEN_")
	})
}

// MainPID says that another process is the daemon from now on. It is this one's last word.
func MainPID(pid int) error { return notify(fmt.Sprintf("MAINPID=%d", pid)) }
