//go:build !linux

package carry

import "golang.org/x/sys/unix"

// PresenceOf looks at a client that nothing was read from yet. It cannot tell whether one that said
// something has also ended.
func PresenceOf(fd int) Presence {
	var one [1]byte
	n, _, err := unix.Recvfrom(fd, one[:], unix.MSG_PEEK)
	if n > 0 || err == unix.EAGAIN || err == unix.EINTR {
		return There
	}
	return Gone
}

// Broken reports whether the connection was reset.
func Broken(fd int) bool {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return err != nil || code != 0
}
