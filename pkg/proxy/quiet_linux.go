package proxy

import (
	"os"

	"golang.org/x/sys/unix"
)

// quietFile is a duplicate of a listening socket that Go's poller does not know. The poller would wake a thread for
// each client that comes, though nobody reads the file. So the file is made of something that nobody polls,
// and then becomes the socket.
func quietFile(fd int, name string) (*os.File, error) {
	is, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	f := os.NewFile(uintptr(is), name)
	if err := unix.Dup3(fd, is, unix.O_CLOEXEC); err != nil {
		_ = f.Close()
		return nil, os.NewSyscallError("dup3", err)
	}
	return f, nil
}
