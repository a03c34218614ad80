package porttest

import (
	"net"
	"os/exec"
	"sync"
	"testing"
)

// forking starts processes until it is told to end.
func forking(t *testing.T) (end func()) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = exec.CommandContext(t.Context(), "true").Run()
				}
			}
		})
	}
	return func() {
		close(done)
		wg.Wait()
	}
}

// TestFreePortsAreFreeWhileProcessesStart listens at ports just found, as a test does whose program
// starts processes meanwhile: none of them may be left with the descriptor that found the port.
func TestFreePortsAreFreeWhileProcessesStart(t *testing.T) {
	t.Parallel()
	defer forking(t)()
	for range 500 {
		l, err := net.Listen("tcp", Addr(t))
		if err != nil {
			t.Error(err)
			break
		}
		l.Close()
	}
}

// TestClosedPortIsFreeWhileProcessesStart listens at one port again and again.
func TestClosedPortIsFreeWhileProcessesStart(t *testing.T) {
	t.Parallel()
	defer forking(t)()
	addr := Addr(t)
	for range 500 {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			break
		}
		Close(l)
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Error("connected to a listener that was closed")
			break
		}
	}
}
