package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A Keeper is told which listening sockets there are, so that somebody outside the process can keep
// them when it is killed. It must not call the Proxy, and not block for long.
type Keeper interface {
	// Opened says that addr is listened on by f, a duplicate which the keeper must close.
	Opened(addr netip.AddrPort, f *os.File)
	// Closed says that it is not any more. Whoever connects from now on is refused if the keeper says so, whatever
	// duplicates there are; otherwise they are good for the next process.
	Closed(addr netip.AddrPort) (refuse bool)
}

// opened tells the keeper, if there is one, of a listening socket.
func (p *Proxy) opened(is int, addr netip.AddrPort) {
	if p.keeper == nil {
		return
	}
	f, err := quietFile(is, addr.String())
	if err != nil {
		p.log.Warn("socket is not kept outside the process", "addr", addr.String(), "err", err)
		return
	}
	p.keeper.Opened(addr, f)
}

// shutDown closes a listening socket for good: also duplicates, which a keeper or a child that is just being
// started may have, take no client any more. The address is free at once.
func (p *Proxy) shutDown(fd int, addr netip.AddrPort) {
	if p.keeper == nil || p.keeper.Closed(addr) {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // where that does nothing, the last duplicate closes it
	}
	_ = unix.Close(fd)
}

// errDeaf says of a socket that its listener was closed: somebody kept it who was not told.
var errDeaf = errors.New("it does not listen")

// NewState returns a State of listening sockets that a Keeper kept. It takes the files, and keeps what is a
// socket that listens, once for each address; the error is about what should be one and is not.
func NewState(files []*os.File) (*State, error) {
	s := &State{}
	var bad error
	for _, f := range files {
		l, err := listener(f)
		if errors.Is(err, errDeaf) {
			_ = f.Close()
			continue
		}
		_ = f.Close() // l has a duplicate
		if err != nil {
			bad = fmt.Errorf("adopt socket %q: %w", f.Name(), err)
			continue
		}
		fd, err := ownDescriptor(l)
		addr := addrPort(l.Addr())
		_ = l.Close() // fd is a duplicate
		if err != nil {
			bad = fmt.Errorf("adopt socket %s: %w", addr, err)
			continue
		}
		if slices.ContainsFunc(s.listeners, func(l heirloom) bool { return l.Addr == addr }) {
			_ = unix.Close(fd) // a duplicate
			continue
		}
		s.listeners = append(s.listeners, heirloom{Addr: addr, fd: fd})
	}
	return s, bad
}

func listener(f *os.File) (*net.TCPListener, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close() // the error counts
		return nil, fmt.Errorf("it is of network %s", l.Addr().Network())
	}
	if !listens(tcp) {
		_ = tcp.Close() // the error counts
		return nil, errDeaf
	}
	return tcp, nil
}

// listens reports whether clients can connect to l.
func listens(l *net.TCPListener) bool {
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	yes := 0
	err = raw.Control(func(fd uintptr) { yes, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN) })
	return err == nil && yes != 0
}
