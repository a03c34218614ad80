package proxy

import (
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// traffic is what went through a session. It may be used at any time.
type traffic struct {
	sent, received atomic.Int64 // bytes to and from the target
	active         atomic.Int64 // when bytes last went either way, see carry.Now; 0 for a request in flight
	broke          atomic.Bool  // the target broke the connection off
}

// carried counts bytes.
func (t *traffic) carried(w carry.Way, bytes, now int64) {
	if w == carry.Up {
		t.sent.Add(bytes)
	} else {
		t.received.Add(bytes)
	}
	t.active.Store(now)
}

// idle is how long nothing went either way.
func (t *traffic) idle() time.Duration {
	if at := t.active.Load(); at != 0 {
		return max(0, time.Duration(carry.Now()-at))
	}
	return 0
}

// wasRefused reports whether the target broke off before it said anything.
func (t *traffic) wasRefused() bool { return t.broke.Load() && t.received.Load() == 0 }

// touch notes that something happens.
func (t *traffic) touch() { t.active.Store(carry.Now()) }

// lastActive is active for another process, which has the time of day only: in Unix nanoseconds.
func (t *traffic) lastActive() int64 {
	if t.active.Load() == 0 {
		return 0
	}
	return time.Now().Add(-t.idle()).UnixNano()
}

// activeAt takes over what lastActive said in another process, a moment ago.
func (t *traffic) activeAt(unix int64) {
	if unix == 0 {
		t.active.Store(0)
		return
	}
	at := carry.Now() - int64(max(0, time.Since(time.Unix(0, unix))))
	if at == 0 {
		at = -1
	}
	t.active.Store(at)
}

// forget makes t that of a session that did nothing yet.
func (t *traffic) forget() {
	t.sent.Store(0)
	t.received.Store(0)
	t.active.Store(0)
	t.broke.Store(false)
}
