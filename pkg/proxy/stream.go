package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/relay"
)

// errFullBuffer is why a stream reads no further: nobody took what it has.
var errFullBuffer = errors.New("buffer is full")

// A stream reads a connection into a buffer that it has only while something is in it: one that
// waits costs no memory. It is for one goroutine at a time.
type stream struct {
	conn    net.Conn
	raw     syscall.RawConn // of plain TCP, else nil
	buffers *relay.Buffers

	loan  relay.Loan
	lent  bool
	r, w  int       // loan.bytes()[r:w] was read and not taken
	large bool      // the last read filled the buffer
	until time.Time // the read deadline that is set

	ready func(fd uintptr) bool // is readRaw
	n     int
	err   error
	one   [1]byte
}

// open makes s read c.
func (s *stream) open(c net.Conn, b *relay.Buffers) error {
	s.conn, s.buffers = c, b
	if t, ok := c.(*net.TCPConn); ok {
		raw, err := t.SyscallConn()
		if err != nil {
			return err
		}
		s.raw, s.ready = raw, s.readRaw
	}
	return nil
}

// bytes is what was read and not taken. It is good until the next fill or drop.
func (s *stream) bytes() []byte {
	if !s.lent {
		return nil
	}
	return s.loan.Bytes()[s.r:s.w]
}

// take is done with the first n bytes.
func (s *stream) take(n int) { s.r += n }

// drop gives the buffer back; what is in it is lost.
func (s *stream) drop() {
	if s.lent {
		s.buffers.GiveBack(s.loan)
		s.lent = false
	}
	s.r, s.w = 0, 0
}

// detach takes the buffer away from s, with its content: the connection may be read by somebody
// else while the caller still needs what came. Whoever called it gives the loan back.
func (s *stream) detach() (l relay.Loan, lent bool) {
	l, lent = s.loan, s.lent
	s.lent, s.r, s.w = false, 0, 0
	return l, lent
}

// expect bounds the next reads: they fail at a time between half of d and d from now. It costs
// a system timer only each d/2.
func (s *stream) expect(d time.Duration, now time.Time) {
	if left := s.until.Sub(now); left < d/2 || left > d {
		s.expectBy(now.Add(d))
	}
}

// expectBy lets reads fail from t on.
func (s *stream) expectBy(t time.Time) {
	s.until = t
	_ = s.conn.SetReadDeadline(t)
}

// idle is fill for a time when nothing is expected soon: with TLS, too, it waits without a buffer, for a byte.
func (s *stream) idle() error {
	if s.raw != nil || s.lent && s.r < s.w {
		return s.fill()
	}
	s.drop()
	n, err := s.conn.Read(s.one[:])
	if n == 0 {
		return err
	}
	s.borrow()
	s.w = copy(s.loan.Bytes(), s.one[:])
	return nil
}

// fill reads what there is, and waits until there is something. At the end it returns io.EOF.
func (s *stream) fill() error {
	if s.lent && s.r == s.w {
		s.drop()
	}
	if s.lent {
		if err := s.makeRoom(); err != nil {
			return err
		}
	} else if s.raw == nil {
		s.borrow()
	}
	if s.raw == nil {
		s.n, s.err = s.conn.Read(s.loan.Bytes()[s.w:])
	} else if err := s.raw.Read(s.ready); err != nil {
		return err
	}
	switch {
	case s.n > 0:
		s.w += s.n
		s.large = s.w == len(s.loan.Bytes())
		return nil
	case s.err != nil:
		return s.err
	}
	return io.EOF
}

func (s *stream) borrow() {
	s.loan, s.lent = s.buffers.Lend(s.large), true
	s.large = false
}

// readRaw is one try to read. It returns false when there is nothing yet.
func (s *stream) readRaw(fd uintptr) bool {
	had := s.lent
	if !had {
		s.borrow()
	}
	s.n, s.err = readFD(int(fd), s.loan.Bytes()[s.w:])
	if s.n > 0 {
		return true
	}
	s.n = 0
	if !had {
		s.drop()
	}
	return !errors.Is(s.err, unix.EAGAIN)
}

// makeRoom moves what was read to the beginning of the buffer, or to a larger one.
func (s *stream) makeRoom() error {
	b := s.loan.Bytes()
	switch {
	case s.w < len(b):
		return nil
	case s.r > 0:
		s.w = copy(b, b[s.r:s.w])
		s.r = 0
		return nil
	case s.loan.IsLarge():
		return errFullBuffer
	}
	l := s.buffers.Lend(true)
	if !l.IsLarge() {
		s.buffers.GiveBack(l)
		return errFullBuffer
	}
	copy(l.Bytes(), b[:s.w])
	s.buffers.GiveBack(s.loan)
	s.loan = l
	return nil
}

// isTimeout reports whether a read or a write met its deadline.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func readFD(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}
