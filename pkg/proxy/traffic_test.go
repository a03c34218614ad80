package proxy

import (
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// Whatever is done to the time of day, a connection is idle for as long as nothing went over it.
func TestIdleTimeIsHandedOn(t *testing.T) {
	var old, heir traffic
	if heir.activeAt(old.lastActive()); heir.idle() != 0 || heir.active.Load() != 0 {
		t.Errorf("what waits for an answer is idle for %v in the next process", heir.idle())
	}
	const idle = time.Hour // longer than either process has lived
	old.active.Store(carry.Now() - int64(idle))
	begun := time.Now()
	heir.activeAt(old.lastActive())
	if got := heir.idle(); got < idle || got > idle+time.Since(begun)+time.Millisecond {
		t.Errorf("idle for %v in the next process, want %v", got, idle)
	}
	old.touch()
	if got := old.idle(); got > time.Since(begun) {
		t.Errorf("idle for %v, just after it was not", got)
	}
}
