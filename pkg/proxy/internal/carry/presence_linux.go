package carry

import "golang.org/x/sys/unix"

// The kernel's names for a connection that is over, and one whose peer ended its half, as in TCP_INFO.
const (
	tcpClose     = 7
	tcpCloseWait = 8
)

// PresenceOf asks the kernel about a client that nothing was read from yet.
func PresenceOf(fd int) Presence {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State == tcpClose {
		return Gone
	}
	if info.State != tcpCloseWait {
		return There
	}
	if n, err := unix.IoctlGetInt(fd, unix.SIOCINQ); err != nil || n == 0 {
		return Gone
	}
	return SaidAll
}

// Broken reports whether the connection was reset, also if what came before was not read yet.
func Broken(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpClose
}
