package proxy

import (
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
)

// outMax is how much of an answer is gathered before it is sent, while more of it is there.
const outMax = 16 << 10

// content implements source.
func (c *conversation) content(wait bool) ([]byte, error) {
	for {
		if c.body.Done() {
			return nil, io.EOF
		}
		piece, used, err := c.body.Next(c.in.bytes())
		if err != nil {
			return nil, err
		}
		c.in.take(used)
		switch {
		case len(piece) > 0:
			return piece, nil
		case used > 0:
		case !wait:
			return nil, nil
		default:
			if err := c.readContent(); err != nil {
				return nil, err
			}
		}
	}
}

// readContent waits for more of the request's content: for long only when the answer was begun, so that
// both sides may talk when they like.
func (c *conversation) readContent() error {
	for {
		c.in.expect(c.web.proxy.stall, time.Now())
		if c.over.Load() || c.wasCut.Load() {
			return errCut
		}
		err := c.in.fill()
		switch {
		case err == io.EOF: //nolint:errorlint // fill returns it as it is
			return io.ErrUnexpectedEOF
		case !isTimeout(err):
			return err
		case c.over.Load() || c.wasCut.Load():
			return errCut
		case !c.begun.Load():
			return err
		}
		c.in.until = time.Time{}
	}
}

// trailers implements source.
func (c *conversation) trailers() []h1.Field { return c.body.Trailers() }

// gone implements patron. A client that closed its half is gone, unless it asked for more before.
func (c *conversation) gone() bool {
	c.left = carry.Gone
	_ = c.fd.Control(c.look)
	switch c.left {
	case carry.There:
		return false
	case carry.SaidAll:
		return c.tcp != c.conn // what is left is the end of TLS
	default:
		return c.upload.done != nil || c.reading || len(c.in.bytes()) == 0
	}
}

// protocol implements patron.
func (c *conversation) protocol() string {
	if c.minor == 0 {
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// scheme implements patron.
func (c *conversation) scheme() string {
	if c.tcp == c.conn {
		return "http"
	}
	return "https"
}

// local implements patron.
func (c *conversation) local() netip.AddrPort { return c.caller.local }

// interrupt implements patron.
func (c *conversation) interrupt() { _ = c.tcp.SetDeadline(past()) }

// stopReading implements patron.
func (c *conversation) stopReading() { _ = c.tcp.SetReadDeadline(past()) }

// interim implements patron.
func (c *conversation) interim(res *h1.Response) error {
	if c.minor == 0 {
		return nil
	}
	c.out = append(appendAnswer(c.out, res), "\r\n"...)
	return c.flush()
}

// appendAnswer appends the head of an answer as far as it is not about this connection.
func appendAnswer(b []byte, res *h1.Response) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(res.Status), 10)
	b = append(b, ' ')
	b = append(b, res.Reason...)
	b = append(b, "\r\n"...)
	for i := range res.Fields {
		if f := &res.Fields[i]; !f.Hop {
			b = h1.AppendField(b, f.Name, f.Value)
		}
	}
	return b
}

// begin implements patron.
func (c *conversation) begin(res *h1.Response) error {
	if c.web.stopping.Load() || c.req.Continue && !c.continued {
		c.closing = true
	}
	b := appendAnswer(c.out, res)
	c.chunked = false
	switch {
	case res.Framing != h1.ByChunks && res.Framing != h1.UntilClose:
		b = appendLength(b, res.Length)
	case c.minor == 0:
		c.closing = true
	default:
		c.chunked = true
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case c.closing:
		b = append(b, "Connection: close\r\n"...)
	case c.minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	c.framed = c.chunked || res.Framing != h1.UntilClose && res.Framing != h1.ByChunks
	b = append(b, "\r\n"...)
	c.out = b
	return nil
}

// write implements patron.
func (c *conversation) write(p []byte) error {
	if c.chunked {
		c.out = h1.AppendChunk(c.out, p)
		if len(c.out) < outMax {
			return nil
		}
		return c.flush()
	}
	if len(c.out)+len(p) <= outMax {
		c.out = append(c.out, p...)
		return nil
	}
	if err := c.flush(); err != nil {
		return err
	}
	return c.send(p)
}

// flush implements patron.
func (c *conversation) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.send(c.out)
	c.out = c.out[:0]
	return err
}

// send writes b. After a cut only an answer of our own still goes out.
func (c *conversation) send(b []byte) error {
	if c.wasCut.Load() {
		c.until = time.Time{} // it was moved
	}
	now := time.Now()
	if left := c.until.Sub(now); left < clientStall/2 {
		c.until = now.Add(clientStall)
		_ = c.conn.SetWriteDeadline(c.until)
	}
	if c.wasCut.Load() && c.begun.Load() {
		return errCut
	}
	_, err := c.conn.Write(b)
	return err
}

// close implements patron.
func (c *conversation) close() { c.closing = true }

// finish implements patron.
func (c *conversation) finish(trailers []h1.Field) error {
	if c.chunked {
		c.out = append(c.out, "0\r\n"...)
		for i := range trailers {
			c.out = h1.AppendField(c.out, trailers[i].Name, trailers[i].Value)
		}
		c.out = append(c.out, "\r\n"...)
	}
	return c.flush()
}

// abandon implements patron. Where only the end of the connection is the end of the answer, it is a reset.
func (c *conversation) abandon() {
	c.closing = true
	c.out = c.out[:0]
	if !c.framed {
		_ = c.tcp.SetLinger(0)
	}
	_ = c.tcp.Close()
}

// upgrade implements patron.
func (c *conversation) upgrade(up *upconn) {
	c.closing = true
	b := appendAnswer(c.out, &c.res)
	b = append(b, "Connection: Upgrade\r\n"...)
	b = h1.AppendField(b, []byte("Upgrade"), c.res.Upgrade)
	b = append(b, "\r\n"...)
	said := up.bytes()
	b = append(b, said...)
	c.session.received.Add(int64(len(said)))
	_ = c.tcp.SetDeadline(time.Time{})
	_ = up.tcp.SetDeadline(time.Time{})
	first := c.in.bytes()
	c.session.sent.Add(int64(len(first)))
	_, err := c.conn.Write(b)
	c.out = b[:0]
	if err == nil && len(first) > 0 {
		_, err = up.tcp.Write(first)
	}
	protocol := string(c.res.Upgrade)
	up.drop()
	p, s := c.web.proxy, c.session
	if err != nil {
		refuse(up.tcp)
		refuse(c.tcp)
		c.caller.leave() // before it is counted no more, as of guests
		p.ledger.leave(s)
		return
	}
	p.join(s, c.caller, protocol, c.conn, c.tcp, up.tcp)
}
