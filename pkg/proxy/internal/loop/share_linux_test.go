package loop

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
)

// hall is a Door whose guests wait for ever.
type hall struct{}

func (hall) Enter(carry.Conn, netip.AddrPort) (carry.Guest, carry.Verdict, time.Duration) {
	return waiting{}, carry.Welcome, 0
}
func (hall) Take(*net.TCPConn)           {}
func (hall) Trouble(error) time.Duration { return time.Hour }

type waiting struct{ carry.Guest }

func (waiting) Next() carry.Step { return carry.Step{Do: carry.Hold, Wait: time.Hour} }
func (waiting) Leave()           {}

// TestSharesWhatItAccepts lets one of two loops take all that waits at a socket, while the other one does not come
// to look at what it is given.
func TestSharesWhatItAccepts(t *testing.T) {
	const clients = 64
	e := New(func(func()) {}, Options{}) // the loops do not run
	loops, err := e.start()
	if err != nil {
		t.Fatal(err)
	}
	busy, other := loops[0], loops[1]
	t.Cleanup(func() {
		for _, l := range loops {
			l.finishAll()
		}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for range clients {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	_ = raw.Control(func(fd uintptr) {
		p := &post{fd: int(fd), door: hall{}, open: true}
		for end := time.Now().Add(30 * time.Second); busy.live.Load()+other.live.Load() < clients && time.Now().Before(end); {
			busy.accept(p) // a client may know that it is connected a moment before the listener does
		}
	})
	if n, m := busy.live.Load(), other.live.Load(); n+m != clients || n < clients/3 || m < clients/3 {
		t.Errorf("of %d connections one loop has %d and the other one %d", clients, n, m)
	}
	if n := len(other.inbox); n != int(other.live.Load()) {
		t.Errorf("%d connections are in the inbox of the loop that has %d", n, other.live.Load())
	}
}
