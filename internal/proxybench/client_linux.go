package proxybench

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// request is what is asked on a connection for requests.
const request = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"

// maxErrors ends a job early: what does not work is not measured.
const maxErrors = 1000

// A client is one loop of the generator and its connections.
type client struct {
	*poller
	job   Job
	addr  *unix.SockaddrInet4
	conns []conn
	buf   []byte
	hello []byte // what a connection says first
	ask   []byte // a request
	bulk  []byte
	stage *atomic.Int32 // of all loops: what is counted now

	ops, bytes, errors atomic.Int64
	first              error   // the first of the errors
	times              []int64 // ns that operations took while they counted

	// Of TestRate.
	timer int
	due   []int64 // when requests that wait for a connection were due
	idle  []int32 // connections that wait for a request
	next  int64   // when the next request is due
}

// Stages of a job.
const (
	warming int32 = iota
	counting
	over
)

// A conn is one connection of a client, open or opened again and again.
type conn struct {
	fd    int
	began int64 // when what it does now began
	got   int   // bytes of the answer it has
	want  int   // bytes of the answer; 0 while its head is not read
}

// timerTag is the tag of a client's timer.
const timerTag = -1

func newClient(j Job, conns int, stage *atomic.Int32) (*client, error) {
	addr, err := sockaddr(j.Addr)
	if err != nil {
		return nil, err
	}
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &client{
		poller: p, job: j, addr: addr, conns: make([]conn, conns), stage: stage, hello: hello(j.Test), ask: []byte(request),
		buf: make([]byte, bulkBuffer), bulk: slices.Repeat([]byte{forUpload}, bulkBuffer), times: make([]int64, 0, 1<<20),
	}, nil
}

