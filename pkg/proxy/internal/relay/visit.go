package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// A visit is a client's connection on its way to a target. It is the carry.Conn of the guest.
type visit struct {
	engine *Engine
	conn   *net.TCPConn
	guest  carry.Guest

	first    []byte // of the client, if another engine read it
	prefaced bool   // the preface is part of that

	mu    sync.Mutex
	abort context.CancelFunc // of the dial in progress
	woken bool               // since the last step
	pair  *Pair              // once there is a target
	cut   bool
}

// Local implements carry.Conn.
func (v *visit) Local() netip.AddrPort { return addrPort(v.conn.LocalAddr()) }

// Wake implements carry.Conn.
func (v *visit) Wake() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.woken = true
	_ = v.conn.SetReadDeadline(time.Unix(1, 0))
}

// Abort implements carry.Conn.
func (v *visit) Abort() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.abort != nil {
		v.abort()
	}
}

// Cut implements carry.Conn.
func (v *visit) Cut(reset bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cut = true
	if v.pair != nil {
		v.pair.Cut(reset)
		return
	}
	if v.abort != nil {
		v.abort() // of a dial
	}
	v.woken = true // and of any other step
	_ = v.conn.SetReadDeadline(time.Unix(1, 0))
}

// serve brings the client to a target, or refuses it.
func (v *visit) serve(ctx context.Context) {
	server, preface := v.reach(ctx)
	if server == nil {
		Reset(v.conn)
		v.leave()
		return
	}
	p := NewPair(v.conn, server, v.guest, v.engine.buffers, v.leave)
	v.mu.Lock()
	v.pair = p
	if v.cut {
		p.Abort()
	}
	v.mu.Unlock()
	if !v.guest.Opened() {
		p.Abort()
	}
	p.pending[carry.Up] = append(preface, v.first...)
	p.Run(v.engine.spawn)
}

func (v *visit) leave() {
	v.engine.forget(v)
	v.guest.Leave()
}

// reach returns a connection to a target, and what to send there first, or nil when there is no hope.
// As nothing was read from the client yet, it may go from target to target.
func (v *visit) reach(ctx context.Context) (server *net.TCPConn, preface []byte) {
	for ctx.Err() == nil {
		dialCtx, abort := context.WithCancel(ctx)
		v.mu.Lock()
		v.abort, v.woken = abort, false
		cut := v.cut
		v.mu.Unlock()
		if cut {
			abort()
			return nil, nil
		}
		step := v.guest.Next()
		goOn := true
		switch step.Do {
		case carry.Dial:
			server, goOn = v.dial(dialCtx, step)
		case carry.Hold:
			goOn = v.hold(step.Wait)
		case carry.Peek:
			goOn = v.peek(step.Wait)
		case carry.Refuse:
			goOn = false
		}
		abort()
		if v.prefaced {
			step.Preface = nil
		}
		if server != nil || !goOn {
			return server, step.Preface
		}
	}
	return nil, nil
}

// dial is one attempt; without a connection it reports whether to ask for the next step.
func (v *visit) dial(ctx context.Context, step carry.Step) (server *net.TCPConn, goOn bool) {
	ctx, cancel := context.WithTimeout(ctx, step.Wait)
	defer cancel()
	c, err := v.engine.dialer.DialContext(ctx, "tcp", step.Target.String())
	if err == nil {
		return c.(*net.TCPConn), true
	}
	pause := v.guest.Missed(err)
	if pause < 0 {
		return nil, false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, !v.left()
}

// left reports whether the client is gone.
func (v *visit) left() bool {
	raw, err := v.conn.SyscallConn()
	if err != nil {
		return true
	}
	p := carry.Gone
	_ = raw.Control(func(fd uintptr) { p = carry.PresenceOf(int(fd)) })
	return p == carry.Gone
}

// readBy sets the deadline of a wait, unless it is over already.
func (v *visit) readBy(wait time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.woken {
		_ = v.conn.SetReadDeadline(time.Now().Add(wait))
	}
}

// hold returns true once a held client should look for its place again, and false when it may
// not wait any longer or left. It reads nothing: it asks the kernel how the connection is each time
// something happens to it.
func (v *visit) hold(wait time.Duration) bool {
	v.readBy(wait)
	raw, err := v.conn.SyscallConn()
	if err != nil {
		return !v.guest.GiveUp()
	}
	// Ends when the client left, or with an error when the deadline is there or somebody set it.
	_ = raw.Read(func(fd uintptr) bool {
		p := carry.PresenceOf(int(fd))
		if p == carry.SaidAll {
			v.guest.SaidAll()
		}
		return p == carry.Gone
	})
	if v.guest.GiveUp() {
		return false
	}
	return v.waitNoMore()
}

// waitNoMore takes the deadline of a wait away.
func (v *visit) waitNoMore() bool {
	_ = v.conn.SetReadDeadline(time.Time{})
	return true
}

// peek shows the guest what the client says until that is enough. It reports whether to go on.
func (v *visit) peek(wait time.Duration) bool {
	v.readBy(wait)
	raw, err := v.conn.SyscallConn()
	if err != nil {
		return false
	}
	loan := v.engine.buffers.Lend(false)
	defer v.engine.buffers.GiveBack(loan)
	b := loan.Bytes()[:carry.PeekMax]
	var discard, n int
	over := false
	_ = raw.Read(func(fd uintptr) bool {
		ended := carry.PresenceOf(int(fd)) != carry.There // before it is read: nothing comes behind that
		n, _, err = unix.Recvfrom(int(fd), b, unix.MSG_PEEK)
		if n < 0 && (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)) {
			return false
		}
		n = max(0, n)
		over = ended || n == 0 || n == len(b)
		var more bool
		discard, more = v.guest.Peeked(b[:n], over)
		over = over || !more
		return over
	})
	if !over { // it said nothing, or not enough, for too long
		discard, _ = v.guest.Peeked(b[:max(0, n)], true)
	}
	v.waitNoMore()
	for discard > 0 {
		n, err := v.conn.Read(b[:min(discard, len(b))])
		if err != nil {
			return false
		}
		discard -= n
	}
	return true
}
