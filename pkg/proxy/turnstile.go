package proxy

import "sync"

// A turnstile counts who is inside, and tells when the last one has left after it was shut. The zero value
// is open.
type turnstile struct {
	mu    sync.Mutex
	n     int
	empty chan struct{} // made by shut, closed when n is 0
}

// enter returns false once the gate is shut and nobody is inside any more.
func (t *turnstile) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.empty != nil && t.n == 0 {
		return false
	}
	t.n++
	return true
}

func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n == 0 && t.empty != nil {
		close(t.empty)
	}
}

// shut returns a channel that is closed once nobody is inside. It is to be called once.
func (t *turnstile) shut() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.empty = make(chan struct{})
	if t.n == 0 {
		close(t.empty)
	}
	return t.empty
}