// run opens the connections and goes on until the job is over.
func (c *client) run() error {
	defer c.end()
	for i := range c.conns {
		c.conns[i].fd = -1
		if err := c.open(int32(i)); err != nil {
			return err
		}
	}
	if err := c.startTimer(); err != nil {
		return err
	}
	for c.stage.Load() != over && c.errors.Load() < maxErrors {
		events, err := c.wait()
		if err != nil {
			return err
		}
		for i := range events {
			if events[i].Fd == timerTag {
				c.tick()
				continue
			}
			if err := c.handle(events[i].Fd, events[i].Events); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *client) end() {
	for i := range c.conns {
		if c.conns[i].fd >= 0 {
			closeFD(c.conns[i].fd)
		}
	}
	if c.timer > 0 {
		closeFD(c.timer)
	}
	c.close()
}

// open makes connection i anew. What it has to say first is said when the socket can be written to, as
// it nearly always can at once.
func (c *client) open(i int32) error {
	now := clock()
	fd, err := connect(c.addr)
	if err != nil {
		return err
	}
	c.conns[i] = conn{fd: fd, began: now}
	n := write(fd, c.hello)
	switch {
	case n == len(c.hello):
		return c.add(fd, c.after(), i)
	case n == again:
		return c.add(fd, unix.EPOLLOUT, i)
	}
	return c.lost(i, fmt.Errorf("send first byte: %w", syscall.Errno(-n)))
}

// hello is what a connection says first.
func hello(test string) []byte {
	switch test {
	case TestConns:
		return []byte{forEcho}
	case TestDownload:
		return []byte{forDownload}
	case TestUpload:
		return []byte{forUpload}
	}
	return []byte(request)
}

// after is what a connection waits for once it has said hello.
func (c *client) after() uint32 {
	if c.job.Test == TestUpload {
		return unix.EPOLLIN | unix.EPOLLOUT
	}
	return unix.EPOLLIN
}

// lost counts an error, and opens the connection again.
func (c *client) lost(i int32, err error) error {
	if c.errors.Add(1) == 1 {
		c.first = err
	}
	if fd := c.conns[i].fd; fd >= 0 {
		closeFD(fd)
		c.conns[i].fd = -1
	}
	if c.errors.Load() >= maxErrors {
		return nil
	}
	return c.open(i)
}

// handle does what an event asks for.
func (c *client) handle(i int32, events uint32) error {
	k := &c.conns[i]
	if events&unix.EPOLLIN == 0 && events&unix.EPOLLOUT != 0 {
		return c.writable(i, k)
	}
	n := read(k.fd, c.buf)
	switch {
	case n == again:
		return nil
	case n == 0:
		return c.lost(i, errors.New("closed by the other side"))
	case n < 0:
		return c.lost(i, syscall.Errno(-n))
	}
	switch c.job.Test {
	case TestConns:
		c.done(k)
		closeFD(k.fd)
		return c.open(i)
	case TestDownload:
		c.bytes.Add(int64(n))
		return nil
	case TestRequests, TestRate, TestIdle:
		return c.answered(i, k, n)
	}
	return c.lost(i, errors.New("an answer to an upload"))
}

// writable goes on with hello, or with an upload.
func (c *client) writable(i int32, k *conn) error {
	if c.job.Test == TestUpload {
		for range 4 {
			n := write(k.fd, c.bulk)
			if n < 0 {
				if n == again {
					return nil
				}
				return c.lost(i, syscall.Errno(-n))
			}
			c.bytes.Add(int64(n))
		}
		return nil
	}
	if n := write(k.fd, c.hello); n != len(c.hello) {
		return c.lost(i, fmt.Errorf("connect: %w", syscall.Errno(max(-n, 0))))
	}
	return c.change(k.fd, c.after(), i)
}

// answered handles n bytes of an answer, in buf.
func (c *client) answered(i int32, k *conn, n int) error {
	if k.got == 0 {
		end := bytes.Index(c.buf[:n], []byte(headEnd))
		if end < 0 || !bytes.HasPrefix(c.buf, []byte("HTTP/1.1 200")) {
			return c.lost(i, fmt.Errorf("answer %.40q", c.buf[:n]))
		}
		k.want = end + len(headEnd) + bodyLen
	}
	k.got += n
	if k.got < k.want {
		return nil
	}
	if k.got > k.want || c.buf[n-1] != '\n' {
		return c.lost(i, fmt.Errorf("%d bytes of an answer of %d", k.got, k.want))
	}
	c.done(k)
	k.got = 0
	switch {
	case c.job.Test == TestIdle:
		return nil
	case c.job.Test == TestRate && len(c.due) == 0:
		c.idle = append(c.idle, i)
		return nil
	case c.job.Test == TestRate:
		due := c.due[0]
		c.due = c.due[1:]
		return c.request(i, due)
	}
	return c.request(i, clock())
}

// request sends a request that was due then.
func (c *client) request(i int32, due int64) error {
	c.conns[i].began = due
	if n := write(c.conns[i].fd, c.ask); n != len(c.ask) {
		return c.lost(i, fmt.Errorf("send request: %w", syscall.Errno(max(-n, 0))))
	}
	return nil
}

// done counts what k did.
func (c *client) done(k *conn) {
	c.ops.Add(1)
	if c.stage.Load() == counting && len(c.times) < cap(c.times) {
		c.times = append(c.times, clock()-k.began)
	}
}

// startTimer begins the requests of TestRate.
func (c *client) startTimer() error {
	if c.job.Test != TestRate {
		return nil
	}
	fd, err := ticker(c.period())
	if err != nil {
		return err
	}
	c.timer, c.next = fd, clock()
	return c.add(fd, unix.EPOLLIN, timerTag)
}

func (c *client) period() time.Duration {
	return time.Duration(math.Round(float64(time.Second) / float64(c.job.Rate)))
}

// tick sends the requests that are due.
func (c *client) tick() {
	var b [8]byte
	if read(c.timer, b[:]) != len(b) {
		return
	}
	for now := clock(); c.next <= now; c.next += int64(c.period()) {
		if len(c.idle) == 0 {
			c.due = append(c.due, c.next)
			continue
		}
		i := c.idle[0]
		c.idle = append(c.idle[:0], c.idle[1:]...)
		if c.request(i, c.next) != nil {
			return // the loop ends
		}
	}
}
