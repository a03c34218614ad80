package app

import (
	"context"
	"testing"
	"time"
)

// leftovers are sockets that nobody asked for.
type leftovers struct{ settled, claimed bool }

func (l *leftovers) Unsettled() bool { return !l.settled && !l.claimed }
func (l *leftovers) Settle()         { l.settled = true }

// TestUnclaimedSocketsWaitUntilAllIsKnown has a tick for each second, at each of which it is known or not what this
// host is to run.
func TestUnclaimedSocketsWaitUntilAllIsKnown(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	tests := []struct {
		name    string
		known   func(second int) bool
		settled int // at which second; -1: never
	}{
		{"at once", func(int) bool { return true }, 60},
		{"etcd is not reached for two minutes", func(s int) bool { return s >= 120 }, 180},
		{"never", func(int) bool { return false }, -1},
		{"another process began", func(s int) bool { return s < 50 || s >= 100 }, 160},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			second, tick := -1, make(chan time.Time, 1)
			l := &leftovers{}
			next := func() {
				if second++; second == 600 {
					cancel()
					return
				}
				tick <- start.Add(time.Duration(second) * time.Second)
			}
			next()
			dropUnclaimed(ctx, l, tick, time.Minute, func() bool { // it is asked once for each tick
				known := tt.known(second)
				if !known || second < tt.settled {
					next()
				}
				return known
			})
			got := second
			if !l.settled {
				got = -1
			}
			if got != tt.settled {
				t.Errorf("dropped at second %d, want %d", got, tt.settled)
			}
		})
	}
}

func TestNothingToWaitForWhenAllIsClaimed(t *testing.T) {
	t.Parallel()
	dropUnclaimed(t.Context(), &leftovers{claimed: true}, nil, time.Minute, func() bool { return true }) // returns
}
