package certs

import (
	"crypto/tls"
	"strings"
	"sync/atomic"
)

// A Choice is the certificates of one server. Make one with Store.Use.
type Choice struct {
	store   *Store
	entries []*entry
	index   atomic.Pointer[index]

	pairs []Pair // guarded by store.mu; nil once released
}

// An index is what a Choice had to choose from after so many changes of the store.
type index struct {
	changes uint64
	first   *tls.Certificate
	names   map[string][]*tls.Certificate // exact ones, and such as "*.example.org"
}

// Certificate chooses by the name in hello. It is meant as tls.Config.GetCertificate.
func (c *Choice) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	x := c.index.Load()
	if x.changes != c.store.changes.Load() {
		x = c.build()
		c.index.Store(x)
	}
	return x.choose(hello), nil
}

// Release gives the pairs back. Certificate goes on with what there was.
func (c *Choice) Release() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.release(c)
}

// build looks at the pairs of this moment. A change that comes meanwhile leads to another build.
func (c *Choice) build() *index {
	x := &index{changes: c.store.changes.Load(), names: map[string][]*tls.Certificate{}}
	for _, e := range c.entries {
		cert := e.loaded.Load()
		if x.first == nil {
			x.first = cert
		}
		names := cert.Leaf.DNSNames
		if len(names) == 0 {
			names = []string{cert.Leaf.Subject.CommonName}
		}
		for _, name := range names {
			name = strings.ToLower(name)
			x.names[name] = append(x.names[name], cert)
		}
	}
	return x
}

func (x *index) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if certs := x.names[name]; len(certs) > 0 {
		return usable(certs, hello)
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		if certs := x.names["*."+rest]; len(certs) > 0 {
			return usable(certs, hello)
		}
	}
	return x.first
}

// usable is the first of certs that the client can use. When there is none, the handshake says why.
func usable(certs []*tls.Certificate, hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(certs) > 1 {
		for _, cert := range certs {
			if hello.SupportsCertificate(cert) == nil {
				return cert
			}
		}
	}
	return certs[0]
}
