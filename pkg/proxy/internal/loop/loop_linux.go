package loop

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// Bounds of what a loop does before it looks around again.
const (
	eventBatch  = 256
	acceptBatch = 16
	copyRounds  = 16 // of one direction of one pair: 1 MiB
	splices     = 2  // likewise: 2 MiB at most
)

// bufferSize is what a loop reads at once. More than that at once is bulk, which is spliced.
const bufferSize = 64 << 10

// What an event is about: the low bits of Pad. Above them is the stamp of what was registered, so that an
// event of a descriptor that is gone reaches nobody: it may be in the same batch as what ended it, or come later as long as a
// child that is being started has a duplicate.
const (
	aboutPair = iota // Fd is twice the index of the pair, plus the side
	aboutPost        // Fd is the index of the post
	aboutInbox
	aboutBits = 2
	aboutMask = 1<<aboutBits - 1
)

// A loop is a thread that carries pairs. Without a comment its fields are its own.
type loop struct {
	engine *Engine
	epoll  int
	wakeup int // an eventfd that tells of the inbox
	start  time.Time

	live  atomic.Int32 // pairs, and connections in the inbox
	mu    sync.Mutex
	inbox []command // guarded by mu
	ended bool      // guarded by mu: nobody reads the inbox any more

	now    int64 // time of this turn, since start
	even   int64 // the same, as carry.Now has it
	slab   slab
	timers timers
	grow   int64    // when to look for pairs that have lasted; 0: there are no young ones
	again  []errand // what had more to do than was its share of the last turn
	grave  []*pair  // that ended in this turn
	posts  []*post
	pipes  []pipe
	parked int // pipes that are in use
	spares spares

	orders    []command // memory of the next inbox
	postponed []command // about pairs that are frozen

	buf   []byte
	event unix.EpollEvent
}

// An errand is one direction of a pair that was still open with that generation.
type errand struct {
	pair *pair
	gen  uint32
	way  carry.Way
}

// A post is where a loop takes connections off a listening socket.
type post struct {
	fd     int
	door   carry.Door
	open   bool
	resume int64 // when to accept again; 0: it accepts
}

// A verb is what a command asks for.
type verb uint8

const (
	wake verb = iota
	abort
	cutByReset
	cutPolitely
	take
	do
	stop
)

// A command asks a loop for something. Those about a pair are void if it ended meanwhile.
type command struct {
	verb   verb
	pair   *pair
	gen    uint32
	fd     int            // take
	client netip.AddrPort // take
	door   carry.Door     // take
	f      func()         // do
}

func newLoop(e *Engine) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll instance: %w", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	l := &loop{engine: e, epoll: ep, wakeup: ev, start: time.Now(), buf: make([]byte, bufferSize)}
	if err := l.control(unix.EPOLL_CTL_ADD, ev, unix.EPOLLIN, 0, aboutInbox); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

// control is epoll_ctl.
func (l *loop) control(op, fd int, events uint32, data, about int32) error {
	l.event = unix.EpollEvent{Events: events, Fd: data, Pad: about}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&l.event)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// send gives the loop a command; false if it has ended.
func (l *loop) send(c command) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.inbox = append(l.inbox, c)
	if len(l.inbox) == 1 {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(l.wakeup, one[:])
	}
	return true
}

// call runs f on the loop and returns what it returns.
func (l *loop) call(f func() error) error {
	done := make(chan error, 1)
	if !l.send(command{verb: do, f: func() { done <- f() }}) {
		return net.ErrClosed
	}
	return <-done
}

// run carries until it is stopped. Its thread is its own, and ends with it.
func (l *loop) run() {
	runtime.LockOSThread()
	l.batch()
	events := make([]unix.EpollEvent, eventBatch)
	for {
		n := l.await(events)
		l.readClock()
		stopped := l.dispatch(events[:n])
		l.goOn()
		l.expire()
		l.bury()
		if stopped {
			l.finishAll()
			return
		}
	}
}

// shortWait is how many milliseconds a loop waits without a word to Go's scheduler. After 10 that would
// interrupt it, to have the processor for somebody else.
const shortWait = 8

// await waits for events, and returns how many there are. Go's scheduler is told only of a wait that gets
// long. Its monitor takes the processor of a goroutine that never switches, as a loop's, in every wait it
// knows of, and as long as it finds something to take it looks every 20 µs: under load that was a tenth of all
// the processor time. Who stops the world is not kept waiting: that sends a signal, which ends a short wait.
// Where the loops have all the processors among them, nothing else would run during short waits: each is told.
func (l *loop) await(events []unix.EpollEvent) int {
	if left := l.patience(); l.engine.spare {
		n, err := shortEpollWait(l.epoll, events, int(min(uint(left), shortWait))) // to wait for ever is most of all
		if n > 0 || err != nil || left >= 0 && left <= shortWait {
			return n
		}
	}
	n, _ := unix.EpollWait(l.epoll, events, l.patience()) // an error is gone with its cause, which is none of ours
	return max(0, n)
}

