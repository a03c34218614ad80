package packet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
)

// Bounds of one packet.
const (
	MaxBytes = 128 << 10
	MaxFiles = 64
)

// ErrGone says that the other process has ended or closed its side.
var ErrGone = errors.New("the other process is gone")

// Pair makes two connected sockets of a kind: the first for this process, the second to be inherited.
func Pair(kind int) (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "pair")
	ours, err = Conn(os.NewFile(uintptr(fds[0]), "pair"))
	if err != nil {
		_ = theirs.Close() // the first error counts
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Conn makes f, which it closes, a connection.
func Conn(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	_ = f.Close() // c is a duplicate
	if err != nil {
		return nil, fmt.Errorf("use socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close() // the error counts
		return nil, fmt.Errorf("use socket: it is a %T", c)
	}
	return u, nil
}

// Send writes v with duplicates of the files. ErrGone when nobody is there.
func Send(c *net.UnixConn, v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > MaxBytes || len(files) > MaxFiles {
		return fmt.Errorf("send packet: %d bytes and %d files are too much", len(b), len(files))
	}
	var rights []byte
	if len(files) > 0 {
		fds, err := numbers(files)
		if err != nil {
			return err
		}
		rights = syscall.UnixRights(fds...)
	}
	defer runtime.KeepAlive(files)
	if _, _, err := c.WriteMsgUnix(b, rights, nil); err != nil {
		return fmt.Errorf("send packet: %w", Gone(err))
	}
	return nil
}

// numbers are the descriptors of files. File.Fd would make a socket block that others use, too.
func numbers(files []*os.File) ([]int, error) {
	fds := make([]int, len(files))
	for i, f := range files {
		raw, err := f.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds[i] = int(fd) })
		}
		if err != nil {
			return nil, fmt.Errorf("find descriptor of %q: %w", f.Name(), err)
		}
	}
	return fds, nil
}

// Gone is ErrGone for the errors by which a closed socket tells, and err otherwise.
func Gone(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return ErrGone
	}
	return err
}

// Receive reads one packet into v and returns the files that came with it. ErrGone when nobody is there.
func Receive(c *net.UnixConn, v any) ([]*os.File, error) {
	b, oob := make([]byte, MaxBytes), make([]byte, syscall.CmsgSpace(MaxFiles*4))
	n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, Gone(err)
	}
	if n == 0 {
		return nil, ErrGone
	}
	files, err := filesOf(oob[:oobn])
	if err == nil && flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 {
		err = errors.New("it is too long")
	}
	if err == nil {
		err = json.Unmarshal(b[:n], v)
	}
	if err != nil {
		CloseAll(files)
		return nil, fmt.Errorf("read packet: %w", err)
	}
	return files, nil
}

// filesOf are the descriptors in a control message.
func filesOf(oob []byte) ([]*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			continue // something else than descriptors
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// CloseAll closes files that nobody wants.
func CloseAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // what it stands for is somebody else's
	}
}
