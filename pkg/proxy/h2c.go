package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/forwarded"
	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
)

// newH2C returns what speaks HTTP/2 without TLS to the address of u.
func newH2C(u *upstream) *http.Transport {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, u.proxy.connect) // it goes on when its request does not
			defer cancel()
			c, err := u.dial(ctx)
			if err != nil {
				return nil, err
			}
			return c.tcp, nil
		},
		Protocols:              &protocols,
		DisableCompression:     true,
		IdleConnTimeout:        upstreamIdle,
		MaxResponseHeaderBytes: h1.MaxHead,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: h2PingAfter, PingTimeout: h2PingTimeout,
			MaxReceiveBufferPerStream: h2StreamBuffer, MaxReceiveBufferPerConnection: 4 * h2ConnBuffer,
		},
	}
}

// visitH2C is one attempt to bring the request to a target that speaks HTTP/2. It returns a dialError when
// nothing was sent.
func (x *exchange) visitH2C(up *upstream) error {
	if x.gathered && x.source != nil {
		return errors.New("target changed its protocol") // while the request was on its way
	}
	x.try.begin(up.within())
	ctx, cancel := context.WithCancel(x.web.proxy.within())
	defer cancel()
	if !x.setDial(cancel) {
		return errCut
	}
	defer x.setDial(nil)
	x.record.attempts++
	x.reading = x.source != nil
	defer func() { x.reading = false }()
	left := x.watchPatron(cancel)
	defer left()
	body := &contentReader{x: x}
	defer body.end()
	var connected, late atomic.Bool
	dialing := time.AfterFunc(time.Until(x.try.deadline), func() {
		if late.Store(!connected.Load()); late.Load() {
			cancel()
		}
	})
	defer dialing.Stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:        func(httptrace.GotConnInfo) { connected.Store(true) },
		Got1xxResponse: x.interimH2C,
	})
	res, err := up.h2c.RoundTrip(x.requestH2C(ctx, up.addr, body))
	switch {
	case err != nil && late.Load():
		return &dialError{context.DeadlineExceeded}
	case err != nil:
		return x.whyH2C(err, left)
	}
	defer res.Body.Close()
	if err := x.hearH2C(res); err != nil {
		return x.whyH2C(err, left)
	}
	return nil
}

// whyH2C is err, or what we did ourselves that led to it.
func (x *exchange) whyH2C(err error, left func() bool) error {
	switch {
	case x.wasCut.Load():
		return errCut
	case left():
		return errGone
	}
	return err
}

// watchPatron cancels when nobody waits for the answer any more. The function it returns ends that, and
// reports whether it came to it.
func (x *exchange) watchPatron(cancel context.CancelFunc) func() bool {
	var (
		left bool
		wg   sync.WaitGroup
		done = make(chan struct{})
	)
	wg.Go(func() {
		tick := time.NewTicker(heldCheck)
		defer tick.Stop()
		for !left {
			select {
			case <-tick.C:
			case <-done:
				return
			}
			if left = x.patron.gone(); left {
				cancel()
			}
		}
	})
	end := sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	return func() bool {
		end()
		return left
	}
}

// requestH2C is the request as net/http sends it.
func (x *exchange) requestH2C(ctx context.Context, addr string, body *contentReader) *http.Request {
	req := &x.req
	host := string(req.Host)
	if host == "" {
		host = x.patron.local().String()
	}
	r := &http.Request{
		Method: string(req.Method), Host: host, Header: http.Header{}, ContentLength: max(0, req.Length),
		// With a path of its own it would be written in another way than it came.
		URL: &url.URL{Scheme: "http", Host: addr, Opaque: string(req.Target)},
	}
	if len(req.Target) > 0 && req.Target[0] == '/' {
		r.URL.Opaque = "//" + host + r.URL.Opaque
	}
	for i := range req.Fields {
		f := &req.Fields[i]
		if f.Hop || !x.mayPass(f.Name) {
			continue
		}
		name := http.CanonicalHeaderKey(string(f.Name))
		r.Header[name] = append(r.Header[name], string(f.Value))
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = []string{""} // none
	}
	if req.Trailers {
		r.Header["Te"] = []string{"trailers"}
	}
	o := x.origin()
	o.Each(func(name, value string) { r.Header[name] = []string{value} })
	if x.source != nil {
		r.Body = body
		if req.Framing == h1.ByChunks {
			r.ContentLength = -1
		}
		r.Trailer = http.Header{}
		for _, name := range announced(req.Fields) {
			r.Trailer[name] = nil
		}
		body.trailers = r.Trailer
	}
	return r.WithContext(ctx)
}

