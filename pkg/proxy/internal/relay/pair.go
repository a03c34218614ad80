package relay

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// A Keeper is told what a pair does, and says how long it may do nothing. It is part of a carry.Guest.
type Keeper interface {
	Carried(w carry.Way, bytes int64, now int64)
	Broke()
	Patience(half bool) time.Duration
}

// A Pair is two connections and what goes between them.
type Pair struct {
	client, server *net.TCPConn
	keeper         Keeper
	buffers        *Buffers
	done           func()
	ended          atomic.Int32 // directions that came to their end properly
	left           atomic.Int32 // goroutines that still work
	broke          atomic.Bool  // one of the connections does not take what it is sent
	aborted        atomic.Bool

	// What was left of what happened before this pair was made, of each way. Not changed after Run.
	pending    [2][]byte // was read and not written
	over, told [2]bool   // the end was read, was passed on
}

// NewPair returns a pair that carries nothing until Run. Of the two only Cut may be called before.
func NewPair(client, server *net.TCPConn, k Keeper, b *Buffers, done func()) *Pair {
	return &Pair{client: client, server: server, keeper: k, buffers: b, done: done}
}

// Run carries bytes both ways until both directions ended or one broke; then it closes both
// connections and calls done. It does not wait for that: the caller's goroutine has a deep stack,
// which is better not kept for as long as the connection lasts. The end of one direction
// is passed on and leaves the other one alone, for as long as both peers are there: a peer that is
// gone is found by keep-alive. A reset is passed on as one.
func (r *Pair) Run(spawn func(func())) {
	r.left.Store(2)
	spawn(func() { r.carry(r.client, r.server, carry.Down) })
	spawn(func() { r.carry(r.server, r.client, carry.Up) })
}

// Cut ends the pair: the directions notice and leave.
func (r *Pair) Cut(reset bool) {
	if reset {
		r.Abort()
		return
	}
	r.aborted.Store(true)
	_ = r.client.Close()
	_ = r.server.Close()
}

// carry is one direction. Afterwards it watches over src until the other direction is done.
func (r *Pair) carry(dst, src *net.TCPConn, way carry.Way) {
	defer r.leave()
	raw, err := src.SyscallConn()
	if err != nil {
		r.Abort()
		return
	}
	how := r.catchUp(dst, way)
	if how == goesOn {
		how = r.copy(dst, src, raw, way)
	}
	switch how {
	case goesOn:
	case srcBroke:
		r.tell(way == carry.Down)
		r.Abort()
	case dstBroke:
		r.tell(way == carry.Up)
		r.outlive(src, way)
	case srcEnded:
		r.passEnd(dst, src, raw, way)
	}
}

// tell notes that the target broke off, unless we did.
func (r *Pair) tell(target bool) {
	if target && !r.aborted.Load() {
		r.keeper.Broke()
	}
}

// lastWords is how long a target may take for what a client said that is gone.
const lastWords = time.Second

// outlive lets the other direction pass on what the broken end said before, and abort then. A target gets
// limited time for that: it may wait for the client that is gone, and read nothing.
func (r *Pair) outlive(src *net.TCPConn, way carry.Way) {
	if r.broke.Swap(true) {
		r.Abort() // both
		return
	}
	if way == carry.Down {
		_ = src.SetWriteDeadline(time.Now().Add(lastWords))
	}
}

// passEnd tells dst that src has no more to say.
func (r *Pair) passEnd(dst, src *net.TCPConn, raw syscall.RawConn, way carry.Way) {
	switch {
	case r.broke.Load():
		r.Abort()
	case r.ended.Load() == 0 && wasReset(raw):
		r.tell(way == carry.Down)
		r.Abort()
	case r.ended.Add(1) == 2:
		_ = dst.CloseWrite()
		_ = dst.SetReadDeadline(time.Unix(1, 0)) // the other direction only watches now
	case dst.CloseWrite() != nil, !r.watch(src, raw):
		r.Abort()
	}
}

// An outcome is why a copy stopped.
type outcome int

const (
	goesOn outcome = iota
	srcEnded
	srcBroke
	dstBroke
)

// catchUp does what was left to do.
func (r *Pair) catchUp(dst *net.TCPConn, way carry.Way) outcome {
	if b := r.pending[way]; len(b) > 0 {
		if _, err := dst.Write(b); err != nil {
			return dstBroke
		}
		r.keeper.Carried(way, int64(len(b)), carry.Now())
	}
	if r.over[way] || r.told[way] {
		return srcEnded // to say so twice does no harm
	}
	return goesOn
}

// copy carries bytes from src to dst until one of them has enough.
func (r *Pair) copy(dst, src *net.TCPConn, raw syscall.RawConn, way carry.Way) outcome {
	var (
		got   Loan
		n     int
		err   error
		large bool
	)
	read := func(fd uintptr) bool { // false: wait until there is something, with empty hands
		got = r.buffers.Lend(large)
		n, err = readFD(int(fd), got.Bytes())
		if n > 0 {
			return true
		}
		r.buffers.GiveBack(got)
		large = false
		return !errors.Is(err, unix.EAGAIN)
	}
	for {
		switch perr := r.await(src, raw, read); {
		case perr != nil || err != nil:
			return srcBroke
		case n == 0:
			return srcEnded
		}
		large = n >= smallBuffer
		_, err = dst.Write(got.Bytes()[:n])
		r.buffers.GiveBack(got)
		if err != nil {
			return dstBroke
		}
		r.keeper.Carried(way, int64(n), carry.Now())
	}
}

// await calls read until it is content, for as long as the keeper has patience.
func (r *Pair) await(src *net.TCPConn, raw syscall.RawConn, read func(uintptr) bool) error {
	for {
		left := r.keeper.Patience(r.ended.Load() > 0)
		switch {
		case left < 0:
			r.Cut(false)
			return os.ErrDeadlineExceeded
		case left > 0:
			_ = src.SetReadDeadline(time.Now().Add(left))
		}
		if r.ended.Load() == 2 { // whoever ended last woke this one, perhaps before the new deadline
			return nil
		}
		err := raw.Read(read)
		if left == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

func readFD(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// wasReset reports whether what looks like an end is a reset that a write of the other direction was told
// of, for each error is told once. It holds only while nobody has ended.
func wasReset(raw syscall.RawConn) (reset bool) {
	_ = raw.Control(func(fd uintptr) { reset = carry.Broken(int(fd)) })
	return reset
}

// watch waits until the other direction is done, or src breaks: false.
func (r *Pair) watch(src *net.TCPConn, raw syscall.RawConn) bool {
	var gone bool
	_ = r.await(src, raw, func(fd uintptr) bool {
		gone = carry.Broken(int(fd))
		return gone
	})
	return !gone || r.ended.Load() == 2
}

// Abort breaks both connections so that both peers see a reset, and both directions end.
func (r *Pair) Abort() {
	if r.aborted.Swap(true) {
		return
	}
	Reset(r.client)
	Reset(r.server)
}

// Reset closes c by a reset, as a host does where nobody listens.
func Reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// leave closes both connections when the last direction is over.
func (r *Pair) leave() {
	if r.left.Add(-1) > 0 {
		return
	}
	_ = r.client.Close()
	_ = r.server.Close()
	r.done()
}
