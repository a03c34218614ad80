package proxy

import (
	"net"
	"net/netip"
	"testing"
)

// Who is at home is not counted as a guest, and not cut.
func TestGuestsAreCountedAndCutAlone(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	addr := addrOf(t, p)
	from := func(ip string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		c, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Skipf("connect from %s: %v", ip, err)
		}
		t.Cleanup(func() { c.Close() })
		wantAnswer(t, c.(*net.TCPConn), "x", "a x")
		return c
	}
	home := []netip.Addr{netip.MustParseAddr("127.0.0.2")}
	inside := from("127.0.0.2")
	for range 3 {
		from("127.0.0.3")
	}
	if n := p.Guests("A", home); n != 3 {
		t.Errorf("%d guests, want 3", n)
	}
	p.CutGuests(t.Context(), "A", 0, home)
	if n := p.Guests("A", home); n != 0 {
		t.Errorf("%d guests are left when CutGuests returned", n)
	}
	wantAnswer(t, inside.(*net.TCPConn), "y", "a y")
	wantOpen(t, p, "A", 1)
	if n := p.Guests("nobody", nil); n != 0 {
		t.Errorf("%d guests of nobody", n)
	}
}
