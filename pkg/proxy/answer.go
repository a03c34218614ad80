package proxy

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
	"github.com/gantryd/gantryd/pkg/proxy/internal/pages"
)

// maxInterim bounds the heads before the one that counts.
const maxInterim = 100

// errManyInterim is why an answer is not awaited any longer.
var errManyInterim = errors.New("target sends nothing but interim answers")

// hear reads the answer and passes it on.
func (x *exchange) hear(c *upconn) error {
	res := &x.res
	for range maxInterim {
		if err := x.readHead(c); err != nil {
			return err
		}
		switch {
		case !res.Interim():
			if res.Status == http.StatusSwitchingProtocols {
				return x.agree(c)
			}
			return x.passOn(c)
		case res.Status == http.StatusContinue:
			x.continued = true
		}
		if err := x.patron.interim(res); err != nil {
			return errGone
		}
	}
	return errManyInterim
}

// hearBefore reads what a target said before it closed the connection on the request.
func (x *exchange) hearBefore(c *upconn, err error) error {
	if x.hear(c) == nil {
		return nil
	}
	return err
}

// readHead reads the head of an answer into res.
func (x *exchange) readHead(c *upconn) error {
	var scan h1.Scanner
	for {
		got := c.bytes()
		n, err := scan.End(got)
		if err != nil {
			return err
		}
		if n > 0 {
			if err := x.res.Parse(got[:n], x.req.IsHead()); err != nil {
				return err
			}
			c.take(n)
			return nil
		}
		if err := x.await(c); err != nil {
			return err
		}
		c.answered += len(c.bytes())
	}
}

// await reads more of an answer. While there is nothing, it looks after the client now and then.
func (x *exchange) await(c *upconn) error {
	for {
		c.expect(clientCheck, time.Now())
		if x.wasCut.Load() {
			return errCut
		}
		err := c.fill()
		switch {
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case !isTimeout(err):
			return err
		case x.wasCut.Load():
			return errCut
		case x.broken.Load(), x.patron.gone():
			return errGone
		}
		c.until = time.Time{}
	}
}

// passOn passes on the answer whose head is in res.
func (x *exchange) passOn(c *upconn) error {
	res := &x.res
	x.answer = h1.NewBody(res.Framing, res.Length, x.resMore)
	x.status = res.Status
	x.answered()
	x.begun.Store(true)
	if x.patron.begin(res) != nil {
		return errGone
	}
	var piece []byte
	for !x.answer.Done() {
		got := c.bytes()
		p, used, err := x.answer.Next(got)
		if err != nil {
			return err
		}
		c.take(used)
		x.record.out += int64(len(p))
		switch {
		case x.answer.Done():
			piece = p
		case len(p) > 0:
			if x.patron.write(p) != nil {
				return errGone
			}
		case used == 0:
			err := x.more(c)
			if errors.Is(err, io.ErrUnexpectedEOF) && x.answer.End() == nil {
				return x.conclude(nil)
			}
			if err != nil {
				return err
			}
		}
	}
	return x.conclude(piece)
}

// more waits for more of the answer, when the client has all that came.
func (x *exchange) more(c *upconn) error {
	if x.patron.flush() != nil {
		return errGone
	}
	return x.await(c)
}

// conclude passes on the last piece. If everything is over by then, the connection is given back before, so
// that the client's next request finds it there.
func (x *exchange) conclude(piece []byte) error {
	early := x.sentAll()
	if early {
		x.letGo()
	}
	if len(piece) > 0 && x.patron.write(piece) != nil {
		return errGone
	}
	if x.patron.finish(x.answer.Trailers()) != nil {
		return errGone
	}
	if !early {
		x.awaitUpload()
		x.letGo()
	}
	return nil
}

// agree makes the exchange a tunnel, if that is what the client asked for.
func (x *exchange) agree(c *upconn) error {
	if !h1.SameProtocol(x.req.Upgrade, x.res.Upgrade) {
		return errors.New("target changes to a protocol that nobody asked for")
	}
	x.mu.Lock()
	x.conn = nil
	x.mu.Unlock()
	x.status = x.res.Status
	x.answered()
	x.handed = true
	x.patron.upgrade(c)
	return nil
}

// say answers the request by ourselves, with a page where there is one for it.
func (x *exchange) say(code int) {
	switch {
	case code >= http.StatusInternalServerError && x.manners != nil:
		x.sayPage(pages.OfStatus(code))
	default:
		x.sayThis(&pages.Page{Status: code, ContentType: "text/plain; charset=utf-8", Body: []byte(http.StatusText(code) + "\n")})
	}
}

// sayPage answers with a page of the listener.
func (x *exchange) sayPage(k pages.Kind) {
	x.sayThis(x.manners.pages.Page(k, text(x.accept)))
}

func (x *exchange) sayThis(p *pages.Page) {
	x.status = p.Status
	x.res = h1.Response{Minor: 1, Status: p.Status, Reason: []byte(http.StatusText(p.Status)), Length: int64(len(p.Body)), Fields: append(
		x.res.Fields[:0],
		h1.Field{Name: []byte("Content-Type"), Value: []byte(p.ContentType)},
		h1.Field{Name: []byte("Date"), Value: time.Now().UTC().AppendFormat(nil, http.TimeFormat)},
		h1.Field{Name: []byte("Cache-Control"), Value: []byte("no-store")},
	)}
	if p.RetryAfter != "" {
		x.res.Fields = append(x.res.Fields, h1.Field{Name: []byte("Retry-After"), Value: []byte(p.RetryAfter)})
	}
	if x.patron.begin(&x.res) != nil {
		return
	}
	if !x.req.IsHead() && x.patron.write(p.Body) != nil {
		return
	}
	_ = x.patron.finish(nil)
}
