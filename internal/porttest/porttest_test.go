package porttest

import (
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

func TestFreePortsAreGivenOnce(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, port := range Free(t, 50) {
				mu.Lock()
				if seen[port] {
					t.Errorf("port %d twice", port)
				}
				seen[port] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestFreePortsAreFree(t *testing.T) {
	taken, err := net.Listen("tcp", ":"+strconv.Itoa(Free(t, 1)[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	if reserve(t, port) {
		t.Errorf("port %d is free, though somebody listens", port)
	}
}

func TestPortsComeBackWithTheEndOfTheTest(t *testing.T) {
	var port int
	t.Run("holder", func(t *testing.T) { port = Free(t, 1)[0] })
	if !reserve(t, port) {
		t.Errorf("port %d is still reserved", port)
	}
}

func TestRefusing(t *testing.T) {
	r := Refusing(t)
	if c, err := net.Dial("tcp", r.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial = %v, %v, want refused", c, err)
	}
	if l, err := net.Listen("tcp", r.Addr); err == nil {
		l.Close()
		t.Error("somebody else could listen")
	}
	l := r.Listen()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if l.Addr().String() != r.Addr {
		t.Errorf("listens at %s, want %s", l.Addr(), r.Addr)
	}
	l.Close()
	if c, err := net.Dial("tcp", r.Addr); err == nil {
		c.Close()
		t.Error("connected after the listener's end")
	}
}
