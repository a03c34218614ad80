package accesslog

import (
	"context"
	"io"
	"sync"
	"time"
)

// Bounds of what waits to be written: two buffers of this size, which are made when they are needed.
const bufferSize = 1 << 20

// gather is how long an entry may wait for others, so that one write carries many.
const gather = 50 * time.Millisecond

// A Log takes entries. Make one with New.
type Log struct {
	w     io.Writer
	work  chan struct{} // of size 1: there is something to write
	half  chan struct{} // of size 1: there is so much that it should not wait
	ended chan struct{} // closed by the goroutine when it ends, with failed set

	mu      sync.Mutex
	filling []byte // lines to write; kept below bufferSize
	spare   []byte // the other buffer; nil while it is written
	dropped int64  // entries, since the last time it was written how many
	closed  bool

	failed error // of the last write
}

// New returns a log that writes to w, each time whole lines. What w returns as an error loses the lines
// of that write, which are counted as dropped, and is tried again with the next. The log is closed by
// Close; closing w is the caller's business.
func New(w io.Writer) *Log {
	l := &Log{w: w, work: make(chan struct{}, 1), half: make(chan struct{}, 1), ended: make(chan struct{})}
	var wg sync.WaitGroup // Close waits for ended instead, because it may have to give up
	wg.Go(l.run)
	return l
}

// Add logs an entry, or drops it when there is no room. It keeps nothing of e. After Close it does
// nothing.
func (l *Log) Add(e *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return
	case len(l.filling)+maxLine > bufferSize:
		l.dropped++
		return
	}
	if l.filling == nil {
		l.filling, l.spare = l.spare, nil
		if l.filling == nil {
			l.filling = make([]byte, 0, bufferSize)
		}
	}
	was := len(l.filling)
	l.filling = e.append(l.filling)
	switch {
	case was == 0:
		signal(l.work)
	case was < bufferSize/2 && len(l.filling) >= bufferSize/2:
		signal(l.half)
	}
}

// signal wakes who waits for c, now or next time.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close writes what is left and ends the log. At the end of ctx it gives up, and returns the cause of
// ctx; otherwise the error of the last write.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	signal(l.work)
	signal(l.half)
	select {
	case <-l.ended:
		return l.failed
	case <-ctx.Done():
	}
	if d, ok := l.w.(interface{ SetWriteDeadline(time.Time) error }); ok && d.SetWriteDeadline(time.Unix(1, 0)) == nil {
		<-l.ended
	}
	return context.Cause(ctx)
}

// run writes until the log is closed.
func (l *Log) run() {
	defer close(l.ended)
	wait := time.NewTimer(gather)
	defer wait.Stop()
	for {
		<-l.work
		wait.Reset(gather)
		select {
		case <-wait.C:
		case <-l.half:
		}
		lines, count, last := l.take()
		if len(lines) > 0 || count > 0 {
			l.write(lines, count)
		}
		if last {
			return
		}
	}
}

// take is what there is to write, how many entries were dropped before it was written, and whether
// nothing more will come.
func (l *Log) take() (lines []byte, dropped int64, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, l.filling = l.filling, nil
	dropped, l.dropped = l.dropped, 0
	return lines, dropped, l.closed
}

// write writes lines, which it gives back, and behind them how many entries are missing there.
func (l *Log) write(lines []byte, dropped int64) {
	text := lines
	if dropped > 0 {
		text = appendDropped(text, dropped)
	}
	_, l.failed = l.w.Write(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = lines[:0]
	if l.failed == nil {
		return
	}
	// Nobody knows how much of it arrived; the next write says how many are missing at most.
	for _, c := range lines {
		if c == '\n' {
			l.dropped++
		}
	}
	l.dropped += dropped
}
