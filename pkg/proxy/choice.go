package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gantryd/gantryd/pkg/proxy/internal/hostname"
	"github.com/gantryd/gantryd/pkg/proxy/internal/proxyproto"
)

// A choice says which TCP listener of an address a connection is for. It is never changed.
type choice struct {
	rest  *front               // gets what no other one matches; may be nil
	names hostname.Map[*front] // by SNI
	peek  bool                 // there are names
	from  []netip.Prefix       // clients that begin with a PROXY header
}

// newChoice returns the choice between binds, which do not clash.
func newChoice(binds []bind) *choice {
	c := &choice{}
	for _, b := range binds {
		c.from = b.from
		if b.match.isZero() {
			c.rest = b.front
		}
		for _, name := range b.match.SNI {
			if pattern, err := hostname.ParsePattern(name); err == nil { // checked before
				c.names.Add(pattern, b.front)
				c.peek = true
			}
		}
	}
	return c
}

// of is the listener for a client that asks for name; nil if there is none.
func (c *choice) of(name string) *front {
	if f, ok := c.names.Find(name); ok {
		return f
	}
	return c.rest
}

// introduced reports whether a client begins with a PROXY header.
func (c *choice) introduced(client netip.Addr) bool {
	return slices.ContainsFunc(c.from, func(p netip.Prefix) bool { return p.Contains(client) })
}

// checkTCP reports what makes no sense about the TCP side of l.
func (l *Listener) checkTCP() error {
	switch {
	case l.MaxConns < 0 || l.MaxConnsPerClient < 0:
		return errors.New("a bound of connections is negative")
	case l.IdleTimeout < 0 || l.LingerTimeout < 0:
		return errors.New("a timeout is negative")
	case l.ProxyTo != 0 && l.ProxyTo != proxyproto.V1 && l.ProxyTo != proxyproto.V2:
		return fmt.Errorf("the PROXY protocol has no version %d", l.ProxyTo)
	case l.Kind == TCP:
		return nil
	case l.IdleTimeout > 0 || l.LingerTimeout > 0:
		return errors.New("bounds of silence are of TCP, not of HTTP")
	case l.ProxyTo > 0:
		return errors.New("a PROXY header for the target is of TCP, not of HTTP")
	}
	return nil
}

// equalTCP reports whether l and m agree in what only TCP has.
func (l *Listener) equalTCP(m *Listener) bool {
	return l.bounds() == m.bounds() && slices.Equal(l.ProxyFrom, m.ProxyFrom)
}

func (l *Listener) bounds() bounds {
	return bounds{l.MaxConns, l.MaxConnsPerClient, l.IdleTimeout, l.LingerTimeout, l.ProxyTo}
}
