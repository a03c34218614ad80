package loop

import (
	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// eachLoop runs f on every loop, if there are any.
func (e *Engine) eachLoop(f func(l *loop)) {
	loops := e.loops.Load()
	if loops == nil {
		return
	}
	for _, l := range *loops {
		_ = l.call(func() error { f(l); return nil })
	}
}

// Freeze implements carry.Engine.
func (e *Engine) Freeze(most int, movable func(carry.Guest) bool) (some []carry.Frozen, rest int) {
	e.eachLoop(func(l *loop) {
		l.slab.each(func(p *pair) {
			switch {
			case p.stage == free || p.stage == dead || p.stage == frozen:
			case len(some) < most && movable(p.guest):
				some = append(some, l.freeze(p))
			default:
				rest++
			}
		})
	})
	return some, rest
}

// freeze takes a pair out of the epoll instance and tells how it is. Without a target it is a
// client that is to be placed again.
func (l *loop) freeze(p *pair) carry.Frozen {
	l.timers.disarm(p)
	if p.stage != open {
		l.hangUp(p)
	}
	p.stage = frozen
	f := carry.Frozen{Guest: p.guest, Doomed: p.doom, Prefaced: p.said}
	for i := range p.ends {
		e := &p.ends[i]
		if e.flags&watched != 0 {
			_ = l.control(unix.EPOLL_CTL_DEL, int(e.fd), 0, 0, 0)
		}
		e.flags &^= watched | forRoom | queued
		f.FDs[i] = int(e.fd)
		f.Ended[i] = e.flags&ended != 0
		f.Passed[i] = e.flags&passed != 0
		if e.wait != nil {
			l.unpipe(e.wait)
			f.Pending[i] = e.wait.bytes()
		}
	}
	return f
}

// unpipe makes what is in the pipe of a parcel bytes: a pipe is not worth to be passed on.
func (l *loop) unpipe(c *parcel) {
	if c.piped == 0 {
		return
	}
	b := make([]byte, c.piped)
	n := 0
	for n < len(b) {
		m, err := unix.Read(c.pipe.r, b[n:])
		if m <= 0 && err != unix.EINTR {
			break // there are as many bytes as were spliced in
		}
		n += max(0, m)
	}
	l.givePipe(c.pipe, n == len(b))
	c.b, c.off, c.pipe, c.piped = b[:n], 0, pipe{}, 0
}

// Thaw implements carry.Engine.
func (e *Engine) Thaw() {
	e.eachLoop(func(l *loop) {
		l.slab.each(func(p *pair) {
			if p.stage != frozen {
				return
			}
			p.stage = pausing
			if p.ends[server].fd >= 0 {
				p.stage = open
			}
			l.revive(p)
		})
		l.catchUp()
	})
}

// catchUp does what was asked of pairs while they were frozen, as far as they are still there.
func (l *loop) catchUp() {
	commands := l.postponed
	l.postponed = nil
	l.read(commands)
}

// revive goes on with a pair that nothing is known of but what a Frozen says.
func (l *loop) revive(p *pair) {
	p.ends[client].flags |= ready
	if p.stage != open {
		l.step(p)
		return
	}
	p.ends[server].flags |= ready
	for s := range p.ends {
		if !l.watch(p, side(s), p.ends[1-s].wait != nil) {
			return
		}
	}
	l.young()
	l.beg(p)
	for w := range p.ends {
		if p.stage == open && p.ends[w].flags&passed == 0 {
			l.pump(p, carry.Way(w))
		}
	}
}

// Forget implements carry.Engine.
func (e *Engine) Forget() {
	e.eachLoop(func(l *loop) {
		l.slab.each(func(p *pair) {
			if p.stage == frozen {
				l.close(p)
			}
		})
		l.catchUp()
	})
}

// Adopt implements carry.Engine.
func (e *Engine) Adopt(fs []carry.Frozen) {
	loops, err := e.start()
	if err != nil {
		for _, f := range fs {
			f.Guest.Leave()
			closeAll(f)
		}
		return
	}
	for i, l := range loops {
		err := l.call(func() error {
			for j := i; j < len(fs); j += len(loops) {
				l.adopt(fs[j])
			}
			return nil
		})
		for j := i; err != nil && j < len(fs); j += len(loops) {
			fs[j].Guest.Leave()
			closeAll(fs[j])
		}
	}
}

func closeAll(f carry.Frozen) {
	for _, fd := range f.FDs {
		if fd >= 0 {
			reset(fd)
		}
	}
}

// adopt makes a pair of what another loop, perhaps of another process, froze.
func (l *loop) adopt(f carry.Frozen) {
	p := l.slab.get(l)
	p.guest, p.doom, p.said = f.Guest, f.Doomed, f.Prefaced
	p.stage = pausing
	if f.FDs[server] >= 0 {
		p.stage = open
	}
	for i := range p.ends {
		e := end{fd: int32(f.FDs[i])}
		if f.Ended[i] {
			e.flags |= ended
		}
		if f.Passed[i] {
			e.flags |= passed
		}
		if len(f.Pending[i]) > 0 {
			e.wait = &parcel{b: f.Pending[i]}
		}
		p.ends[i] = e
	}
	l.live.Add(1)
	p.guest.Attach(p)
	l.revive(p)
}
