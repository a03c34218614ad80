package proxy

import (
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/porttest"
)

func TestApplyRefusesWhatMakesNoSense(t *testing.T) {
	good := tcp("A", "127.0.0.1:1")
	tests := []struct {
		name string
		mod  func(l *Listener)
		want string
	}{
		{"no name", func(l *Listener) { l.Name = "" }, `open listener "": it has no name`},
		{"kind", func(l *Listener) { l.Kind = "TCP" }, `kind "TCP" is neither "tcp" nor "http"`},
		{"address", func(l *Listener) { l.Addrs = []string{"localhost:1"} }, "parse address"},
		{"target", func(l *Listener) { l.Target = "web" }, "parse target"},
		{"target without a port", func(l *Listener) { l.Target = "10.0.0.1:0" }, `target "10.0.0.1:0" has no port`},
		{"address not here", func(l *Listener) { l.Addrs = []string{"192.0.2.1:0"} }, `open listener "a:1" on 192.0.2.1:0: bind: cannot assign`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			bad, other := good, good
			other.Name = "other"
			tt.mod(&bad)
			err := p.Apply("test", []Listener{bad, other})
			var all *ApplyError
			if !errors.As(err, &all) || len(all.Failed) != 1 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Apply = %v, want one failure with %q", err, tt.want)
			}
			if got := len(p.Addr("other")); got != 1 {
				t.Errorf("the correct listener has %d addresses", got)
			}
		})
	}
}

func TestApplyKeepsWhatItCannotChange(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("A", named(t, "a"))
	apply(t, p, l)
	addr := addrOf(t, p)
	bad := l
	bad.Target, bad.TargetID = "nonsense", "B"
	if err := p.Apply("test", []Listener{bad}); err == nil {
		t.Fatal("nonsense was applied")
	}
	wantAnswer(t, connect(t, addr), "x", "a x")
	l.TargetID, l.Target = "C", named(t, "c")
	apply(t, p, l)
	wantAnswer(t, connect(t, addr), "x", "c x")
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", porttest.Addr(t))
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t)
	ls := []Listener{tcp("A", named(t, "a")), tcp("A", named(t, "a"))}
	ls[0].Addrs = []string{ln.Addr().String()}
	ls[1].Name = "other"
	err = p.Apply("test", ls)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Apply = %v, want address in use", err)
	}
	wantAnswer(t, connect(t, p.Addr("other")[0]), "x", "a x")
	porttest.Close(ln)
	if err := p.Apply("test", ls); err != nil { // the same again tries again
		t.Error("the address is free now:", err)
	}
	wantAnswer(t, connect(t, addrOf(t, p)), "x", "a x")
}

func TestTwoOwnersOneAddress(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := alone(t, tcp("A", named(t, "a")))
	apply(t, p, l)
	mine := l
	mine.Name = "b:1"
	err := p.Apply("b", []Listener{mine})
	if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), `listener "a:1" of "test"`) {
		t.Errorf("Apply = %v, want who has the address", err)
	}
	_, port, _ := net.SplitHostPort(l.Addrs[0])
	mine.Addrs = []string{"0.0.0.0:" + port}
	if err := p.Apply("b", []Listener{mine}); !errors.Is(err, ErrTaken) {
		t.Errorf("Apply of the wildcard = %v, want who has the address", err)
	}
	if err := p.Apply("b", []Listener{l}); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), `"test"`) {
		t.Errorf("Apply of the same name = %v, want who has it", err)
	}
	wantAnswer(t, connect(t, l.Addrs[0]), "x", "a x")
	apply(t, p)
	mine.Addrs = l.Addrs
	if err := p.Apply("b", []Listener{mine}); err != nil {
		t.Errorf("Apply after the other let go: %v", err)
	}
}

func TestOneOwnerOneAddressTwice(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	first := tcp("A", named(t, "a"))
	apply(t, p, first)
	first.Addrs = []string{addrOf(t, p)}
	second := first
	second.Name = "second"
	if err := p.Apply("test", []Listener{first, second}); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "a:1") {
		t.Errorf("Apply = %v, want who has the address", err)
	}
	if err := p.Apply("test", []Listener{first, first}); !errors.Is(err, ErrTaken) {
		t.Errorf("Apply of one name twice = %v", err)
	}
	wantAnswer(t, connect(t, first.Addrs[0]), "x", "a x")
}

// TestSocketStays: nothing that an owner changes about a listener closes its address for a moment.
func TestSocketStays(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	_, site := site(t, "S", nil)
	apply(t, p, tcp("S", site))
	addr := addrOf(t, p)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		client := browser(t)
		for {
			select {
			case <-stop:
				return
			default:
			}
			res, err := client.Get("http://" + addr)
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			if res.StatusCode != 200 {
				t.Error(res.Status)
			}
			client.CloseIdleConnections()
		}
	})
	for i := range 60 {
		l := tcp("S", site)
		l.Addrs = []string{addr}
		l.HoldMax += i
		if i%2 == 0 {
			l.Name = "renamed"
		}
		if i%3 == 0 {
			l.Kind = HTTP
		}
		apply(t, p, l)
		<-time.After(2 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	wantOpen(t, p, "S", 0)
}

func TestBindAddressChanges(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := alone(t, tcp("A", named(t, "a")))
	apply(t, p, l)
	_, port, _ := net.SplitHostPort(addrOf(t, p))
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "127.0.0.1"} {
		l.Addrs = []string{host + ":" + port}
		apply(t, p, l)
		wantAnswer(t, connect(t, "127.0.0.1:"+port), "x", "a x")
	}
}

func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := tcp("A", named(t, "a"))
	l.Addrs = []string{"127.0.0.1:0", "127.0.0.2:0", "[::1]:0"}
	if err := p.Apply("test", []Listener{l}); err != nil {
		t.Skip("not all addresses are there:", err)
	}
	addrs := p.Addr("a:1")
	if len(addrs) != 3 {
		t.Fatalf("addresses %q", addrs)
	}
	for _, addr := range addrs {
		wantAnswer(t, connect(t, addr), "x", "a x")
	}
	l.Addrs = l.Addrs[:1]
	apply(t, p, l)
	if got := p.Addr("a:1"); len(got) != 1 || got[0] != addrs[0] {
		t.Errorf("address %q stays, want %q", got, addrs[0])
	}
}

func TestApplyOfTheSameCostsNothing(t *testing.T) {
	p := newProxy(t)
	ls := []Listener{tcp("A", "127.0.0.1:1")}
	apply(t, p, ls...)
	if n := testing.AllocsPerRun(100, func() { _ = p.Apply("test", ls) }); n > 0 {
		t.Errorf("Apply of the same allocates %v times", n)
	}
	ls[0].Addrs[0] = "127.0.0.2:0" // the caller's slice is the caller's
	apply(t, p, ls...)
	if got := addrOf(t, p); !strings.HasPrefix(got, "127.0.0.2") {
		t.Errorf("address %s after the change", got)
	}
}

func TestRemovedListener(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, alone(t, tcp("A", named(t, "a"))))
	addr := addrOf(t, p)
	c := connect(t, addr)
	wantAnswer(t, c, "x", "a x")
	apply(t, p)
	if got := outcomeAt(addr); !strings.Contains(got, "refused") {
		t.Errorf("a new client saw %q", got)
	}
	if got := p.Addr("a:1"); got != nil {
		t.Errorf("addresses %q", got)
	}
	p.Drain("A")
	wantAnswer(t, c, "y", "a y") // what is open goes on
	wantOpen(t, p, "A", 1)
}
