package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gantryd/gantryd/pkg/proxy/certs"
	"github.com/gantryd/gantryd/pkg/proxy/internal/forwarded"
	"github.com/gantryd/gantryd/pkg/proxy/internal/pages"
)

// What HTTP listeners speak to their target.
const (
	UpstreamHTTP1 = "http1"
	UpstreamH2C   = "h2c" // HTTP/2 without TLS, from the first byte
)

// manners is how a listener treats its requests. It is never changed, only replaced.
type manners struct {
	h2c         bool
	maintenance bool
	trusted     []netip.Prefix
	pages       *pages.Set
	choice      *certs.Choice // keeps the certificates in use; nil for plain HTTP
}

// trusts reports whether a client may say where a request came from.
func (m *manners) trusts(client netip.Addr) bool {
	return len(m.trusted) > 0 && forwarded.Trusts(m.trusted, client)
}

// checkHTTP finds what makes no sense about the parts of a listener that are for HTTP.
func (l *Listener) checkHTTP() error {
	if l.Kind != HTTP {
		if l.TLS != nil || l.Upstream != "" || len(l.Trusted) > 0 || l.Maintenance || l.Pages != "" {
			return fmt.Errorf("TLS, upstream protocol, trusted clients, maintenance and pages are of kind %q, not %q", HTTP, l.Kind)
		}
		return nil
	}
	if l.Upstream != "" && l.Upstream != UpstreamHTTP1 && l.Upstream != UpstreamH2C {
		return fmt.Errorf("upstream %q is neither %q nor %q", l.Upstream, UpstreamHTTP1, UpstreamH2C)
	}
	for _, t := range l.Trusted {
		if !t.IsValid() {
			return errors.New("a trusted prefix is not valid")
		}
	}
	return l.TLS.check()
}

func (l *Listener) equalHTTP(m *Listener) bool {
	return l.TLS.equal(m.TLS) && l.Upstream == m.Upstream && slices.Equal(l.Trusted, m.Trusted) &&
		l.Maintenance == m.Maintenance && l.Pages == m.Pages
}

// newManners reads the files that an HTTP listener needs. Pages that are there already are taken over
// from was, which may be nil.
func (p *Proxy) newManners(l *Listener, was *front) (_ *manners, err error) {
	m := &manners{h2c: l.Upstream == UpstreamH2C, maintenance: l.Maintenance, trusted: slices.Clone(l.Trusted)}
	if old := was.mannersOr(nil); old != nil && old.pages.Dir() == l.Pages {
		m.pages = old.pages
	} else if m.pages, err = pages.Open(l.Pages); err != nil {
		return nil, err
	}
	if l.TLS == nil {
		return m, nil
	}
	m.choice, err = p.certs.Use(l.TLS.pairs())
	return m, err
}

// release lets go of what m keeps in use.
func (m *manners) release() {
	if m != nil && m.choice != nil {
		m.choice.Release()
	}
}

// mannersOr is how f treats its requests, other when there is no f or it is not of HTTP.
func (f *front) mannersOr(other *manners) *manners {
	if f != nil {
		if m := f.manners.Load(); m != nil {
			return m
		}
	}
	return other
}

// pageSets are the pages that listeners have in files.
func (p *Proxy) pageSets() (sets []*pages.Set) {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	for _, f := range p.fronts {
		if m := f.manners.Load(); m != nil && m.pages.Dir() != "" {
			sets = append(sets, m.pages)
		}
	}
	return sets
}
