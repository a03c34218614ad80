package proxy

import (
	"strconv"

	"github.com/gantryd/gantryd/pkg/proxy/internal/forwarded"
	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
)

// writeHead makes the head for the target. What a client says about where it comes from is not
// believed: it is replaced by what the proxy knows. The Host stays.
func (x *exchange) writeHead() {
	req := &x.req
	b := x.head[:0]
	b = append(b, req.Method...)
	b = append(b, ' ')
	b = append(b, req.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if len(req.Host) > 0 {
		b = append(b, req.Host...)
	} else {
		b = x.patron.local().AppendTo(b)
	}
	b = append(b, "\r\n"...)
	for i := range req.Fields {
		if f := &req.Fields[i]; !f.Hop && x.mayPass(f.Name) {
			b = h1.AppendField(b, f.Name, f.Value)
		}
	}
	o := x.origin()
	b = o.AppendLines(b)
	switch req.Framing {
	case h1.ByChunks:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	default:
		b = appendLength(b, req.Length)
	}
	if req.Trailers {
		b = append(b, "TE: trailers\r\n"...)
	}
	if req.Upgrade != nil {
		b = append(b, "Connection: Upgrade\r\n"...)
		b = h1.AppendField(b, []byte("Upgrade"), req.Upgrade)
	}
	b = append(b, "\r\n"...)
	x.head = b
}

// mayPass reports whether a field of the client is passed on. What a trusted client says about where the
// request comes from is passed on by origin.
func (x *exchange) mayPass(name []byte) bool {
	switch forwarded.Classify(name) {
	case forwarded.None:
		return true
	case forwarded.Other:
		return x.manners.trusts(x.session.client.Addr())
	default:
		return false
	}
}

// origin is what the target is told about where the request came from.
func (x *exchange) origin() forwarded.Origin {
	o := forwarded.Origin{
		Client: x.session.client, Local: x.patron.local(), Host: text(x.req.Host), TLS: x.patron.scheme() == "https",
		Trusted: x.manners.trusted,
	}
	if !x.manners.trusts(x.session.client.Addr()) {
		return o
	}
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		if kind := forwarded.Classify(f.Name); kind >= forwarded.Forwarded && !f.Hop {
			o.Heard(kind, text(f.Value))
		}
	}
	return o
}

// appendLength appends the length of a body, unless it is not known.
func appendLength(b []byte, n int64) []byte {
	if n < 0 {
		return b
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}
