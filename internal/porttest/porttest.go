package porttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// Below what the kernel chooses from (32768 and up), and below the ports of links (20000 and up).
const (
	first = 10000
	last  = 19999
)

// Free returns n different ports on which nobody listens, at any address of this host, and which no
// other caller gets before tb ends.
func Free(tb testing.TB, n int) []int {
	tb.Helper()
	ports := make([]int, 0, n)
	for _, i := range rand.Perm(last - first + 1) {
		if len(ports) == n {
			break
		}
		if reserve(tb, first+i) {
			ports = append(ports, first+i)
		}
	}
	if len(ports) < n {
		tb.Fatalf("%d free ports between %d and %d, want %d", len(ports), first, last, n)
	}
	return ports
}

// Addr is one such port with the address of the loopback interface.
func Addr(tb testing.TB) string {
	tb.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Free(tb, 1)[0]))
}

// reserve makes port that of tb. It returns false if somebody else has it.
func reserve(tb testing.TB, port int) bool {
	tb.Helper()
	mark, err := new(net.ListenConfig).Listen(tb.Context(), "unix", fmt.Sprintf("@gantryd-porttest-%d", port))
	if err != nil {
		return false
	}
	if !unused(tb, port) {
		_ = mark.Close()
		return false
	}
	tb.Cleanup(func() { _ = mark.Close() })
	return true
}

// unused tells whether a socket can listen at port.
func unused(tb testing.TB, port int) bool {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	Close(l)
	return true
}

// Close closes l so that its address is free, and refuses clients, at once. Without it that lasts until the last
// child that is just being started has closed its copy of the descriptor, which it does a little later than
// syscall.ForkLock is held: the kernel lets the parent go on before.
func Close(l net.Listener) {
	if c, ok := l.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
		}
	}
	_ = l.Close()
}

// A Refused is a port that refuses connections, and cannot become anybody else's.
type Refused struct {
	Addr string // host:port

	tb     testing.TB
	socket *os.File
}

// Refusing returns a port of the loopback interface that refuses connections until tb ends, or until
// Listen is called.
func Refusing(tb testing.TB) *Refused {
	tb.Helper()
	fd, err := socket()
	if err != nil {
		tb.Fatal(os.NewSyscallError("socket", err))
	}
	r := &Refused{tb: tb, socket: os.NewFile(uintptr(fd), "refused port")}
	tb.Cleanup(func() { _ = r.socket.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(os.NewSyscallError("bind", err))
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatal(os.NewSyscallError("getsockname", err))
	}
	in4, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		tb.Fatalf("bound to %T, want an IPv4 address", name)
	}
	r.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(in4.Port))
	return r
}

// socket makes a TCP socket that no child inherits.
func socket() (fd int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err == nil {
		syscall.CloseOnExec(fd)
	}
	return fd, err
}

// Listen makes the port accept connections. It may be called once; the listener is closed when the
// test ends.
func (r *Refused) Listen() net.Listener {
	r.tb.Helper()
	if err := syscall.Listen(int(r.socket.Fd()), syscall.SOMAXCONN); err != nil {
		r.tb.Fatal(os.NewSyscallError("listen", err))
	}
	l, err := net.FileListener(r.socket)
	if err != nil {
		r.tb.Fatal(err)
	}
	_ = r.socket.Close() // the listener has a duplicate, and is to be the only one
	r.tb.Cleanup(func() { _ = l.Close() })
	return l
}
