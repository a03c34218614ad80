package app

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/proxy"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// listener is l in the proxy's words. What cannot be read of it, which is in the error, counts as not
// given: the file was checked, but a state may be written by hand.
func listener(l supervisor.Listener) (proxy.Listener, error) {
	p := proxy.Listener{
		Name: l.Name, Addrs: l.Addrs, Kind: l.Kind, TargetID: l.TargetID, Target: l.Target,
		HoldMax:     cmp.Or(l.Hold.Max, component.DefaultHoldMax),
		HoldTimeout: cmp.Or(time.Duration(l.Hold.Timeout), component.DefaultHoldTimeout),
		Match:       proxy.Match{SNI: l.Port.Match.SNI, Hosts: l.Port.Match.Hosts, Path: l.Port.Match.Path},
	}
	// A container that crashed is the target until the Engine tells, which may take seconds.
	p.ConnectTimeout = max(proxy.DefaultConnectTimeout, p.HoldTimeout)
	p.MaxConns, p.MaxConnsPerClient = l.Port.MaxConns, l.Port.MaxConnsPerClient
	var err error
	p.ProxyFrom, err = prefixes(l.Port.ProxyProtocol.From)
	if l.Kind == proxy.HTTP {
		return p, cmp.Or(ofHTTP(&p, l), err)
	}
	p.IdleTimeout, p.LingerTimeout = time.Duration(l.Port.IdleTimeout), time.Duration(l.Port.LingerTimeout)
	switch l.Port.ProxyProtocol.To {
	case component.ProxyV1:
		p.ProxyTo = 1
	case component.ProxyV2:
		p.ProxyTo = 2
	}
	return p, err
}

// ofHTTP adds to p what only ports of kind http have.
func ofHTTP(p *proxy.Listener, l supervisor.Listener) error {
	p.Upstream, p.Pages, p.Maintenance = upstream(l.Port.Upstream), l.Port.Pages, l.Maintenance
	if certs := l.Port.TLS.Certs; len(certs) > 0 {
		p.TLS = &proxy.TLS{}
		for _, c := range certs {
			p.TLS.Certs = append(p.TLS.Certs, proxy.KeyPair{CertFile: c.Cert, KeyFile: c.Key})
		}
	}
	var err error
	p.Trusted, err = prefixes(l.Port.Trusted)
	return err
}

func upstream(name string) string {
	if name == component.UpstreamH2C {
		return proxy.UpstreamH2C
	}
	return proxy.UpstreamHTTP1
}

// prefixes are those of texts that can be read; the first one that cannot is the error.
func prefixes(texts []string) ([]netip.Prefix, error) {
	var (
		out   []netip.Prefix
		wrong error
	)
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			if wrong == nil {
				wrong = err
			}
			continue
		}
		out = append(out, p)
	}
	return out, wrong
}
