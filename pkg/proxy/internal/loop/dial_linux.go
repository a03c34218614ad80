package loop

import (
	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// dial connects to the target of a step. On one machine the target has answered when connect
// returns, so what the client said already is sent at once: that is one turn saved. Nothing of it
// is lost if the target did not answer: it stays with the pair, for whichever target takes it.
func (l *loop) dial(p *pair, s carry.Step) {
	if !p.said && len(s.Preface) > 0 {
		p.said = true
		p.ends[client].wait = l.parcelOf(s.Preface)
	}
	p.stage = dialling
	fd, err := connect(s.Target)
	if err == nil && fd > l.engine.lastFD {
		closeFD(fd)
		err = unix.EMFILE
	}
	if err != nil {
		l.missed(p, err)
		return
	}
	p.ends[server] = end{fd: int32(fd), dials: p.ends[server].dials + 1}
	connected, err := l.sendFirst(p)
	switch {
	case p.stage != dialling: // the client reset it
	case err != nil:
		l.missed(p, err)
	case !l.watch(p, server, !connected) || !l.watch(p, client, false):
	case connected:
		l.opened(p)
	default:
		l.timers.arm(p, l.deadline(s.Wait))
	}
}

// sendFirst tries to send what the client said to a target that may not be connected yet.
func (l *loop) sendFirst(p *pair) (connected bool, err error) {
	e := &p.ends[client]
	b := l.buf[:0]
	switch {
	case e.wait != nil:
		b = e.wait.bytes()
	case e.flags&ready != 0:
		n, err := receive(int(e.fd), l.buf, 0)
		switch {
		case wouldBlock(err):
			e.flags &^= ready
		case err != nil:
			l.drop(p)
			return false, nil
		case n == 0:
			e.flags |= ended
		case n < len(l.buf) && e.flags&(fin|urgent) == 0:
			e.flags &^= ready
		}
		b = l.buf[:n]
	}
	if len(b) == 0 {
		return false, nil
	}
	n, err := send(int(p.ends[server].fd), b, 0)
	l.keep(p, carry.Up, b, n)
	if n > 0 {
		p.guest.Carried(carry.Up, int64(n), l.even)
	}
	if wouldBlock(err) {
		return false, nil
	}
	return err == nil, err
}

// answered deals with an event of a server that is being dialled.
func (l *loop) answered(p *pair, events uint32) {
	switch {
	case events&(unix.EPOLLERR|unix.EPOLLHUP) != 0:
		l.missed(p, socketError(int(p.ends[server].fd)))
	case events&(unix.EPOLLOUT|unix.EPOLLIN) != 0:
		l.opened(p)
	}
}

// missed deals with a dial that failed.
func (l *loop) missed(p *pair, err error) {
	l.hangUp(p)
	pause := p.guest.Missed(err)
	if pause < 0 {
		l.drop(p)
		return
	}
	p.stage = pausing
	if l.watch(p, client, false) {
		l.timers.arm(p, l.deadline(pause))
	}
}

// hangUp gives up the dial in progress.
func (l *loop) hangUp(p *pair) {
	e := &p.ends[server]
	if e.fd >= 0 {
		if e.flags&watched != 0 {
			_ = l.control(unix.EPOLL_CTL_DEL, int(e.fd), 0, 0, 0)
		}
		reset(int(e.fd))
	}
	*e = end{fd: -1, dials: e.dials}
}

// opened starts to carry.
func (l *loop) opened(p *pair) {
	l.timers.disarm(p)
	p.stage = open
	l.young()
	if !p.guest.Opened() {
		l.drop(p)
		return
	}
	l.beg(p)
	if p.stage == open {
		l.pump(p, carry.Up)
	}
	if p.stage == open {
		l.pump(p, carry.Down)
	}
}
