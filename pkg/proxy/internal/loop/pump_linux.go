package loop

import (
	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// carried deals with an event of an open pair.
func (l *loop) carried(p *pair, s side, events uint32) {
	broken := events&unix.EPOLLERR != 0
	if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 && p.ends[1-s].wait != nil {
		l.pump(p, carry.Way(1-s))
	}
	if p.stage == open && p.ends[s].flags&ready != 0 {
		l.pump(p, carry.Way(s))
	}
	// What could be passed on was; the reset goes after it. Only a client is left the time to read what a
	// target said before it broke.
	if slow := s == server && p.ends[s].wait != nil; broken && p.stage == open && !slow && p.ends[s].flags&queued == 0 {
		p.brokeOff(s == server)
		l.drop(p)
	}
}

// pump moves what there is in one direction, until there is nothing to read or no room to write.
func (l *loop) pump(p *pair, w carry.Way) {
	src := &p.ends[w]
	for round := 0; p.stage == open; round++ {
		switch {
		case src.wait != nil:
			if !l.flush(p, w) {
				l.blocked(p, w)
				return
			}
		case src.flags&ended != 0:
			l.passEnd(p, w)
			return
		case src.flags&ready == 0:
			return
		case round >= copyRounds:
			l.later(p, w)
			return
		case src.flags&bulk != 0:
			round += copyRounds/splices - 1
			l.spliceOnce(p, w)
		default:
			l.copyOnce(p, w)
		}
	}
}

// blocked ends a pair whose client is gone once the target takes no more of what it said: a target that
// waits for the client to read may never take it.
func (l *loop) blocked(p *pair, w carry.Way) {
	if p.stage == open && p.doom && w == carry.Up {
		l.drop(p)
	}
}

// later goes on with a direction in the next turn: the others first.
func (l *loop) later(p *pair, w carry.Way) {
	if p.ends[w].flags&queued == 0 {
		p.ends[w].flags |= queued
		l.again = append(l.again, errand{pair: p, gen: p.gen.Load(), way: w})
	}
}

// copyOnce reads once, and writes what that gave.
func (l *loop) copyOnce(p *pair, w carry.Way) {
	src := &p.ends[w]
	n, err := receive(int(src.fd), l.buf, 0)
	switch {
	case wouldBlock(err):
		src.flags &^= ready | urgent
		return
	case err != nil:
		p.brokeOff(w == carry.Down)
		l.drop(p)
		return
	case n == 0:
		src.flags |= ended
		return
	case n == len(l.buf):
		src.flags |= bulk
	case src.flags&urgent != 0: // there may be more behind the mark
	case src.flags&fin != 0:
		src.flags |= ended
	default:
		src.flags &^= ready
	}
	more := 0
	if src.flags&ended != 0 {
		more = unix.MSG_MORE // the end follows, in one segment with this
	}
	m, err := send(int(p.ends[1-w].fd), l.buf[:n], more)
	l.wrote(p, w, l.buf[:n], m, err)
}

// wrote deals with the outcome of a write of b.
func (l *loop) wrote(p *pair, w carry.Way, b []byte, n int, err error) {
	if n > 0 {
		p.guest.Carried(w, int64(n), l.even)
	}
	if err != nil && !wouldBlock(err) {
		l.refused(p, w)
		return
	}
	l.keep(p, w, b, n)
	if n < len(b) {
		l.watch(p, side(1-w), true)
	}
}

// flush writes what waits in one direction. It is true when all of that is gone.
func (l *loop) flush(p *pair, w carry.Way) bool {
	src := &p.ends[w]
	dst := int(p.ends[1-w].fd)
	var (
		n   int
		err error
	)
	if src.wait.piped > 0 {
		n, err = splice(src.wait.pipe.r, dst, src.wait.piped)
		src.wait.piped -= max(0, n)
	} else {
		n, err = send(dst, src.wait.bytes(), 0)
		src.wait.off += n
	}
	if n > 0 {
		p.guest.Carried(w, int64(n), l.even)
	}
	if err != nil && !wouldBlock(err) {
		l.refused(p, w)
		return false
	}
	if src.wait.left() > 0 {
		if err != nil {
			l.watch(p, side(1-w), true)
			return false
		}
		return l.flush(p, w)
	}
	l.discard(src.wait)
	src.wait = nil
	return true
}

// passEnd tells the other side that one has no more to say.
func (l *loop) passEnd(p *pair, w carry.Way) {
	src := &p.ends[w]
	switch {
	case src.flags&passed != 0:
		return
	case p.doom:
		l.drop(p)
		return
	case p.ends[1-w].flags&passed != 0:
		l.close(p)
		return
	}
	src.flags |= passed
	if shut(int(p.ends[1-w].fd)) != nil {
		l.drop(p)
		return
	}
	l.beg(p)
}

// refused deals with a side that takes nothing any more: what it said before is still passed on, and
// then both are reset.
func (l *loop) refused(p *pair, w carry.Way) {
	p.brokeOff(w == carry.Up)
	src := &p.ends[w]
	l.discard(src.wait)
	src.wait = nil
	p.doom = true
	src.flags |= ended | passed
	if p.ends[1-w].flags&passed != 0 {
		l.drop(p)
		return
	}
	p.ends[1-w].flags |= ready
	l.later(p, 1-w)
}

// brokeOff tells the guest of a target that broke its connection off.
func (p *pair) brokeOff(target bool) {
	if target {
		p.guest.Broke()
	}
}
