package proxybench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The first byte of a connection says what it is for.
const (
	forRequests = 'G' // of "GET": HTTP/1.1, whatever the path, answered by answer
	forEcho     = 'E' // everything comes back
	forDownload = 'D' // bytes come until the client closes
	forUpload   = 'U' // bytes are taken until the client closes
)

// maxDescriptors is more than a process may have here.
const maxDescriptors = 1 << 20

// bodyLen is the length of the body of every answer.
const bodyLen = 64

// headEnd ends the head of a request or an answer.
const headEnd = "\r\n\r\n"

// answer is what every request gets.
func answer() []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d%s%s\n", bodyLen, headEnd, strings.Repeat("x", bodyLen-1))
}

// Counts are what a server has seen.
type Counts struct {
	Conns, Requests, Echoed, Taken int64 // connections, requests, bytes sent back, bytes uploaded
}

// A server is what the proxies have behind them. Requests and echoes are answered by one loop, which
// handles more of them at once than two would; bulk is spread over all loops.
type server struct {
	listener int
	loops    []*serverLoop
	answer   []byte
	bulk     []byte
	visitors []visitor // by descriptor; of the loop that watches it
	next     int       // loop of the next bulk connection; of the first loop

	conns, requests, echoed, taken atomic.Int64
}

type serverLoop struct {
	*server
	*poller
	buf []byte
}

// A visitor is one connection: what it is for, and how many bytes of headEnd its last read ended with.
// Both are atomic because a bulk connection goes from one loop to another.
type visitor struct {
	kind, tail atomic.Int32
}

// listen opens the server's address.
func listen(addr string, loops int) (*server, error) {
	sa, err := sockaddr(addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &server{listener: fd, answer: answer(), bulk: make([]byte, bulkBuffer), visitors: make([]visitor, maxDescriptors)}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, sa); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 65535); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	for range loops {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		s.loops = append(s.loops, &serverLoop{server: s, poller: p, buf: make([]byte, bulkBuffer)})
	}
	return s, s.loops[0].add(fd, unix.EPOLLIN, int32(fd))
}

// run serves until ctx ends.
func (s *server) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, l := range s.loops {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the loop
			l.run(ctx)
		})
	}
	wg.Wait()
	closeFD(s.listener)
}

func (s *server) counts() Counts {
	return Counts{s.conns.Load(), s.requests.Load(), s.echoed.Load(), s.taken.Load()}
}

func (l *serverLoop) run(ctx context.Context) {
	defer l.close()
	for ctx.Err() == nil {
		events, err := l.wait()
		if err != nil {
			return
		}
		for i := range events {
			if int(events[i].Fd) == l.listener {
				l.accept()
				continue
			}
			l.serve(events[i].Fd, events[i].Events)
		}
	}
}

func (l *serverLoop) accept() {
	for range eventsAtOnce {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // nobody is left, or has gone; the next event tells
		}
		l.conns.Add(1)
		if fd >= len(l.visitors) || l.add(fd, unix.EPOLLIN, int32(fd)) != nil {
			closeFD(fd)
			continue
		}
		l.visitors[fd].kind.Store(0)
		l.visitors[fd].tail.Store(0)
		l.serve(int32(fd), unix.EPOLLIN) // its first bytes may be there
	}
}

// serve does what an event asks for.
func (l *serverLoop) serve(fd int32, events uint32) {
	p := &l.visitors[fd]
	if p.kind.Load() == forDownload && events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
		for range 4 {
			if n := write(int(fd), l.bulk); n < len(l.bulk) {
				return
			}
		}
		return
	}
	n := read(int(fd), l.buf)
	switch {
	case n == again:
	case n <= 0, !l.take(fd, p, l.buf[:n]):
		closeFD(int(fd))
	}
}

// take handles what a client said, and reports whether the connection goes on.
func (l *serverLoop) take(fd int32, p *visitor, b []byte) bool {
	kind := p.kind.Load()
	if kind == 0 {
		kind = int32(b[0])
		p.kind.Store(kind)
		if kind == forDownload || kind == forUpload {
			return l.move(fd, kind)
		}
	}
	switch kind {
	case forEcho:
		l.echoed.Add(int64(len(b)))
		return write(int(fd), b) == len(b)
	case forRequests:
		n := p.heads(b)
		l.requests.Add(int64(n))
		for range n {
			if write(int(fd), l.answer) != len(l.answer) {
				return false
			}
		}
		return true
	case forUpload:
		l.taken.Add(int64(len(b)))
		return true
	}
	return false
}

// move gives a bulk connection to the next of the loops.
func (l *serverLoop) move(fd, kind int32) bool {
	to := l.loops[l.next%len(l.loops)]
	l.next++
	events := uint32(unix.EPOLLIN)
	if kind == forDownload {
		events |= unix.EPOLLOUT
	}
	if to == l {
		return l.change(int(fd), events, fd) == nil
	}
	_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, int(fd), nil) // it was added
	return to.add(int(fd), events, fd) == nil
}

// heads counts the ends of heads in what follows on what was seen before.
func (p *visitor) heads(b []byte) int {
	tail := int(p.tail.Load())
	if tail == 0 && bytes.HasSuffix(b, []byte(headEnd)) {
		return bytes.Count(b, []byte(headEnd)) // as nearly always
	}
	n := 0
	for _, c := range b {
		switch c {
		case headEnd[tail]:
			tail++
		case headEnd[0]:
			tail = 1
		default:
			tail = 0
		}
		if tail == len(headEnd) {
			n++
			tail = 0
		}
	}
	p.tail.Store(int32(tail))
	return n
}
