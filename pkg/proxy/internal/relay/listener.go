package relay

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Listener returns a listener on a socket that stays the caller's: it has a descriptor of its own.
func Listener(fd int) (*net.TCPListener, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor: %w", err)
	}
	f := os.NewFile(uintptr(own), "listener")
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}
