package proxy

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
)

// A conversation is one client connection that speaks HTTP/1: requests and their answers in turn.
// It has one goroutine, and no buffer while it waits for a request.
type conversation struct {
	conn net.Conn
	tcp  *net.TCPConn // conn, or what carries its TLS
	fd   syscall.RawConn
	in   stream
	exchange

	idle    atomic.Int32
	first   bool      // no request was there yet
	young   bool      // none was answered yet; counted by the proxy
	closing bool      // no other request is taken
	chunked bool      // the answer's content goes out in chunks
	framed  bool      // the answer says where it ends
	minor   int       // of the version of HTTP that the client speaks
	until   time.Time // the write deadline that is set
	body    h1.Body   // of the request
	left    carry.Presence
	look    func(fd uintptr)
}

// What a conversation does, as stop must know.
const (
	isBusy int32 = iota
	isIdle
	isStopped
)

func newConversation(w *web, conn net.Conn, tcp *net.TCPConn, from *caller) *conversation {
	c := &conversation{conn: conn, tcp: tcp, first: true, young: true}
	c.init(w, c, from)
	c.look = func(fd uintptr) { c.left = carry.PresenceOf(int(fd)) }
	return c
}

// run answers requests until one side has enough.
func (c *conversation) run() {
	defer c.end()
	var err error
	if c.fd, err = c.tcp.SyscallConn(); err != nil {
		return
	}
	if c.in.open(c.conn, c.web.proxy.buffers) != nil {
		return
	}
	for !c.closing {
		if err := c.next(); err != nil {
			if errors.Is(err, errH2) {
				c.changeToH2()
				return
			}
			c.turnDown(err)
			break
		}
		c.handle()
		c.grow()
		c.putTools()
	}
	c.putTools()
}

// grow notes that a request was answered, or that none will be.
func (c *conversation) grow() {
	if c.young {
		c.young = false
		c.web.proxy.young.Add(-1)
	}
}

// end closes the connection, unless it is a tunnel by now.
func (c *conversation) end() {
	c.in.drop()
	c.grow()
	c.web.remove(c)
	if c.handed {
		return
	}
	_ = c.conn.Close()
	c.caller.leave()
}

// next waits for the head of the next request and reads it.
func (c *conversation) next() error {
	var (
		scan h1.Scanner
		by   time.Time // when the head must be there
	)
	if c.first {
		by = time.Now().Add(c.web.proxy.headers)
		c.in.expectBy(by)
	}
	for {
		got := c.in.bytes()
		n, err := scan.End(got)
		if err != nil {
			return err
		}
		if n > 0 {
			if c.first && c.tcp == c.conn && string(got[:n]) == h2Preface {
				return errH2
			}
			c.first = false
			c.getTools()
			if err := c.req.Parse(got[:n]); err != nil {
				return err
			}
			c.in.take(n)
			return nil
		}
		switch {
		case len(got) == 0:
			err = c.rest()
		case by.IsZero():
			by = time.Now().Add(c.web.proxy.headers)
			c.in.expectBy(by)
			fallthrough
		default:
			err = c.in.fill()
		}
		if err != nil {
			return err
		}
	}
}

// errStopped is why an idle connection is closed.
var errStopped = errors.New("listener is gone")

// rest waits for the first byte of a request. Who just connected is about to send one, and is served
// even if the listener goes.
func (c *conversation) rest() error {
	if c.first {
		return c.in.idle()
	}
	c.in.expect(clientIdle, time.Now())
	c.idle.Store(isIdle)
	if c.web.stopping.Load() {
		return errStopped
	}
	err := c.in.idle()
	if !c.idle.CompareAndSwap(isIdle, isBusy) {
		return errStopped
	}
	return err
}

// stopIfIdle closes the connection if it waits for a request. One that comes at this moment is lost, as
// with every server that closes an idle connection.
func (c *conversation) stopIfIdle() {
	if c.idle.CompareAndSwap(isIdle, isStopped) {
		_ = c.tcp.SetReadDeadline(past())
	}
}

// past is a deadline that is over.
func past() time.Time { return time.Unix(1, 0) }

// turnDown ends the conversation over what came instead of a request.
func (c *conversation) turnDown(err error) {
	c.closing = true
	var bad h1.Error
	switch {
	case errors.As(err, &bad):
	case errors.Is(err, errFullBuffer): // a head for which there is no room
		bad.Status = 431
	case isTimeout(err) && len(c.in.bytes()) > 0:
		bad.Status = 408
	default:
		return // it left, or was idle for too long
	}
	c.getTools()
	c.minor = 1
	c.reset()
	c.req = h1.Request{Fields: c.req.Fields[:0], Minor: 1} // what of it is good is not known
	c.noteRequest()
	c.say(bad.Status)
	c.report()
	c.linger()
}

// handle brings the request to its target and the answer back.
func (c *conversation) handle() {
	req := &c.req
	c.closing = req.Close
	c.minor, c.chunked = req.Minor, false
	c.body = h1.NewBody(req.Framing, req.Length, c.reqMore)
	c.reset()
	if req.Framing != h1.NoBody {
		c.source = c
	}
	c.serve()
	if c.over.Load() {
		c.in.until = time.Time{} // the deadline was moved, see stopReading
	}
	if !c.body.Done() {
		c.closing = true // where the next request begins is not known
	}
	if c.closing && !c.handed && (len(c.in.bytes()) > 0 || !c.body.Done()) {
		c.linger()
	}
}

// linger ends the answer and reads what the client still sends, for a while: to close at once
// would break the connection, and perhaps the answer that is on its way.
func (c *conversation) linger() {
	type closeWriter interface{ CloseWrite() error }
	if w, ok := c.conn.(closeWriter); !ok || w.CloseWrite() != nil {
		return
	}
	c.in.expectBy(time.Now().Add(500 * time.Millisecond))
	for n := 0; n < 256<<10; {
		n += len(c.in.bytes())
		c.in.take(len(c.in.bytes()))
		if c.in.fill() != nil {
			return
		}
	}
}

func (c *conversation) getTools() {
	if c.tools == nil {
		c.tools = c.web.tools.Get().(*tools)
	}
}

// keepTools bounds what is kept of memory that a large message needed.
const keepTools = 96 << 10

func (c *conversation) putTools() {
	if t := c.tools; t != nil {
		c.tools = nil
		if cap(t.head) <= keepTools && cap(t.out) <= keepTools {
			c.web.tools.Put(t)
		}
	}
}
