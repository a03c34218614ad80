package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
	"github.com/gantryd/gantryd/pkg/proxy/internal/relay"
)

// A visitor is one request that came over HTTP/2, with its answer: a patron.
type visitor struct {
	exchange
	rw     http.ResponseWriter
	ctl    *http.ResponseController
	r      *http.Request
	cancel context.CancelFunc // of the request
	tls    bool
	loan   relay.Loan // for the content
	lent   bool
	unread error // came with the last piece of content
	unsent bool  // something was written since the last flush
	broken bool  // the answer must not look whole

	mu      sync.Mutex
	said    bool      // the whole answer was given to rw
	ended   bool      // rw must not be used any more
	readBy  time.Time // the deadlines that are set
	writeBy time.Time
}

// ServeHTTP brings one request to a target.
func (m *mux) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if !m.inside.enter() {
		panic(http.ErrAbortHandler)
	}
	defer m.inside.leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	v := &visitor{rw: rw, ctl: http.NewResponseController(rw), r: r, cancel: cancel, tls: r.TLS != nil}
	v.init(m.web, v, callerOf(r.Context()))
	v.tools = m.web.tools.Get().(*tools)
	stop := context.AfterFunc(ctx, v.unblock)
	v.handle()
	stop()
	v.end()
	v.out = v.out[:0]
	if t := v.tools; cap(t.head) <= keepTools && cap(t.out) <= keepTools {
		m.web.tools.Put(t)
	}
	if v.broken {
		panic(http.ErrAbortHandler) // net/http resets the stream
	}
}

// interrupt implements patron.
func (v *visitor) interrupt() { v.cancel() }

// handle answers the request.
func (v *visitor) handle() {
	v.reset()
	head, err := appendRequest(v.out[:0], v.r)
	v.out = head
	if err == nil {
		var scan h1.Scanner
		var n int
		if n, err = scan.End(head); err == nil && n != len(head) {
			err = h1.Error{Status: http.StatusBadRequest}
		}
	}
	if err == nil {
		err = v.req.Parse(head)
	}
	if err != nil {
		v.say(statusOf(err))
		return
	}
	if v.req.Framing != h1.NoBody {
		v.source = v
	}
	v.serve()
}

// statusOf is how a request is answered that cannot be taken.
func statusOf(err error) int {
	if bad, ok := err.(h1.Error); ok { //nolint:errorlint // it is never wrapped
		return bad.Status
	}
	return http.StatusBadRequest
}

// appendRequest writes a request as if it had come over HTTP/1, so that it has to pass the same
// rules: one Host, no line within a line, a path that is one.
func appendRequest(b []byte, r *http.Request) ([]byte, error) {
	length := strconv.FormatInt(r.ContentLength, 10)
	if r.Host == "" || !agrees(r.Header["Host"], r.Host) || r.ContentLength >= 0 && !agrees(r.Header["Content-Length"], length) {
		return b, h1.Error{Status: http.StatusBadRequest}
	}
	b = append(append(append(b, r.Method...), ' '), r.RequestURI...)
	b = append(b, " HTTP/1.1\r\n"...)
	b = appendText(b, "Host", r.Host)
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect": // Expect is between the client and net/http
			continue
		}
		for _, value := range values {
			b = appendText(b, name, value)
		}
	}
	switch {
	case r.ContentLength < 0:
		b = appendText(b, "Transfer-Encoding", "chunked")
	case r.ContentLength > 0 || len(r.Header["Content-Length"]) > 0:
		b = appendText(b, "Content-Length", length)
	}
	for name := range r.Trailer {
		b = appendText(b, "Trailer", name)
	}
	return append(b, "\r\n"...), nil
}

// agrees reports whether a header that should be there once, or not at all, says what is known.
func agrees(said []string, known string) bool {
	return len(said) == 0 || len(said) == 1 && strings.EqualFold(said[0], known)
}

func appendText(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// unblock makes reads and writes fail: the request was cut, or its client is gone.
func (v *visitor) unblock() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return
	}
	_ = v.r.Body.Close()
	if v.begun.Load() && !v.said { // else an answer of our own is still possible, or all was said
		_ = v.ctl.SetWriteDeadline(past())
	}
}

// end lets go of what net/http takes back.
func (v *visitor) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = true
	if v.lent {
		v.web.proxy.buffers.GiveBack(v.loan)
		v.lent = false
	}
}

