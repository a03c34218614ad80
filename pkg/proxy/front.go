package proxy

import (
	"errors"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A front is a listener: what its sockets accept goes along its route.
type front struct {
	proxy *Proxy
	name  string
	owner string

	route route // guarded by the ledger
	spec  spec  // what the route was made from; guarded by Proxy.applying

	quota   *quota                  // of the listener's connections
	bounds  atomic.Pointer[bounds]  // of them
	manners atomic.Pointer[manners] // nil unless it is of HTTP
}

// newFront returns a front without sockets; sessions that come are held.
func newFront(p *Proxy, owner string, s spec) *front {
	f := &front{proxy: p, name: s.Name, owner: owner, quota: p.quotaOf(s.Name)}
	b := s.bounds()
	f.bounds.Store(&b)
	f.manners.Store(s.manners) // requests may come before it is set
	return f
}

// set points the route where s says, unless it was already told to. The ledger is locked.
func (f *front) set(s spec, a *aftermath) {
	was := f.spec
	f.spec = s
	if b := s.bounds(); b != *f.bounds.Load() {
		f.bounds.Store(&b)
	}
	if old := f.manners.Swap(s.manners); old != s.manners {
		old.release()
	}
	f.route.holdMax, f.route.holdFor = s.HoldMax, s.HoldTimeout
	if d := f.route.dest; d != nil {
		d.up.patience(s.ConnectTimeout)
	}
	if was.TargetID == s.TargetID && was.target == s.target && (was.Upstream == UpstreamH2C) == (s.Upstream == UpstreamH2C) {
		return
	}
	var d *dest
	if s.TargetID != "" {
		d = &dest{id: s.TargetID, target: s.target, up: newUpstream(f.proxy, s.target.String(), s.Upstream == UpstreamH2C)}
		d.up.patience(s.ConnectTimeout)
	}
	f.proxy.ledger.point(&f.route, d, a)
}

// errFull is why a connection is refused that would be one too many.
var errFull = errors.New("too many connections")

// enter takes a place for a client connection, if there is one left.
func (p *Proxy) enter() bool {
	if p.conns.Add(1) <= p.maxConns {
		return true
	}
	p.conns.Add(-1)
	return false
}

// exit gives the place back.
func (p *Proxy) exit() { p.conns.Add(-1) }

// defaultMaxConns is how many client connections the descriptors are enough for, two for each,
// when the rest of the process keeps some.
func defaultMaxConns() int64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur > 1<<40 {
		return math.MaxInt64
	}
	reserved := min(256, max(24, limit.Cur/4))
	return max(1, (int64(limit.Cur)-int64(reserved))/2)
}
