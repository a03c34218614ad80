package loop

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are made directly because those of package unix allocate, or return too little. And
// they are raw: the longest takes some milliseconds, so Go's scheduler need not hear of them. A thread that the
// kernel pauses in a call that the scheduler knows of loses its processor to another one, which costs a
// tenth of the processor time of a request, and more than that where the machine is busy.

// accept takes a connection off a listening socket.
func accept(fd int) (int, netip.AddrPort, error) {
	var sa unix.RawSockaddrInet6 // large enough for IPv4, too
	size := uint32(unsafe.Sizeof(sa))
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	if sa.Family == unix.AF_INET {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
		return int(n), netip.AddrPortFrom(netip.AddrFrom4(in.Addr), swap(in.Port)), nil
	}
	return int(n), netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), swap(sa.Port)), nil
}

// localAddr is the address a connection has on this machine.
func localAddr(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// swap turns a port from the byte order of the network, or to it.
func swap(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// connect starts to connect a new socket to addr. It returns EINPROGRESS with the socket, mostly.
func connect(addr netip.AddrPort) (fd int, err error) {
	family := unix.AF_INET6
	if addr.Addr().Is4() {
		family = unix.AF_INET
	}
	n, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("socket", errno)
	}
	fd = int(n)
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if addr.Addr().Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swap(addr.Port()), Addr: addr.Addr().As4()}
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	} else {
		sa := unix.RawSockaddrInet6{
			Family: unix.AF_INET6, Port: swap(addr.Port()), Addr: addr.Addr().As16(), Scope_id: scope(addr.Addr().Zone()),
		}
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	}
	if errno != 0 && errno != unix.EINPROGRESS && errno != unix.EINTR {
		closeFD(fd)
		return -1, os.NewSyscallError("connect", errno)
	}
	return fd, nil
}

// scope is the number of an IPv6 zone.
func scope(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}

// setOption sets an option of a socket that is a number.
func setOption(fd, level, name int, value int32) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	if errno != 0 {
		return os.NewSyscallError("setsockopt", errno)
	}
	return nil
}

// shut tells the peer that no more comes.
func shut(fd int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	if errno != 0 {
		return os.NewSyscallError("shutdown", errno)
	}
	return nil
}

// closeFD closes a connection.
func closeFD(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// receive reads into b; 0 is the end.
func receive(fd int, b []byte, flags int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b)), uintptr(flags), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// send writes some of b.
func send(fd int, b []byte, flags int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b)), uintptr(flags|unix.MSG_NOSIGNAL), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// shortEpollWait waits for events, for a time that Go's scheduler need not hear of, or until a signal comes.
func shortEpollWait(epoll int, events []unix.EpollEvent, ms int) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(ms), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// splice moves up to n bytes from one descriptor to another, one of which is a pipe.
func splice(from, to, n int) (int, error) {
	for {
		m, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
			unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch errno {
		case 0:
			return int(m), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// socketError is what went wrong with a connection, which forgets it.
func socketError(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return err
	case code == 0:
		return unix.ECONNABORTED
	}
	return os.NewSyscallError("connect", syscall.Errno(code))
}

// reset closes a connection so that the peer sees a reset.
func reset(fd int) {
	on := unix.Linger{Onoff: 1}
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
	closeFD(fd)
}

// wouldBlock reports whether err says to try again later.
func wouldBlock(err error) bool { return errors.Is(err, unix.EAGAIN) }

// tcpConn makes fd, which it takes, a connection of package net; nil when that does not work.
func tcpConn(fd int) *net.TCPConn {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
	}
	return t
}

// hardly reports whether an accept that failed was about one connection only.
func hardly(err error) bool {
	return errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EPROTO)
}