// content implements source.
func (v *visitor) content(wait bool) ([]byte, error) {
	switch {
	case v.unread != nil:
		return nil, v.unread
	case !wait:
		return nil, nil // nobody can tell what is there
	case !v.lent:
		v.loan, v.lent = v.web.proxy.buffers.Lend(true), true
	}
	for {
		v.expectContent(true)
		n, err := v.r.Body.Read(v.loan.Bytes())
		v.unread = err
		switch {
		case n > 0:
			return v.loan.Bytes()[:n], nil
		case errors.Is(err, io.EOF), isTimeout(err):
			return nil, err
		case err != nil:
			return nil, io.ErrUnexpectedEOF // the stream was reset
		}
	}
}

// expectContent bounds the wait for content, as long as the target waits for it with its answer. It costs
// a message to the connection only each half of the time.
func (v *visitor) expectContent(wanted bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.ended:
	case !wanted || v.begun.Load():
		if !v.readBy.IsZero() {
			v.readBy = time.Time{}
			_ = v.ctl.SetReadDeadline(v.readBy)
		}
	case time.Until(v.readBy) < v.web.proxy.stall/2:
		v.readBy = time.Now().Add(v.web.proxy.stall)
		_ = v.ctl.SetReadDeadline(v.readBy)
	}
}

// trailers implements source.
func (v *visitor) trailers() (fields []h1.Field) {
	for name, values := range v.r.Trailer {
		for _, value := range values {
			if f := (h1.Field{Name: []byte(name), Value: []byte(value)}); f.Valid() {
				fields = append(fields, f)
			}
		}
	}
	slices.SortFunc(fields, func(a, b h1.Field) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return fields
}

// gone implements patron.
func (v *visitor) gone() bool { return v.r.Context().Err() != nil }

// protocol implements patron.
func (v *visitor) protocol() string { return v.r.Proto }

// stopReading implements patron.
func (v *visitor) stopReading() { _ = v.r.Body.Close() }

// scheme implements patron.
func (v *visitor) scheme() string {
	if v.tls {
		return "https"
	}
	return "http"
}

// local implements patron.
func (v *visitor) local() netip.AddrPort { return v.caller.local }

// interim implements patron.
func (v *visitor) interim(res *h1.Response) error {
	if res.Status == http.StatusContinue {
		return nil // net/http sends it when the content is read
	}
	h := v.rw.Header()
	copyFields(h, res.Fields)
	v.rw.WriteHeader(res.Status)
	clear(h)
	return nil
}

// copyFields copies the fields that are not about one connection.
func copyFields(h http.Header, fields []h1.Field) {
	for i := range fields {
		if f := &fields[i]; !f.Hop {
			name := http.CanonicalHeaderKey(string(f.Name))
			h[name] = append(h[name], string(f.Value))
		}
	}
}

// begin implements patron.
func (v *visitor) begin(res *h1.Response) error {
	v.expectContent(false)
	h := v.rw.Header()
	copyFields(h, res.Fields)
	if res.Length >= 0 && res.Framing != h1.ByChunks {
		h["Content-Length"] = []string{strconv.FormatInt(res.Length, 10)}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // net/http is not to guess
	}
	v.rw.WriteHeader(res.Status)
	v.unsent = true
	return nil
}

// write implements patron.
func (v *visitor) write(p []byte) error {
	if time.Until(v.writeBy) < clientStall/2 {
		v.writeBy = time.Now().Add(clientStall)
		_ = v.ctl.SetWriteDeadline(v.writeBy)
		if v.wasCut.Load() && v.status != http.StatusServiceUnavailable {
			return errCut
		}
	}
	v.unsent = true
	_, err := v.rw.Write(p)
	return err
}

// flush implements patron.
func (v *visitor) flush() error {
	if !v.unsent {
		return nil
	}
	v.unsent = false
	return v.ctl.Flush()
}

// finish implements patron.
func (v *visitor) finish(trailers []h1.Field) error {
	h := v.rw.Header()
	for i := range trailers {
		name := http.TrailerPrefix + http.CanonicalHeaderKey(string(trailers[i].Name))
		h[name] = append(h[name], string(trailers[i].Value))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said = true
	return nil
}

// close implements patron. The connection has other streams.
func (*visitor) close() {}

// abandon implements patron.
func (v *visitor) abandon() { v.broken = true }

// upgrade implements patron. HTTP/2 has none: no request of a visitor asks for one.
func (v *visitor) upgrade(c *upconn) {
	c.close()
	v.broken = true
	v.web.proxy.ledger.leave(v.session)
}