// announced are the trailers that a head speaks of, as far as they may be some.
func announced(fields []h1.Field) (names []string) {
	for i := range fields {
		if !strings.EqualFold(string(fields[i].Name), "Trailer") {
			continue
		}
		for name := range strings.SplitSeq(string(fields[i].Value), ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if name != "" && forwarded.Classify(name) == forwarded.None && name != "Trailer" && name != "Transfer-Encoding" && name != "Content-Length" {
				names = append(names, name)
			}
		}
	}
	return names
}

// interimH2C passes on a head that is followed by another one.
func (x *exchange) interimH2C(code int, header textproto.MIMEHeader) error {
	if code == http.StatusContinue {
		x.continued = true
	}
	return x.patron.interim(&h1.Response{Minor: 1, Status: code, Reason: []byte(http.StatusText(code)), Length: -1, Fields: fieldsOf(http.Header(header))})
}

// fieldsOf are the fields of a header in a fixed order, without those that are about a connection or a frame:
// net/http lets them pass, and a client of HTTP/1 would believe them.
func fieldsOf(h http.Header) (fields []h1.Field) {
	for name, values := range h {
		for _, v := range values {
			if f := (h1.Field{Name: []byte(name), Value: []byte(v)}); f.Valid() {
				fields = append(fields, f)
			}
		}
	}
	slices.SortStableFunc(fields, func(a, b h1.Field) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return fields
}

// hearH2C passes on the answer.
func (x *exchange) hearH2C(res *http.Response) error {
	res.Header.Del("Content-Length")
	x.res = h1.Response{Minor: 1, Status: res.StatusCode, Reason: []byte(http.StatusText(res.StatusCode)), Length: res.ContentLength, Fields: fieldsOf(res.Header)}
	switch {
	case x.req.IsHead() || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified:
	case res.ContentLength >= 0:
		x.res.Framing = h1.ByLength
	default:
		x.res.Framing = h1.ByChunks
	}
	x.status = res.StatusCode
	x.answered()
	x.begun.Store(true)
	if x.patron.begin(&x.res) != nil || x.patron.flush() != nil {
		return errGone
	}
	buffer := x.web.proxy.buffers.Lend(true)
	defer x.web.proxy.buffers.GiveBack(buffer)
	for {
		n, err := res.Body.Read(buffer.Bytes())
		x.record.out += int64(n)
		if n > 0 && (x.patron.write(buffer.Bytes()[:n]) != nil || err == nil && x.patron.flush() != nil) {
			return errGone
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if x.patron.finish(fieldsOf(res.Trailer)) != nil {
		return errGone
	}
	return nil
}

// A contentReader is the content of a request, as net/http reads it.
type contentReader struct {
	x        *exchange
	trailers http.Header // filled at the end

	mu   sync.Mutex // held while the source is read
	rest []byte
	err  error
}

// errEnded is why the content is not read any more.
var errEnded = errors.New("request is over")

// Read implements io.Reader.
func (r *contentReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rest) == 0 && r.err == nil {
		r.rest, r.err = r.x.source.content(true)
		r.x.record.in += int64(len(r.rest))
		if errors.Is(r.err, io.EOF) {
			r.takeTrailers()
		}
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// takeTrailers takes those that were announced.
func (r *contentReader) takeTrailers() {
	for _, f := range r.x.source.trailers() {
		name := http.CanonicalHeaderKey(string(f.Name))
		if _, ok := r.trailers[name]; ok {
			r.trailers[name] = append(r.trailers[name], string(f.Value))
		}
	}
}

// Close implements io.Closer. What is left belongs to the exchange.
func (*contentReader) Close() error { return nil }

// end waits until the source is not read any more.
func (r *contentReader) end() {
	x := r.x
	if x.source == nil {
		return
	}
	if !r.mu.TryLock() { // somebody waits for content
		x.over.Store(true)
		x.patron.stopReading()
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	r.rest = nil
	x.upload.complete = errors.Is(r.err, io.EOF)
	if r.err == nil {
		r.err = errEnded
	} else if !x.upload.complete {
		x.upload.clientErr = r.err
	}
}
