package loop

import (
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// A side is one of the two connections of a pair. The direction that has it as its source has the same
// number: from the client up, from the server down.
type side uint8

const (
	client side = iota
	server
)

// The stages of a pair.
type stage uint8

const (
	free     stage = iota // nobody's
	peeking               // the guest looks at what the client says
	holding               // the guest waits for a target
	dialling              // the server is not connected yet
	pausing               // a dial failed, the next one comes
	open                  // bytes go both ways
	frozen                // another engine is about to go on with it
	dead                  // ended in this turn
)

// flags of a side, and of the direction that comes from there.
type flags uint16

const (
	ready   flags = 1 << iota // there may be something to read
	fin                       // its end is there, behind what is to be read
	urgent                    // a short read does not mean that nothing is left: there is urgent data, or a reset
	ended                     // it ended, and everything was read
	passed                    // the other side was told
	bulk                      // much comes: splice
	queued                    // there is an errand
	watched                   // it is in the epoll instance
	forRoom                   // and also tells when there is room to write
)

// An end is one side of a pair.
type end struct {
	fd    int32 // -1: none
	flags flags
	dials uint16  // that there were before in this use of the pair; of the server
	wait  *parcel // was read here and could not be written to the other side yet
}

// A pair is a client's connection and the one to its target. It is a carry.Conn.
type pair struct {
	loop  *loop
	guest carry.Guest
	ends  [2]end
	gen   atomic.Uint32 // counts the uses of this memory
	index int32
	timer int32 // in the loop's heap, -1: none
	stage stage
	doom  bool // one side takes nothing any more: reset both once the other one has said all
	said  bool // the preface of the step was added
	age   age
}

// stamp tells the descriptors apart that a side of this memory has had: 22 bits count the uses of the pair, 8 the
// dials of one use.
func (p *pair) stamp(s side) uint32 {
	return (p.gen.Load()<<8 | uint32(p.ends[s].dials&0xff)) & (1<<30 - 1)
}

// about is what an event of a side carries beside its place: aboutPair, which is 0, and the stamp.
func (p *pair) about(s side) int32 { return int32(p.stamp(s) << aboutBits) }

// Local implements carry.Conn.
func (p *pair) Local() netip.AddrPort { return localAddr(int(p.ends[client].fd)) }

// Wake implements carry.Conn.
func (p *pair) Wake() { p.tell(wake) }

// Abort implements carry.Conn.
func (p *pair) Abort() { p.tell(abort) }

// Cut implements carry.Conn.
func (p *pair) Cut(reset bool) {
	if reset {
		p.tell(cutByReset)
		return
	}
	p.tell(cutPolitely)
}

func (p *pair) tell(v verb) { p.loop.send(command{verb: v, pair: p, gen: p.gen.Load()}) }

// enter takes a connection that was accepted and is counted.
func (l *loop) enter(d carry.Door, fd int, addr netip.AddrPort) {
	p := l.slab.get(l)
	g, verdict, pause := d.Enter(p, addr)
	if pause > 0 {
		l.rest(d, pause)
	}
	if verdict != carry.Welcome {
		l.slab.put(p)
		l.live.Add(-1)
		if verdict == carry.Elsewhere {
			l.engine.elsewhere(fd, d)
		} else {
			reset(fd)
		}
		return
	}
	p.guest = g
	p.ends[client] = end{fd: int32(fd), flags: ready}
	p.ends[server] = end{fd: -1}
	l.step(p)
}

// step does what the guest wants next.
func (l *loop) step(p *pair) {
	l.timers.disarm(p)
	s := p.guest.Next()
	switch s.Do {
	case carry.Dial:
		l.dial(p, s)
	case carry.Hold:
		p.stage = holding
		l.timers.arm(p, l.deadline(s.Wait))
		if l.watch(p, client, false) && p.ends[client].flags&fin != 0 {
			l.held(p)
		}
	case carry.Peek:
		p.stage = peeking
		l.timers.arm(p, l.deadline(s.Wait))
		if l.watch(p, client, false) {
			l.peek(p, false)
		}
	case carry.Refuse:
		l.drop(p)
	}
}

// watch adds a side to the epoll instance, or has it tell about room too. It is false if p ended of that.
func (l *loop) watch(p *pair, s side, room bool) bool {
	e := &p.ends[s]
	op := unix.EPOLL_CTL_ADD
	if e.flags&watched != 0 {
		if !room || e.flags&forRoom != 0 {
			return true
		}
		op = unix.EPOLL_CTL_MOD
	}
	events := uint32(unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET)
	e.flags |= watched
	if room {
		events |= unix.EPOLLOUT
		e.flags |= forRoom
	}
	if l.control(op, int(e.fd), events, p.index<<1|int32(s), p.about(s)) != nil {
		l.drop(p)
		return false
	}
	return true
}

// happened deals with an event.
func (l *loop) happened(p *pair, s side, events uint32) {
	e := &p.ends[s]
	if e.fd < 0 {
		return
	}
	switch {
	case events&unix.EPOLLERR != 0:
		e.flags |= urgent // the error is behind what is to be read, and no end
	case events&unix.EPOLLRDHUP != 0:
		e.flags |= fin
	}
	if events&unix.EPOLLPRI != 0 {
		e.flags |= urgent
	}
	if events&^uint32(unix.EPOLLOUT) != 0 {
		e.flags |= ready
	}
	switch p.stage {
	case open:
		l.carried(p, s, events)
	case dialling:
		if s == server {
			l.answered(p, events)
			return
		}
		l.checkReset(p, events)
	case pausing:
		l.checkReset(p, events)
	case holding:
		l.held(p)
	case peeking:
		l.peek(p, false)
	case free, dead, frozen: // whoever goes on with it finds out for itself
	}
}

// checkReset ends a pair that is not open yet if its client reset it.
func (l *loop) checkReset(p *pair, events uint32) {
	if events&unix.EPOLLERR != 0 {
		l.drop(p)
	}
}

// held looks whether a client that waits is still there.
func (l *loop) held(p *pair) {
	switch l.presence(p) {
	case carry.SaidAll:
		p.guest.SaidAll()
	case carry.Gone:
		l.giveUp(p)
	case carry.There:
	}
}

// presence is what is known of the client of a pair that is not open.
func (l *loop) presence(p *pair) carry.Presence {
	is := carry.PresenceOf(int(p.ends[client].fd))
	if is == carry.Gone && p.ends[client].wait != nil && !carry.Broken(int(p.ends[client].fd)) {
		return carry.SaidAll
	}
	return is
}

// giveUp ends a pair that is held, unless it was woken.
func (l *loop) giveUp(p *pair) {
	if p.guest.GiveUp() {
		l.drop(p)
		return
	}
	l.step(p)
}

// peek shows the guest what the client said.
func (l *loop) peek(p *pair, late bool) {
	e := &p.ends[client]
	n, err := receive(int(e.fd), l.buf[:carry.PeekMax], unix.MSG_PEEK)
	switch {
	case err != nil && !wouldBlock(err):
		l.drop(p)
		return
	case err != nil && !late:
		return
	}
	noMore := late || n == 0 || n == carry.PeekMax || e.flags&fin != 0
	discard, more := p.guest.Peeked(l.buf[:n], noMore)
	if more && !noMore {
		return
	}
	if discard > 0 {
		_, _ = receive(int(e.fd), l.buf[:discard], 0) // they are there
	}
	l.step(p)
}

// late deals with a time that is over.
func (l *loop) late(p *pair) {
	switch p.stage {
	case peeking:
		l.peek(p, true)
	case holding:
		l.giveUp(p)
	case dialling:
		l.missed(p, unix.ETIMEDOUT)
	case pausing:
		if l.presence(p) == carry.Gone {
			l.drop(p)
			return
		}
		l.step(p)
	case open:
		l.beg(p)
	case free, dead, frozen:
	}
}

// beg ends an open pair that was silent for too long, and otherwise notes when to look again.
func (l *loop) beg(p *pair) {
	half := (p.ends[client].flags|p.ends[server].flags)&passed != 0
	switch left := p.guest.Patience(half); {
	case left < 0:
		l.close(p)
	case left > 0:
		l.timers.arm(p, l.deadline(left))
	}
}

// obey does what the proxy asked for.
func (l *loop) obey(p *pair, v verb) {
	switch {
	case v == cutPolitely && p.stage == open:
		l.close(p)
	case v == cutPolitely, v == cutByReset:
		l.drop(p)
	case v == wake && p.stage == holding:
		l.step(p)
	case v == abort && (p.stage == dialling || p.stage == pausing):
		l.hangUp(p)
		l.step(p)
	}
}

// drop resets both sides and ends the pair.
func (l *loop) drop(p *pair) {
	for i := range p.ends {
		if fd := p.ends[i].fd; fd >= 0 {
			reset(int(fd))
		}
	}
	l.leave(p)
}

// close ends the pair in order.
func (l *loop) close(p *pair) {
	for i := range p.ends {
		if fd := p.ends[i].fd; fd >= 0 {
			closeFD(int(fd))
		}
	}
	l.leave(p)
}

// leave takes a pair whose descriptors are closed off the books.
func (l *loop) leave(p *pair) {
	l.timers.disarm(p)
	for i := range p.ends {
		l.discard(p.ends[i].wait)
		p.ends[i] = end{fd: -1}
	}
	p.stage = dead
	p.guest.Leave()
	p.guest = nil
	p.gen.Add(1)
	l.live.Add(-1)
	l.grave = append(l.grave, p)
}

// bury makes the memory of what ended usable again, now that no event of this turn is about it.
func (l *loop) bury() {
	for i, p := range l.grave {
		l.slab.put(p)
		l.grave[i] = nil
	}
	l.grave = l.grave[:0]
}
