package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/internal/porttest"
)

// hoarder is a Keeper that never lets go of what it got, as one that does not hear.
type hoarder struct {
	keep bool // clients are to wait for the next process

	mu     sync.Mutex // guards what follows
	files  []*os.File
	closed []netip.AddrPort
}

func newHoarder(t testing.TB) *hoarder {
	t.Helper()
	h := &hoarder{}
	t.Cleanup(func() {
		for _, f := range h.files {
			_ = f.Close()
		}
	})
	return h
}

func (h *hoarder) Opened(_ netip.AddrPort, f *os.File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files = append(h.files, f)
}

func (h *hoarder) Closed(addr netip.AddrPort) (refuse bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = append(h.closed, addr)
	return !h.keep
}

// told are the addresses that it was told are closed.
func (h *hoarder) told() []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.closed)
}

// copies are duplicates of all that was opened.
func (h *hoarder) copies(t testing.TB) []*os.File {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*os.File
	for _, f := range h.files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, os.NewFile(uintptr(fd), f.Name()))
	}
	return out
}

func keptBy(t testing.TB, k Keeper, inherit *State) *Proxy {
	t.Helper()
	return newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler), Keeper: k, Inherit: inherit})
}

func wantRefused(t testing.TB, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect to %s: %v, want that it is refused at once", addr, err)
	}
}

// TestClosedListenerRefusesAtOnce closes listeners of which somebody has a duplicate that he does not close.
func TestClosedListenerRefusesAtOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		close func(p *Proxy)
	}{
		{"removed", func(p *Proxy) { _ = p.Apply("test", nil) }},
		{"the proxy ends", func(p *Proxy) { _ = p.Close() }},
	}
	for _, tt := range tests {
		for _, l := range []Listener{tcp("", ""), web1("", "")} {
			t.Run(tt.name+" "+l.Kind, func(t *testing.T) {
				t.Parallel()
				p := keptBy(t, newHoarder(t), nil)
				apply(t, p, alone(t, l))
				addr := addrOf(t, p)
				connect(t, addr)
				tt.close(p)
				wantRefused(t, addr)
			})
		}
	}
}

// TestSocketsThatAreKeptOnTakeClients ends a proxy whose sockets are for the next process.
func TestSocketsThatAreKeptOnTakeClients(t *testing.T) {
	t.Parallel()
	h := newHoarder(t)
	h.keep = true
	p := keptBy(t, h, nil)
	l := tcp("A", named(t, "a"))
	apply(t, p, l)
	l.Addrs = []string{addrOf(t, p)}
	_ = p.Close()
	c := connect(t, l.Addrs[0])
	state, err := NewState(h.copies(t))
	if err != nil {
		t.Fatal(err)
	}
	next := keptBy(t, h, state)
	apply(t, next, l)
	wantAnswer(t, c, "1", "a 1")
}

// TestAddressIsFreeAtOnce opens and closes one port again and again, on all addresses and on one.
func TestAddressIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	p := keptBy(t, newHoarder(t), nil)
	l := alone(t, tcp("A", named(t, "a")))
	apply(t, p, l)
	addr := addrOf(t, p)
	port := netip.MustParseAddrPort(addr).Port()
	for i := range 10 {
		l.Addrs = []string{addr}
		if i%2 == 0 {
			l.Addrs = []string{fmt.Sprintf("0.0.0.0:%d", port)}
		}
		apply(t, p, l)
		wantAnswer(t, connect(t, addr), "1", "a 1")
		if i%3 == 0 {
			apply(t, p)
			wantRefused(t, addr)
		}
	}
}

// TestReleasedSocketsStayOpen hands over sockets of which a keeper is told.
func TestReleasedSocketsStayOpen(t *testing.T) {
	t.Parallel()
	h := newHoarder(t)
	p := keptBy(t, h, nil)
	one, two := tcp("A", named(t, "a")), web1("", "")
	two.Name = "two"
	apply(t, p, one, two)
	addr, other := addrOf(t, p), p.Addr("two")[0]
	s, err := p.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := travel(t, s)
	if _, err := p.Move(t.Context(), func(*State) (bool, error) { return false, errors.New("there is none") }); err != nil {
		t.Fatal(err)
	}
	c := connect(t, addr) // waits in the queue
	p.Release(s)
	if told := h.told(); len(told) != 0 {
		t.Errorf("the keeper was told that %v are closed", told)
	}
	connect(t, other)
	_ = p.Close()
	next := keptBy(t, h, got)
	one.Addrs, two.Addrs = []string{addr}, []string{other}
	apply(t, next, one, two)
	wantAnswer(t, c, "1", "a 1")
}

