package porttest

import (
	"net"
	"os/exec"
	"sync"
	"testing"
)

// TestFreePortsAreFreeWhileProcessesStart listens at ports just found, as a test does whose program
// starts processes meanwhile: none of them may be left with the descriptor that found the port.
func TestFreePortsAreFreeWhileProcessesStart(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
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
	for range 500 {
		l, err := net.Listen("tcp", Addr(t))
		if err != nil {
			t.Error(err)
			break
		}
		l.Close()
	}
	close(done)
	wg.Wait()
}
