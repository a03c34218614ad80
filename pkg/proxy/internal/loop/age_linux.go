package loop

import (
	"time"

	"golang.org/x/sys/unix"
)

// lasting is how often a loop looks for pairs that have lasted.
const lasting = 5 * time.Second

// An age is what a loop knows of how long a pair is open.
type age uint8

const (
	isNew age = iota
	wasSeen
	hasLasted
)

// Keep-alive finds a target that is gone without a word, after a minute. To ask for it takes four
// calls, a fifth of what a short connection takes in all, so only pairs that have lasted get it: those that
// are seen twice. Clients have it from their listener, for nothing.

// young notes that there is a pair that is new.
func (l *loop) young() {
	if l.grow == 0 {
		l.grow = l.deadline(lasting)
	}
}

// growUp gives keep-alive to the pairs that have lasted.
func (l *loop) growUp() {
	l.grow = 0
	l.slab.each(func(p *pair) {
		switch {
		case p.stage != open || p.age == hasLasted:
		case p.age == wasSeen:
			p.age = hasLasted
			l.keepAlive(int(p.ends[server].fd))
		default:
			p.age = wasSeen
			l.young()
		}
	})
}

// keepAlive has the kernel ask the target whether it is still there.
func (l *loop) keepAlive(fd int) {
	k := &l.engine.o.KeepAlive
	if !k.Enable {
		return
	}
	_ = setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int32(k.Idle/time.Second))
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int32(k.Interval/time.Second))
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, int32(k.Count))
}
