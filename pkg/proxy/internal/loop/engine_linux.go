package loop

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// DefaultLoops is how many loops an engine has.
const DefaultLoops = 2

// reserved descriptors are not used for connections: the rest of the process needs some to go on.
const reserved = 16

// Options are the settings of an Engine.
type Options struct {
	Loops     int                 // default: DefaultLoops
	KeepAlive net.KeepAliveConfig // of connections to targets; those of clients have their listener's
}

// An Engine is a carry.Engine made of loops.
type Engine struct {
	spawn  func(func())
	o      Options
	lastFD int  // connections may not have a higher descriptor
	spare  bool // goroutines can run while all loops do

	mu     sync.Mutex
	closed bool
	loops  atomic.Pointer[[]*loop] // nil until the first listener
}

// New returns an engine whose loops are started by spawn.
func New(spawn func(func()), o Options) *Engine {
	if o.Loops == 0 {
		o.Loops = DefaultLoops
	}
	return &Engine{spawn: spawn, o: o, lastFD: lastDescriptor(), spare: runtime.GOMAXPROCS(0) > o.Loops}
}

// lastDescriptor is the highest one a connection may have. The kernel gives out the lowest that is free.
func lastDescriptor() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur > 1<<30 {
		return 1 << 30
	}
	return int(limit.Cur) - int(min(reserved, limit.Cur/8)) - 1
}

// start returns the loops, which run.
func (e *Engine) start() ([]*loop, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, net.ErrClosed
	}
	if l := e.loops.Load(); l != nil {
		return *l, nil
	}
	var loops []*loop
	for range e.o.Loops {
		l, err := newLoop(e)
		if err != nil {
			for _, l := range loops {
				l.release()
			}
			return nil, err
		}
		loops = append(loops, l)
	}
	e.loops.Store(&loops)
	for _, l := range loops {
		e.spawn(l.run)
	}
	return loops, nil
}

// Close implements carry.Engine.
func (e *Engine) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	if loops := e.loops.Load(); loops != nil {
		for _, l := range *loops {
			l.send(command{verb: stop})
		}
	}
}

// Open implements carry.Engine.
func (e *Engine) Open(fd int, d carry.Door) (carry.Gate, error) {
	loops, err := e.start()
	if err != nil {
		return nil, err
	}
	g := &gate{loops: loops}
	for _, l := range loops {
		p := &post{fd: fd, door: d}
		g.posts = append(g.posts, p)
		if err = l.call(func() error { return l.open(p) }); err != nil {
			g.Close()
			return nil, err
		}
	}
	return g, nil
}

// A gate is a listening socket that all loops accept from.
type gate struct {
	loops []*loop
	posts []*post // one for each loop
}

// Close implements carry.Gate.
func (g *gate) Close() {
	for i, p := range g.posts {
		l := g.loops[i]
		_ = l.call(func() error { l.shut(p); return nil })
	}
}

// Take implements carry.Engine.
func (e *Engine) Take(c *net.TCPConn, d carry.Door) {
	defer c.Close()
	loops, err := e.start()
	raw, rawErr := c.SyscallConn()
	if err != nil || rawErr != nil {
		_ = c.SetLinger(0)
		return
	}
	fd := -1
	_ = raw.Control(func(is uintptr) { fd, err = unix.FcntlInt(is, unix.F_DUPFD_CLOEXEC, 0) })
	if fd < 0 || err != nil {
		_ = c.SetLinger(0)
		return
	}
	addr, _ := c.RemoteAddr().(*net.TCPAddr)
	client := addr.AddrPort()
	client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	if l := lightest(loops, loops[0]); !l.give(d, fd, client) {
		reset(fd)
	}
}

// lightest is the loop with the fewest connections, or l if that has hardly more.
func lightest(loops []*loop, l *loop) *loop {
	best, least := l, l.live.Load()
	least -= least/8 + 2
	for _, other := range loops {
		if n := other.live.Load(); n < least {
			best, least = other, n
		}
	}
	return best
}

// elsewhere gives a connection to whoever else serves what its door leads to. The door is told also of one
// that is lost, since it has entered.
func (e *Engine) elsewhere(fd int, d carry.Door) {
	e.spawn(func() { d.Take(tcpConn(fd)) })
}

// deadline is d from now, in the time of a loop.
func (l *loop) deadline(d time.Duration) int64 { return l.now + int64(d) }
