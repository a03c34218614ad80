package loop

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// caller is a guest that wants to go to one target, and the door it comes by.
type caller struct {
	target netip.AddrPort
	opened bool
	missed int
	left   bool
}

func (c *caller) Enter(carry.Conn, netip.AddrPort) (carry.Guest, carry.Verdict, time.Duration) {
	return c, carry.Welcome, 0
}

func (*caller) Take(*net.TCPConn)           {}
func (*caller) Trouble(error) time.Duration { return 0 }
func (*caller) Attach(carry.Conn)           {}

func (c *caller) Next() carry.Step {
	return carry.Step{Do: carry.Dial, Target: c.target, Wait: time.Minute}
}

func (*caller) Peeked([]byte, bool) (int, bool) { return 0, false }
func (*caller) SaidAll()                        {}
func (*caller) GiveUp() bool                    { return true }

func (c *caller) Missed(error) time.Duration {
	c.missed++
	return time.Minute
}

func (c *caller) Opened() bool {
	c.opened = true
	return true
}

func (*caller) Carried(carry.Way, int64, int64) {}
func (*caller) Broke()                          {}
func (*caller) Patience(bool) time.Duration     { return 0 }
func (c *caller) Leave()                        { c.left = true }

// stand is a loop whose turns the test makes, and a listener.
type stand struct {
	*loop
	t  *testing.T
	ln *net.TCPListener
}

func newStand(t *testing.T) *stand {
	t.Helper()
	l, err := newLoop(New(func(func()) {}, Options{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.release)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return &stand{loop: l, t: t, ln: ln.(*net.TCPListener)}
}

// client connects to the stand, and returns both ends; that of the loop is the loop's.
func (s *stand) client() (*net.TCPConn, int) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.ln.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	in, err := s.ln.AcceptTCP()
	if err != nil {
		s.t.Fatal(err)
	}
	defer in.Close()
	f, err := in.File()
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	return c.(*net.TCPConn), s.duplicate(int(f.Fd()))
}

func (s *stand) duplicate(of int) int {
	s.t.Helper()
	fd, err := unix.FcntlInt(uintptr(of), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		s.t.Fatal(err)
	}
	return fd
}

// turn deals with the events that there are within the time, and returns how many there were.
func (s *stand) turn(within time.Duration) int {
	s.t.Helper()
	events := make([]unix.EpollEvent, eventBatch)
	for {
		n, err := unix.EpollWait(s.epoll, events, int(within.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		s.dispatch(events[:n])
		s.bury()
		return n
	}
}

// until makes turns until ok.
func (s *stand) until(what string, ok func() bool) {
	s.t.Helper()
	for !ok() {
		if s.turn(20*time.Second) == 0 {
			s.t.Fatalf("not within 20s: %s", what)
		}
	}
}

// TestEventOfAnEarlierUseReachesNobody resets a client whose pair ended, while a child that is being started still
// has a duplicate of the connection. The memory of the pair is used again by then.
func TestEventOfAnEarlierUseReachesNobody(t *testing.T) {
	s := newStand(t)
	target := newStand(t) // accepts by its queue
	enter := func() (*caller, *net.TCPConn, *pair, int) {
		g := &caller{target: target.ln.Addr().(*net.TCPAddr).AddrPort()}
		c, fd := s.client()
		s.enter(g, fd, netip.AddrPort{})
		s.until("the target is connected", func() bool { return g.opened })
		var p *pair
		s.slab.each(func(other *pair) {
			if other.guest == g {
				p = other
			}
		})
		return g, c, p, fd
	}
	first, c, p, fd := enter()
	child := s.duplicate(fd)
	t.Cleanup(func() { _ = unix.Close(child) })
	s.close(p)
	s.bury()
	second, other, again, _ := enter()
	if !first.left || p != again {
		t.Fatal("the memory of the first pair is not used again")
	}
	_ = c.SetLinger(0)
	c.Close()
	if s.turn(20*time.Second) == 0 {
		t.Fatal("no event of the connection that is gone")
	}
	if second.left || again.stage != open || again.ends[client].flags&(urgent|fin) != 0 {
		t.Errorf("stage %d, flags %b, left %v: the event of an earlier use was believed", again.stage, again.ends[client].flags, second.left)
	}
	other.Close()
	s.until("the client's end is there", func() bool { return again.ends[client].flags&ended != 0 })
	s.close(again)
}

// TestEventOfAnEarlierDialReachesNobody has an event of a dial that was given up in the same batch.
func TestEventOfAnEarlierDialReachesNobody(t *testing.T) {
	s, target := newStand(t), newStand(t)
	g := &caller{target: target.ln.Addr().(*net.TCPAddr).AddrPort()}
	_, fd := s.client()
	s.enter(g, fd, netip.AddrPort{})
	p := s.slab.at(0)
	if p.guest != g || p.stage != dialling {
		t.Fatalf("stage %d, want a dial", p.stage)
	}
	event := func() unix.EpollEvent {
		return unix.EpollEvent{
			Events: unix.EPOLLERR | unix.EPOLLHUP, Fd: p.index<<1 | int32(server), Pad: p.about(server),
		}
	}
	stale := event()
	s.obey(p, abort) // and dials again
	s.dispatch([]unix.EpollEvent{stale})
	if g.missed != 0 || p.stage != dialling {
		t.Errorf("stage %d, %d dials failed: the event of an earlier dial was believed", p.stage, g.missed)
	}
	s.dispatch([]unix.EpollEvent{event()})
	if g.missed != 1 {
		t.Errorf("%d dials failed, want the one that has an event", g.missed)
	}
	s.drop(p)
}

// TestDialThatIsGivenUpIsNotWatched leaves a duplicate of the connection with a child.
func TestDialThatIsGivenUpIsNotWatched(t *testing.T) {
	s, target := newStand(t), newStand(t)
	g := &caller{target: target.ln.Addr().(*net.TCPAddr).AddrPort()}
	_, fd := s.client()
	s.enter(g, fd, netip.AddrPort{})
	p := s.slab.at(0)
	child := s.duplicate(int(p.ends[server].fd))
	t.Cleanup(func() { _ = unix.Close(child) })
	s.hangUp(p)
	p.stage = pausing
	if n := s.turn(0); n != 0 {
		t.Errorf("%d events of a dial that was given up", n)
	}
	s.drop(p)
}
