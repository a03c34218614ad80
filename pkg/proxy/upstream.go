package proxy

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the kept connections of one HTTP destination.
const (
	upstreamIdle    = 60 * time.Second
	upstreamIdleMax = 512
	upstreamSweep   = 15 * time.Second
	// A target that left a connection open for this long keeps connections: then also requests that must
	// not be sent twice use kept ones.
	keepsAfter = 250 * time.Millisecond
	// Such a request takes no connection that was idle for longer: common servers close theirs after two
	// seconds and more, and one that does so at this moment would take the request along.
	trustedIdle = time.Second
)

// errRetired is the cause of a dial that was not made because requests go elsewhere now.
var errRetired = errors.New("target was switched away")

// A dialError is a request that was not sent because there was no connection.
type dialError struct{ cause error }

func (e *dialError) Error() string { return e.cause.Error() }
func (e *dialError) Unwrap() error { return e.cause }

// An upstream is the address of one destination. For HTTP it makes and keeps the connections to it.
type upstream struct {
	proxy   *Proxy
	addr    string
	h2c     *http.Transport        // what speaks to the target; nil: we do, HTTP/1
	life    func() context.Context // it ends with the proxy, or when nothing is dialled from now on
	endLife context.CancelFunc
	missed  atomic.Bool  // it could not be reached, and that was said
	connect atomic.Int64 // nanoseconds within which a session has to reach it

	mu      sync.Mutex
	idle    []*upconn     // the one used last at the end
	retired bool          // nothing is kept any more
	keeps   bool          // the target was seen to leave idle connections open
	proof   time.Duration // how long it must have left one open for that; constant
	trusted time.Duration
	sweeper *time.Timer
}

// An upconn is a connection to a target. One exchange uses it at a time, or it is in idle.
type upconn struct {
	stream
	up       *upstream
	tcp      *net.TCPConn
	since    time.Time // when it became idle
	answered int       // bytes of the answer that came so far

	look  func(fd uintptr) // is peek
	poll  [1]unix.PollFd
	quiet bool // what look saw: open, and nothing to read
}

func newUpstream(p *Proxy, addr string, h2c bool) *upstream {
	ctx, cancel := context.WithCancel(p.within())
	u := &upstream{
		proxy: p, addr: addr, proof: keepsAfter, trusted: trustedIdle,
		life: func() context.Context { return ctx }, endLife: cancel,
	}
	u.patience(0)
	u.sweeper = time.AfterFunc(upstreamSweep, u.sweep)
	u.sweeper.Stop()
	if h2c {
		u.h2c = newH2C(u)
	}
	return u
}

// patience sets how long a session may take to reach the target; 0: as long as the proxy says.
func (u *upstream) patience(d time.Duration) { u.connect.Store(int64(cmp.Or(d, u.proxy.connect))) }

// within is what patience set.
func (u *upstream) within() time.Duration { return time.Duration(u.connect.Load()) }

// dial makes a connection until ctx ends.
func (u *upstream) dial(ctx context.Context) (*upconn, error) {
	life := u.life()
	if life.Err() != nil {
		return nil, &dialError{errRetired}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	tcp, err := dial(ctx, u.addr)
	switch {
	case err == nil:
	case life.Err() != nil:
		return nil, &dialError{errRetired}
	default:
		return nil, &dialError{err}
	}
	c := &upconn{up: u, tcp: tcp}
	c.look = c.peek
	if err := c.open(tcp, u.proxy.buffers); err != nil {
		refuse(tcp)
		return nil, &dialError{err}
	}
	return c, nil
}

// peek notes whether the connection can take a request: it is open, and the target said nothing unasked,
// which would be taken for the answer.
func (c *upconn) peek(fd uintptr) {
	c.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	n, err := unix.Poll(c.poll[:], 0)
	c.quiet = n == 0 && err == nil
}

func (c *upconn) isQuiet() bool {
	c.quiet = false
	_ = c.raw.Control(c.look)
	return c.quiet
}

func (c *upconn) close() {
	c.drop()
	_ = c.tcp.Close()
}

// get returns a kept connection that is open, or nil. With once it is for a request that must not be sent twice.
func (u *upstream) get(once bool, now time.Time) *upconn {
	for {
		c := u.pop(once, now)
		if c == nil {
			return nil
		}
		quiet := c.isQuiet()
		u.learn(now.Sub(c.since), quiet)
		if quiet {
			return c
		}
		c.close()
	}
}

func (u *upstream) pop(once bool, now time.Time) *upconn {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.idle) - 1
	if n < 0 {
		return nil
	}
	if once && !u.keeps { // the one that is idle for longest tells
		c := u.idle[0]
		if now.Sub(c.since) < u.proof {
			return nil
		}
		u.keeps = c.isQuiet()
	}
	c := u.idle[n]
	if once && (!u.keeps || now.Sub(c.since) > u.trusted) {
		return nil
	}
	u.idle[n] = nil
	u.idle = u.idle[:n]
	return c
}

// learn notes how a connection was found after it had been idle.
func (u *upstream) learn(idle time.Duration, quiet bool) {
	if quiet && idle < u.proof {
		return // says nothing
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if quiet {
		u.keeps = true
		return
	}
	u.keeps = false
	u.trusted = min(u.trusted, idle/2)
}

// put keeps a connection for the next request, unless there are enough.
func (u *upstream) put(c *upconn, now time.Time) {
	c.drop()
	c.since = now
	u.mu.Lock()
	keep := !u.retired && len(u.idle) < upstreamIdleMax
	if keep {
		u.idle = append(u.idle, c)
		if len(u.idle) == 1 {
			u.sweeper.Reset(upstreamSweep)
		}
	}
	u.mu.Unlock()
	if !keep {
		c.close()
	}
}

// sweep closes connections that nobody needed for long, or that the target closed.
func (u *upstream) sweep() {
	now := time.Now()
	var old []*upconn
	u.mu.Lock()
	kept := u.idle[:0]
	for _, c := range u.idle {
		if now.Sub(c.since) >= upstreamIdle || !c.isQuiet() {
			old = append(old, c)
			continue
		}
		kept = append(kept, c)
	}
	clear(u.idle[len(kept):])
	u.idle = kept
	if len(kept) > 0 {
		u.sweeper.Reset(upstreamSweep)
	}
	u.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

// retire lets nobody dial, and keeps no connection from now on. The ledger is locked.
func (u *upstream) retire() {
	u.endLife()
	u.mu.Lock()
	u.retired = true
	u.mu.Unlock()
}

// closeIdle closes the connections that no request is using. Those in use are closed when their
// request is over, unless another request comes.
func (u *upstream) closeIdle() {
	if u.h2c != nil {
		u.h2c.CloseIdleConnections()
	}
	u.mu.Lock()
	idle := u.idle
	u.idle = nil
	u.sweeper.Stop()
	u.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// unreachable says, once, that a client was sent away because there was no connection.
func (u *upstream) unreachable(f *front, err error) {
	if !u.missed.Swap(true) {
		f.proxy.log.Warn("target does not take connections", "name", f.name, "target", u.addr, "err", cause(err))
	}
}

// reached says that it is over.
func (u *upstream) reached() {
	if u.missed.Load() {
		u.missed.Store(false)
	}
}
