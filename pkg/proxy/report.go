package proxy

import (
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/accesslog"
)

// A record is what the access log says of one exchange.
type record struct {
	entry    accesslog.Entry // what the client asked; only of exchanges that are logged
	dest     *dest           // chosen last
	held     time.Duration
	attempts int
	in, out  int64 // bytes of content; in is the uploading goroutine's while there is one
}

// noteRequest keeps what is needed of the request later: by the time of the answer its content may have taken
// the place of its head.
func (x *exchange) noteRequest() {
	x.accept = append(x.accept[:0], x.req.Value("accept")...)
	if x.web.proxy.access == nil {
		return
	}
	req := &x.req
	x.record.entry = accesslog.Entry{
		Time: time.Now(), Client: x.session.client.String(), Protocol: x.patron.protocol(),
		Method: string(req.Method), Host: string(req.Host), Path: string(req.Target),
		UserAgent: string(req.Value("user-agent")), Referrer: string(req.Value("referer")),
	}
}

// report logs the exchange. It is called once for each, whatever became of it.
func (x *exchange) report() {
	log := x.web.proxy.access
	if log == nil {
		return
	}
	e := &x.record.entry
	e.Duration, e.Held = time.Since(e.Time), x.record.held
	e.Status, e.BytesIn, e.BytesOut, e.Attempts = x.status, x.record.in, x.record.out, x.record.attempts
	if x.front != nil {
		e.Listener = x.front.name
	}
	if d := x.record.dest; d != nil {
		e.Target, e.TargetID = d.up.addr, d.id
	}
	log.Add(e)
}
