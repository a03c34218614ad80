package workqueue

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrClosed is what Get returns once the queue is closed.
var ErrClosed = errors.New("work queue is closed")

// Queue is a set of keys that wait for a pass. Make one with New.
type Queue[K comparable] struct {
	closed chan struct{} // closed by Close
	wake   chan struct{} // holds one token when a key may be ready; one is enough, because takers pass it on

	mu      sync.Mutex
	order   []K            // keys that wait and are not busy, oldest first
	waiting map[K]bool     // keys that want a pass: those in order, and busy ones made dirty again
	busy    map[K]bool     // keys somebody works on
	timers  map[K]*delayed // at most one per key: the earliest
}

// delayed is a key that joins the queue later.
type delayed struct {
	at    time.Time
	timer *time.Timer
}

// New returns an empty queue.
func New[K comparable]() *Queue[K] {
	return &Queue[K]{
		closed:  make(chan struct{}),
		wake:    make(chan struct{}, 1),
		waiting: map[K]bool{},
		busy:    map[K]bool{},
		timers:  map[K]*delayed{},
	}
}

// Add asks for a pass over k. It does nothing after Close. A delayed pass over k that was asked for
// earlier still comes.
func (q *Queue[K]) Add(k K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(k)
}

// AddAfter asks for a pass over k once d has passed, at once when d is not positive. Only the
// earliest of the delayed passes over a key is kept: whoever handles it decides what comes next.
func (q *Queue[K]) AddAfter(k K, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d <= 0 {
		q.add(k)
		return
	}
	if q.isClosed() {
		return
	}
	at := time.Now().Add(d)
	old, pending := q.timers[k]
	if pending && !at.Before(old.at) {
		return
	}
	if pending {
		old.timer.Stop() // should it be firing already, expire sees that it was replaced
	}
	next := &delayed{at: at}
	next.timer = time.AfterFunc(d, func() { q.expire(k, next) })
	q.timers[k] = next
}

// Get waits for a key nobody else works on. The caller calls done, once or more, when its pass is
// over. When ctx ends Get returns its cause, after Close ErrClosed; keys still waiting are dropped.
func (q *Queue[K]) Get(ctx context.Context) (k K, done func(), err error) {
	if ctx.Err() != nil {
		return k, nil, context.Cause(ctx)
	}
	for {
		if k, ok := q.take(); ok {
			return k, sync.OnceFunc(func() { q.finish(k) }), nil
		}
		select {
		case <-q.wake: // whoever takes the token must call take, or its key would be forgotten
		case <-q.closed:
			return k, nil, ErrClosed
		case <-ctx.Done():
			return k, nil, context.Cause(ctx)
		}
	}
}

// Len is the number of keys that wait for a pass; delayed ones and those being worked on do not count.
func (q *Queue[K]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Close stops the timers, drops what waits and ends every Get. It may be called more than once. It
// does not wait for keys that are being worked on.
func (q *Queue[K]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.isClosed() {
		return
	}
	close(q.closed)
	for _, d := range q.timers {
		d.timer.Stop()
	}
	clear(q.timers)
	clear(q.waiting)
	q.order = nil
}

// expire adds k unless d was replaced by an earlier timer or the queue was closed.
func (q *Queue[K]) expire(k K, d *delayed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.timers[k] != d {
		return
	}
	delete(q.timers, k)
	q.add(k)
}

// add needs mu.
func (q *Queue[K]) add(k K) {
	if q.isClosed() || q.waiting[k] {
		return
	}
	q.waiting[k] = true
	if !q.busy[k] {
		q.push(k)
	}
}

// push needs mu.
func (q *Queue[K]) push(k K) {
	q.order = append(q.order, k)
	q.poke()
}

func (q *Queue[K]) take() (k K, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return k, false
	}
	k = q.order[0]
	q.order = q.order[1:]
	delete(q.waiting, k)
	q.busy[k] = true
	if len(q.order) > 0 {
		q.poke() // the token this worker took may have stood for several keys
	}
	return k, true
}

func (q *Queue[K]) finish(k K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, k)
	if q.waiting[k] {
		q.push(k)
	}
}

func (q *Queue[K]) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *Queue[K]) isClosed() bool {
	select {
	case <-q.closed:
		return true
	default:
		return false
	}
}
