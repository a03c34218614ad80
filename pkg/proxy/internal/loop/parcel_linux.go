package loop

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// A parcel is what was read and could not be written: bytes, or the content of a pipe.
type parcel struct {
	b     []byte
	off   int
	pipe  pipe
	piped int // bytes in the pipe
}

func (p *parcel) bytes() []byte { return p.b[p.off:] }

func (p *parcel) left() int { return len(p.b) - p.off + p.piped }

// Sizes of the memory of parcels, and how much of each is kept for the next one.
const (
	smallParcel  = 4 << 10
	mediumParcel = 16 << 10
	spareParcels = 64
)

// spares is memory of parcels that is not used.
type spares struct{ small, medium, large [][]byte }

// of is the list for a size.
func (s *spares) of(n int) (list *[][]byte, size int) {
	switch {
	case n <= smallParcel:
		return &s.small, smallParcel
	case n <= mediumParcel:
		return &s.medium, mediumParcel
	}
	return &s.large, bufferSize
}

// parcelOf returns a parcel with a copy of b.
func (l *loop) parcelOf(b []byte) *parcel {
	list, size := l.spares.of(len(b))
	if n := len(*list); n > 0 {
		memory := (*list)[n-1]
		*list = (*list)[:n-1]
		return &parcel{b: append(memory[:0], b...)}
	}
	return &parcel{b: append(make([]byte, 0, size), b...)}
}

// keep has the pair keep what is left of b, of which n bytes were written. b may be what it keeps already.
func (l *loop) keep(p *pair, w carry.Way, b []byte, n int) {
	src := &p.ends[w]
	switch {
	case src.wait != nil:
		if src.wait.off += n; src.wait.left() == 0 {
			l.discard(src.wait)
			src.wait = nil
		}
	case n < len(b):
		src.wait = l.parcelOf(b[n:])
	}
}

// discard gives the memory or the pipe of a parcel back. It may be nil.
func (l *loop) discard(c *parcel) {
	switch {
	case c == nil || cap(c.b) > bufferSize:
	case c.pipe != pipe{}:
		l.givePipe(c.pipe, c.piped == 0)
	default:
		if list, _ := l.spares.of(cap(c.b)); len(*list) < spareParcels {
			*list = append(*list, c.b)
		}
	}
}

// A pipe holds what was spliced from one side and not yet to the other.
type pipe struct{ r, w int }

// Pipes are few, and shared: each costs two descriptors.
const (
	maxPipes  = 32
	pipeSize  = 1 << 20
	bulkLeast = bufferSize // a splice that moves less is no bulk
)

func (p pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// takePipe returns an empty pipe, if there is one left.
func (l *loop) takePipe() (pipe, bool) {
	if n := len(l.pipes); n > 0 {
		p := l.pipes[n-1]
		l.pipes = l.pipes[:n-1]
		l.parked++
		return p, true
	}
	if l.parked >= maxPipes {
		return pipe{}, false
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return pipe{}, false
	}
	p := pipe{fds[0], fds[1]}
	if p.w > l.engine.lastFD {
		p.close()
		return pipe{}, false
	}
	_, _ = unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize) // a small one works, too
	l.parked++
	return p, true
}

// givePipe takes a pipe back. One that is not empty is of no use.
func (l *loop) givePipe(p pipe, empty bool) {
	l.parked--
	if empty {
		l.pipes = append(l.pipes, p)
		return
	}
	p.close()
}

// spliceOnce moves bulk without looking at it.
func (l *loop) spliceOnce(p *pair, w carry.Way) {
	src := &p.ends[w]
	via, ok := l.takePipe()
	if !ok {
		src.flags &^= bulk
		l.copyOnce(p, w)
		src.flags &^= bulk
		return
	}
	n, err := splice(int(src.fd), via.w, pipeSize)
	if n <= 0 {
		l.givePipe(via, true)
		// It stops for good before urgent data, in the same way as where there is nothing, or the end: a
		// read tells them apart.
		src.flags &^= bulk
		if err != nil && !wouldBlock(err) && !errors.Is(err, unix.EINVAL) {
			l.drop(p)
		}
		return
	}
	if n < bulkLeast {
		src.flags &^= bulk
	}
	src.wait = &parcel{pipe: via, piped: n}
	l.flush(p, w)
}
