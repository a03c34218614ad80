package proxy

import (
	"net/netip"
	"sync"
	"time"
)

// bounds are what a listener allows. They are never changed, only replaced.
type bounds struct {
	MaxConns  int           `json:"maxConns,omitempty"`
	PerClient int           `json:"perClient,omitempty"`
	Idle      time.Duration `json:"idle,omitempty"`
	Linger    time.Duration `json:"linger,omitempty"`
	ProxyTo   int           `json:"proxyTo,omitempty"`
}

// silence is how long a connection may be silent; 0 for ever. Half means that one side has ended.
func (b *bounds) silence(half bool) time.Duration {
	if half && b.Linger > 0 && (b.Idle == 0 || b.Linger < b.Idle) {
		return b.Linger
	}
	return b.Idle
}

// A quota counts the client connections of one listener; of HTTP see caller. It outlives the listener if connections do, and
// a listener that comes back under the same name, or in another process, finds them counted.
type quota struct {
	name string // of the listener

	mu      sync.Mutex
	conns   int
	clients map[netip.Addr]int // of connections that came while clients were bounded
	refused int64
}

// enter takes a place for a connection of client, and reports whether there was one.
func (q *quota) enter(b *bounds, client netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b.MaxConns > 0 && q.conns >= b.MaxConns || b.PerClient > 0 && q.clients[client] >= b.PerClient {
		q.refused++
		return false
	}
	q.add(b, client)
	return true
}

// take takes a place for a connection that is there already.
func (q *quota) take(b *bounds, client netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(b, client)
}

func (q *quota) add(b *bounds, client netip.Addr) {
	q.conns++
	if b.PerClient > 0 {
		if q.clients == nil {
			q.clients = map[netip.Addr]int{}
		}
		q.clients[client]++
	}
}

// exit gives the place back that enter took with b.
func (q *quota) exit(b *bounds, client netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.conns--
	if b.PerClient > 0 {
		if q.clients[client]--; q.clients[client] == 0 {
			delete(q.clients, client)
		}
	}
}

// quotaOf returns the quota of a listener's name, for a front or for connections that have none.
func (p *Proxy) quotaOf(name string) *quota {
	p.quotaMu.Lock()
	defer p.quotaMu.Unlock()
	q := p.quotas[name]
	if q == nil {
		q = &quota{name: name}
		p.quotas[name] = q
	}
	return q
}

// forgetQuota drops the quota of a listener that is gone, unless somebody is counted there.
func (p *Proxy) forgetQuota(name string) {
	p.quotaMu.Lock()
	defer p.quotaMu.Unlock()
	if q := p.quotas[name]; q != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.conns == 0 {
			delete(p.quotas, name)
		}
	}
}

// Refused is how many TCP connections, and connections and requests of HTTP, were refused because the listener had as many
// connections as it may have, in all or of one client.
func (p *Proxy) Refused(listener string) int64 {
	p.quotaMu.Lock()
	q := p.quotas[listener]
	p.quotaMu.Unlock()
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refused
}
