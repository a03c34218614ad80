package app

import (
	"context"
	"runtime/debug"
	"time"
)

// settleAfter is how long a daemon has served all that it remembers when it gives memory back.
const settleAfter = 3 * time.Second

// settle gives back the memory that the start took, once it is over.
func (d *Daemon) settle(ctx context.Context, l *life) {
	select {
	case <-l.supervisor.Ready():
	case <-ctx.Done():
		return
	}
	timer := time.NewTimer(settleAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	if err := Shrink(); err != nil {
		d.o.Log.Debug("release pages of the program", "err", err)
	}
}

// Shrink gives memory back that the start of a process took.
func Shrink() error {
	debug.FreeOSMemory()
	return releaseProgram()
}
