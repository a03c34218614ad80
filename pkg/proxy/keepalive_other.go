//go:build !linux

package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setKeepAlive is a net.ListenConfig.Control. How often to probe is the system's choice here.
func setKeepAlive(_, _ string, c syscall.RawConn) error {
	var err error
	ctrl := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	})
	if ctrl != nil {
		return ctrl
	}
	return err
}
