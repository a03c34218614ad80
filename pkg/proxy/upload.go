package proxy

import (
	"errors"
	"io"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/forwarded"
	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
)

// uploadGrace is how long the rest of a request's content may take once its answer is over. Then the
// connections are closed, because where the next request would begin is not known.
const uploadGrace = 500 * time.Millisecond

// inlineMax is how much of the content goes out with the head if it is there already.
const inlineMax = 16 << 10

// An upload is the content of a request on its way. It has a goroutine of its own, so that a target may
// answer before it has read everything, unless all of it was there together with the head.
type upload struct {
	whole     bool          // all of it is in exchange.head
	done      chan struct{} // closed when the goroutine ended; nil when there is none
	complete  bool          // the target was sent everything; to be read after done
	clientErr error         // why the client's side did not work; to be read after done
}

// gatherBody puts content that is there already behind the head.
func (x *exchange) gatherBody() error {
	x.gathered = true
	if x.source == nil {
		x.upload.whole = true
		return nil
	}
	for len(x.head) < inlineMax {
		piece, err := x.source.content(false)
		if errors.Is(err, io.EOF) {
			x.upload.whole = true
			x.head = x.appendEnd(x.head)
			return nil
		}
		if err != nil {
			x.upload.clientErr = err
			return err
		}
		if piece == nil {
			return nil
		}
		x.record.in += int64(len(piece))
		x.head = x.appendContent(x.head, piece)
	}
	return nil
}

// appendContent appends a piece of content as the head announced it.
func (x *exchange) appendContent(dst, piece []byte) []byte {
	if x.req.Framing == h1.ByChunks {
		return h1.AppendChunk(dst, piece)
	}
	return append(dst, piece...)
}

// appendEnd appends what is behind the content.
func (x *exchange) appendEnd(dst []byte) []byte {
	if x.req.Framing != h1.ByChunks {
		return dst
	}
	return appendTrailers(append(dst, "0\r\n"...), x.source.trailers())
}

// appendTrailers appends fields and the end of a body of chunks. Who a client says it is does not pass here either.
func appendTrailers(dst []byte, fields []h1.Field) []byte {
	for i := range fields {
		if forwarded.Classify(fields[i].Name) == forwarded.None {
			dst = h1.AppendField(dst, fields[i].Name, fields[i].Value)
		}
	}
	return append(dst, "\r\n"...)
}

// startUpload sends the content to c while the answer is awaited.
func (x *exchange) startUpload(c *upconn) {
	x.upload.done = make(chan struct{})
	x.over.Store(false)
	x.web.proxy.wg.Go(func() {
		defer close(x.upload.done)
		x.carryContent(c)
	})
}

// carryContent sends content until there is no more, or one side fails.
func (x *exchange) carryContent(c *upconn) {
	var framed []byte
	for {
		piece, err := x.source.content(true)
		switch {
		case errors.Is(err, io.EOF):
			if end := x.appendEnd(framed[:0]); len(end) > 0 {
				if _, err := c.tcp.Write(end); err != nil {
					return
				}
			}
			x.upload.complete = true
			return
		case err != nil:
			x.upload.clientErr = err
			x.broken.Store(true)
			_ = c.tcp.SetReadDeadline(past()) // whoever waits for the answer learns of it
			return
		}
		x.record.in += int64(len(piece))
		if x.req.Framing == h1.ByChunks {
			framed = h1.AppendChunk(framed[:0], piece)
			piece = framed
		}
		if _, err := c.tcp.Write(piece); err != nil {
			return // what the target said about it is still to be read
		}
	}
}

// sentAll reports whether the target was sent all content by now.
func (x *exchange) sentAll() bool {
	if x.upload.done == nil {
		return x.upload.whole
	}
	select {
	case <-x.upload.done:
		return x.upload.complete
	default:
		return false
	}
}

// awaitUpload gives content a little time to come to its end.
func (x *exchange) awaitUpload() {
	if x.upload.done == nil || x.req.Continue && !x.continued {
		return // the client may never send it
	}
	timer := time.NewTimer(uploadGrace)
	defer timer.Stop()
	select {
	case <-x.upload.done:
	case <-timer.C:
	}
}

// abortUpload ends an upload to c that is under way.
func (x *exchange) abortUpload(c *upconn) {
	if x.upload.done == nil {
		return
	}
	select {
	case <-x.upload.done:
	default:
		x.over.Store(true)
		_ = c.tcp.SetDeadline(past())
		x.patron.stopReading()
		<-x.upload.done
	}
}
