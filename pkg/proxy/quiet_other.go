//go:build !linux

package proxy

import (
	"os"

	"golang.org/x/sys/unix"
)

// quietFile is a duplicate of a listening socket.
func quietFile(fd int, name string) (*os.File, error) {
	is, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(is), name), nil
}
