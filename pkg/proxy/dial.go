package proxy

import (
	"context"
	"net"
	"time"
)

// The pause between two attempts to dial.
const (
	dialPauseMin = 5 * time.Millisecond
	dialPauseMax = 250 * time.Millisecond
)

// dialer makes connections to targets.
func dialer() net.Dialer {
	return net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	}}
}

// dial connects to addr until ctx ends.
func dial(ctx context.Context, addr string) (*net.TCPConn, error) {
	d := dialer()
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// attempts are the tries of one session to be dialled. The zero value has none behind it.
type attempts struct {
	deadline time.Time
	delay    time.Duration
}

// begin starts the clock with the first try.
func (t *attempts) begin(limit time.Duration) {
	if t.deadline.IsZero() {
		t.deadline = time.Now().Add(limit)
		t.delay = dialPauseMin
	}
}

// again returns how long to pause after a try that failed; negative when there is no time for another.
func (t *attempts) again() time.Duration {
	if time.Until(t.deadline) <= 0 {
		return -1
	}
	pause := t.delay
	t.delay = min(2*t.delay, dialPauseMax)
	return pause
}

// pause waits after a try that failed, and reports whether there is time for another. A try that
// was aborted is followed by the next one at once.
func (t *attempts) pause(ctx context.Context) bool {
	pause := t.again()
	if pause < 0 {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return time.Until(t.deadline) > 0
}
