package apiserver

import (
	"net/netip"
	"sync"
	"time"
)

// How many wrong credentials an address may send.
const (
	failuresAtOnce = 10
	failureEvery   = 6 * time.Second // after those
	maxClients     = 10_000          // addresses that are remembered
)

// A limiter counts failures for each client address. After too many, the address has to wait, whatever
// password it sends: else who guesses would learn of a hit.
type limiter struct {
	burst int
	every time.Duration

	mu      sync.Mutex
	clients map[netip.Addr]time.Time // when its failures will all be forgiven
}

func newLimiter() *limiter {
	return &limiter{burst: failuresAtOnce, every: failureEvery, clients: map[netip.Addr]time.Time{}}
}

// wait is how long the client has to wait; 0: not at all.
func (l *limiter) wait(client netip.Addr, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, known := l.clients[subject(client)]
	if !known {
		return 0
	}
	return max(0, until.Sub(now)-time.Duration(l.burst-1)*l.every)
}

// failed counts a failure.
func (l *limiter) failed(client netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := subject(client)
	until := l.clients[key]
	if until.Before(now) {
		until = now
	}
	if _, known := l.clients[key]; !known && len(l.clients) >= maxClients {
		l.forget(now)
	}
	until = until.Add(l.every)
	if most := now.Add(2 * time.Duration(l.burst) * l.every); until.After(most) {
		until = most // requests at the same time count together
	}
	l.clients[key] = until
}

// forget makes place: of the forgiven, or else of the one that is forgiven first.
func (l *limiter) forget(now time.Time) {
	var first netip.Addr
	for c, until := range l.clients {
		if until.Before(now) {
			delete(l.clients, c)
		} else if !first.IsValid() || until.Before(l.clients[first]) {
			first = c
		}
	}
	if len(l.clients) >= maxClients {
		delete(l.clients, first)
	}
}

// subject is what counts as one client: an address, or the /64 that a host of IPv6 chooses its own from.
func subject(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
