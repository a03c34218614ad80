package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/gantryd/gantryd/pkg/proxy/internal/proxyproto"
)

// A caller is a client's connection to a web, whatever is spoken on it: where it comes from, and the listeners
// that count it. A port that one listener has for itself counts it when it comes; where several share a
// port, each counts it from its first request there. It is counted until it ends.
type caller struct {
	proxy  *Proxy
	client netip.AddrPort // of the connection, or that a PROXY header told
	local  netip.AddrPort // likewise: that the client connected to

	mu     sync.Mutex // guards what follows
	places []place
	left   bool
}

// A place is what a caller has of the quota of a listener.
type place struct {
	quota  *quota
	bounds *bounds // by which it entered
}

// newCaller is that of a connection that entered the proxy.
func (p *Proxy) newCaller(c *net.TCPConn) *caller {
	return &caller{proxy: p, client: addrPort(c.RemoteAddr()), local: addrPort(c.LocalAddr())}
}

// enter takes a place at f, unless the caller has one, and reports whether there was one. A request of HTTP/2 may ask
// when the connection is closed already.
func (c *caller) enter(f *front) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return false
	}
	if slices.ContainsFunc(c.places, func(p place) bool { return p.quota == f.quota }) {
		return true
	}
	b := f.bounds.Load()
	if !f.quota.enter(b, c.client.Addr()) {
		return false
	}
	c.places = append(c.places, place{f.quota, b})
	return true
}

// leave is called once, when the connection is closed.
func (c *caller) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.places {
		p.quota.exit(p.bounds, c.client.Addr())
	}
	c.places, c.left = nil, true
	c.proxy.exit()
}

// introduce reads the PROXY header that a connection begins with, and nothing behind it.
func (c *caller) introduce(ctx context.Context, conn *net.TCPConn) error {
	ctx, cancel := context.WithTimeout(ctx, c.proxy.connect)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(past()) })
	h, err := readIntroduction(conn)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("read PROXY header: %w", err)
	}
	if h.Source.IsValid() {
		c.client, c.local = h.Source, h.Destination
	}
	return nil
}

// readIntroduction reads as many bytes as are known to belong to the header.
func readIntroduction(r io.Reader) (proxyproto.Header, error) {
	var b []byte
	for {
		h, need, err := proxyproto.Parse(b)
		if err != nil || need == 0 {
			return h, err
		}
		had := len(b)
		b = slices.Grow(b, need-had)[:need]
		if _, err := io.ReadFull(r, b[had:]); err != nil {
			return h, err
		}
	}
}

// callerKey finds the caller of a connection that speaks HTTP/2 in the context of its requests.
type callerKey struct{}

// callerOf is the caller that a mux has put into ctx.
func callerOf(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller)
	return c
}