// TestUnclaimedSocketsAreHandedOver hands over what a killed process left before anybody asked for it, with a
// client that waits there.
func TestUnclaimedSocketsAreHandedOver(t *testing.T) {
	t.Parallel()
	h := newHoarder(t)
	h.keep = true
	killed := keptBy(t, h, nil)
	l, gone := tcp("A", named(t, "a")), alone(t, tcp("A", named(t, "a")))
	gone.Name = "gone"
	apply(t, killed, l, gone)
	addr, unwanted := addrOf(t, killed), killed.Addr("gone")[0]
	_ = killed.Close()
	state, err := NewState(h.copies(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range h.files {
		_ = f.Close()
	}
	first := keptBy(t, newHoarder(t), state)
	if !first.Unsettled() {
		t.Error("nothing is left to be settled")
	}
	c := connect(t, addr)
	s, err := first.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := s.Counts(); n != 2 {
		t.Errorf("%d sockets are handed over, want 2", n)
	}
	heirs := newHoarder(t)
	next := keptBy(t, heirs, travel(t, s))
	first.Release(s)
	if first.Unsettled() {
		t.Error("the old process still has sockets that nobody asked for")
	}
	l.Addrs = []string{addr}
	apply(t, next, l)
	wantAnswer(t, c, "1", "a 1")
	if got := len(heirs.files); got != 2 {
		t.Errorf("the keeper was told of %d sockets, want 2", got)
	}
	next.Settle()
	wantRefused(t, unwanted)
	if next.Unsettled() {
		t.Error("something is left to be settled")
	}
}

// TestUnclaimedClientsAreHandedOver hands over clients whose listener did not come yet, twice.
func TestUnclaimedClientsAreHandedOver(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("", "")
	apply(t, p, l)
	l.Addrs = []string{addrOf(t, p)}
	c := connect(t, l.Addrs[0])
	_, _ = c.Write([]byte("early "))
	wantHeld(t, p, 1)
	between := succeedUnsettled(t, p)
	next := succeedUnsettled(t, between)
	l.TargetID, l.Target = "A", named(t, "a")
	apply(t, next, l)
	wantAnswer(t, c, "x", "a early x")
}

// succeedUnsettled makes a proxy that takes over from old, and asks for nothing yet.
func succeedUnsettled(t testing.TB, old *Proxy) *Proxy {
	t.Helper()
	s, err := old.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := newProxyWith(t, Options{Log: old.log, Inherit: travel(t, s)})
	if _, err := old.Move(t.Context(), func(s *State) (bool, error) { return true, next.Adopt(travel(t, s)) }); err != nil {
		t.Fatal(err)
	}
	old.Release(s)
	return next
}

// TestUnclaimedSocketGivesWay opens a port on one address that a process before had on all.
func TestUnclaimedSocketGivesWay(t *testing.T) {
	t.Parallel()
	h := newHoarder(t)
	h.keep = true
	killed := keptBy(t, h, nil)
	l := tcp("A", named(t, "a"))
	port := porttest.Free(t, 1)[0]
	l.Addrs = []string{fmt.Sprintf("0.0.0.0:%d", port)}
	apply(t, killed, l)
	_ = killed.Close()
	state, err := NewState(h.copies(t))
	if err != nil {
		t.Fatal(err)
	}
	next := keptBy(t, newHoarder(t), state)
	l.Addrs = []string{fmt.Sprintf("127.0.0.1:%d", port)}
	apply(t, next, l)
	wantAnswer(t, connect(t, l.Addrs[0]), "1", "a 1")
}

// TestStateOfKeptSockets is about what a keeper may have beside sockets that listen.
func TestStateOfKeptSockets(t *testing.T) {
	t.Parallel()
	h := newHoarder(t)
	p := keptBy(t, h, nil)
	l, gone := tcp("A", named(t, "a")), tcp("A", named(t, "a"))
	gone.Name = "gone"
	apply(t, p, l, gone)
	l.Addrs = []string{addrOf(t, p)}
	apply(t, p, l) // of the other one a duplicate is left that does not listen
	files := append(h.copies(t), h.copies(t)...)
	s, err := NewState(files)
	if err != nil {
		t.Errorf("NewState = %v", err)
	}
	defer s.Close()
	if n, _ := s.Counts(); n != 1 || s.listeners[0].Addr.String() != l.Addrs[0] {
		t.Errorf("%+v, want the socket at %s once", s.listeners, l.Addrs[0])
	}
}
