package loop

import (
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// open starts to accept.
func (l *loop) open(p *post) error {
	at := int32(len(l.posts))
	for i, other := range l.posts {
		if other == nil {
			at = int32(i)
		}
	}
	if int(at) == len(l.posts) {
		l.posts = append(l.posts, nil)
	}
	l.posts[at] = p
	p.open = true
	// Exclusive: a connection wakes one loop, and another one if that is busy.
	if err := l.control(unix.EPOLL_CTL_ADD, p.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, at, aboutPost); err != nil {
		l.posts[at], p.open = nil, false
		return err
	}
	return nil
}

// shut ends that.
func (l *loop) shut(p *post) {
	for i, is := range l.posts {
		if is == p {
			l.posts[i] = nil
		}
	}
	if p.open && p.resume == 0 {
		_ = l.control(unix.EPOLL_CTL_DEL, p.fd, 0, 0, 0)
	}
	p.open = false
}

// pause accepts nothing for a while. Clients wait in the queue of the socket.
func (l *loop) pause(p *post, until int64) {
	if p.open && p.resume == 0 {
		p.resume = until
		_ = l.control(unix.EPOLL_CTL_DEL, p.fd, 0, 0, 0)
	}
}

// attend accepts again after a pause.
func (l *loop) attend(p *post, at int32) {
	if err := l.control(unix.EPOLL_CTL_ADD, p.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, at, aboutPost); err != nil {
		p.resume = l.deadline(p.door.Trouble(err))
	}
}

// accept takes what waits at a post, up to a bound: there is other work, and there are other loops.
func (l *loop) accept(p *post) {
	for i := 0; i < acceptBatch && p != nil && p.open && p.resume == 0; i++ {
		fd, client, err := accept(p.fd)
		switch {
		case wouldBlock(err):
			return
		case err != nil && hardly(err):
			continue
		case err != nil:
			l.pause(p, l.deadline(p.door.Trouble(os.NewSyscallError("accept4", err))))
			return
		case fd > l.engine.lastFD: // the rest is for the rest of the process
			reset(fd)
			l.pause(p, l.deadline(p.door.Trouble(os.NewSyscallError("accept4", unix.EMFILE))))
			return
		}
		other := lightest(*l.engine.loops.Load(), l)
		if other != l && other.give(p.door, fd, client) {
			continue
		}
		l.live.Add(1)
		l.enter(p.door, fd, client)
	}
}

// give has the loop take a connection that another one accepted; false if it has ended. It counts from now
// on: another one that looks meanwhile sees that it is not the lightest any more.
func (l *loop) give(d carry.Door, fd int, client netip.AddrPort) bool {
	l.live.Add(1)
	if l.send(command{verb: take, fd: fd, client: client, door: d}) {
		return true
	}
	l.live.Add(-1)
	return false
}

// rest pauses the posts at a door.
func (l *loop) rest(d carry.Door, pause time.Duration) {
	for _, p := range l.posts {
		if p != nil && p.door == d {
			l.pause(p, l.deadline(pause))
		}
	}
}