// dispatch deals with a batch of events, and reports whether to stop.
func (l *loop) dispatch(events []unix.EpollEvent) (stopped bool) {
	for _, ev := range events {
		switch ev.Pad & aboutMask {
		case aboutPair:
			p, s := l.slab.at(ev.Fd>>1), side(ev.Fd&1)
			if p.stamp(s) != uint32(ev.Pad)>>aboutBits {
				continue // of a descriptor that is gone
			}
			l.happened(p, s, ev.Events)
		case aboutPost:
			l.accept(l.posts[ev.Fd])
		case aboutInbox:
			stopped = l.readInbox() || stopped
		}
	}
	return stopped
}

// batch makes the thread one that works off what there is instead of taking the processor from those
// who make it. Its nice value stays what the daemon was started with.
func (*loop) batch() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err == nil && attr.Policy == unix.SCHED_NORMAL {
		attr.Policy = unix.SCHED_BATCH
		_ = unix.SchedSetAttr(0, attr, 0) // without it the loop is a little slower
	}
}

func (l *loop) readClock() {
	l.now, l.even = int64(time.Since(l.start)), carry.Now()
}

// patience is how many milliseconds to wait for an event; -1 is for ever.
func (l *loop) patience() int {
	if len(l.again) > 0 {
		return 0
	}
	next := int64(-1)
	if len(l.timers) > 0 {
		next = l.timers[0].at
	}
	if l.grow > 0 && (next < 0 || l.grow < next) {
		next = l.grow
	}
	for _, p := range l.posts {
		if p != nil && p.resume > 0 && (next < 0 || p.resume < next) {
			next = p.resume
		}
	}
	if next < 0 {
		return -1
	}
	left := next - int64(time.Since(l.start))
	return int(max(0, (left+int64(time.Millisecond)-1)/int64(time.Millisecond)))
}

// goOn does what was left of the last turn.
func (l *loop) goOn() {
	errands := l.again
	l.again = nil
	for _, e := range errands {
		if e.pair.gen.Load() == e.gen && e.pair.stage == open {
			e.pair.ends[e.way].flags &^= queued
			l.pump(e.pair, e.way)
		}
	}
	if l.again == nil {
		l.again = errands[:0]
	}
}

// expire does what it is time for.
func (l *loop) expire() {
	for len(l.timers) > 0 && l.timers[0].at <= l.now {
		p := l.timers[0].pair
		l.timers.disarm(p)
		l.late(p)
	}
	if l.grow > 0 && l.grow <= l.now {
		l.growUp()
	}
	for i, p := range l.posts {
		if p != nil && p.resume > 0 && p.resume <= l.now {
			p.resume = 0
			l.attend(p, int32(i))
		}
	}
}

// readInbox does what others asked for, and reports whether to stop.
func (l *loop) readInbox() (stopped bool) {
	var count [8]byte
	_, _ = unix.Read(l.wakeup, count[:])
	l.mu.Lock()
	commands := l.inbox
	l.inbox = l.orders
	l.mu.Unlock()
	stopped = l.read(commands)
	clear(commands)
	l.orders = commands[:0]
	return stopped
}

// read does what commands ask for, and reports whether to stop.
func (l *loop) read(commands []command) (stopped bool) {
	for _, c := range commands {
		switch {
		case c.verb == stop:
			stopped = true
		case c.verb == do:
			c.f()
		case c.verb == take:
			l.enter(c.door, c.fd, c.client)
		case c.pair.gen.Load() != c.gen:
		case c.pair.stage == frozen:
			l.postponed = append(l.postponed, c)
		default:
			l.obey(c.pair, c.verb)
		}
	}
	return stopped
}

// finishAll resets every connection and ends the loop.
func (l *loop) finishAll() {
	l.slab.each(func(p *pair) {
		if p.stage != free && p.stage != dead {
			l.drop(p)
		}
	})
	l.bury()
	l.mu.Lock()
	l.ended = true
	rest := slices.Concat(l.postponed, l.inbox)
	l.mu.Unlock()
	for _, c := range rest {
		switch c.verb {
		case take:
			reset(c.fd)
		case do:
			c.f()
		case wake, abort, cutByReset, cutPolitely, stop: // nothing is left
		}
	}
	l.release()
}

// release gives back what the loop has of the kernel.
func (l *loop) release() {
	for _, p := range l.pipes {
		p.close()
	}
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.wakeup)
}
