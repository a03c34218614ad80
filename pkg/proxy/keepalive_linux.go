package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setKeepAlive is a net.ListenConfig.Control. Accepted connections inherit keep-alive from the socket,
// which saves four calls for each.
func setKeepAlive(_, _ string, c syscall.RawConn) error {
	var err error
	set := func(fd uintptr, level, option, value int) {
		if err == nil {
			err = unix.SetsockoptInt(int(fd), level, option, value)
		}
	}
	ctrl := c.Control(func(fd uintptr) {
		set(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAliveIdle.Seconds()))
		set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAliveInterval.Seconds()))
		set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount)
		set(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	})
	if ctrl != nil {
		return ctrl
	}
	return err
}
