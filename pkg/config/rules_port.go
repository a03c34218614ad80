package config

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

// hostPattern is what may stand in a match: a name of DNS, its first label perhaps a *.
const hostPattern = `^(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*$`

var (
	hostRegexp   = regexp.MustCompile(hostPattern)
	numberRegexp = regexp.MustCompile(`^[0-9]+$`)
)

// Bounds of what a port may ask for.
const (
	mostConns = 10_000_000
	longest   = 253 // of a host name, in bytes
)

func (m *mistakes) ports(at string, s component.Spec) {
	http := false
	for i, p := range s.Ports {
		here := index(at+".ports", i)
		m.port(here+".external", p.External)
		m.port(here+".container", p.Container)
		m.oneOf(here+".kind", p.Kind, component.KindTCP, component.KindHTTP)
		m.kindFields(here, p)
		m.match(here+".match", p.Match)
		m.tls(here+".tls", p.TLS)
		m.oneOf(here+".upstream", p.Upstream, component.UpstreamHTTP1, component.UpstreamH2C)
		m.count(here+".maxConns", p.MaxConns)
		m.count(here+".maxConnsPerClient", p.MaxConnsPerClient)
		m.prefixes(here+".proxyProtocol.from", p.ProxyProtocol.From)
		m.oneOf(here+".proxyProtocol.to", p.ProxyProtocol.To, component.ProxyV1, component.ProxyV2)
		m.prefixes(here+".trusted", p.Trusted)
		m.hostPath(here+".pages", p.Pages)
		http = http || p.Kind == component.KindHTTP
	}
	if s.Maintenance && !http {
		m.add(at+".maintenance", "means nothing without a port of kind http: there is nobody to tell")
	}
}

func (m *mistakes) port(path string, port int) {
	if port < 1 || port > math.MaxUint16 {
		m.add(path, "%d is not a port", port)
	}
}

// kindFields reports fields that mean nothing for the kind of p.
func (m *mistakes) kindFields(at string, p component.Port) {
	kind := or(p.Kind, component.KindTCP)
	if !knownKind(kind) {
		return // it is told, and nobody knows what was meant
	}
	only := func(field, of string, set bool) {
		if here := at + "." + field; (set || m.has(here)) && kind != of {
			m.add(here, "%s means nothing for a port of kind %s", field, kind)
		}
	}
	only("match.hosts", component.KindHTTP, len(p.Match.Hosts) > 0)
	only("match.path", component.KindHTTP, p.Match.Path != "")
	only("match.sni", component.KindTCP, len(p.Match.SNI) > 0)
	only("tls", component.KindHTTP, !p.TLS.IsZero())
	only("upstream", component.KindHTTP, p.Upstream != "")
	only("trusted", component.KindHTTP, len(p.Trusted) > 0)
	only("pages", component.KindHTTP, p.Pages != "")
	only("idleTimeout", component.KindTCP, p.IdleTimeout != 0)
	only("lingerTimeout", component.KindTCP, p.LingerTimeout != 0)
	only("proxyProtocol.to", component.KindTCP, p.ProxyProtocol.To != "")
}

func knownKind(kind string) bool { return kind == component.KindTCP || kind == component.KindHTTP }

func (m *mistakes) match(at string, match component.Match) {
	m.hosts(at+".hosts", match.Hosts)
	m.hosts(at+".sni", match.SNI)
	if m.has(at) && match.IsZero() {
		m.add(at, "names nothing: give it hosts, path or sni, or leave it out")
	}
	switch p := match.Path; {
	case p == "" && !m.has(at+".path"):
	case !strings.HasPrefix(p, "/"):
		m.add(at+".path", "%s does not start with \"/\"", short(p))
	case strings.ContainsAny(p, "?#%*\\;\"<>^`{|}"):
		m.add(at+".path", "%s holds more than a path: it is compared as it is, without query, escapes or wildcards", short(p))
	case path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/":
		m.add(at+".path", "%s holds an empty part, \".\" or \"..\", which no request has", short(p))
	default:
		m.urlPath(at+".path", p)
	}
}

func (m *mistakes) hosts(at string, names []string) {
	first := map[string]int{}
	for i, name := range names {
		here := index(at, i)
		if why := badHost(name); why != "" {
			m.add(here, "%s is not a host name such as a.example or *.example.org%s", short(name), why)
			continue
		}
		if before, twice := first[lower(name)]; twice {
			m.add(here, "%s is given twice, first by %s", short(name), index(at, before))
			continue
		}
		first[lower(name)] = i
	}
}

// lower is the form in which two spellings of a host name are the same.
func lower(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// badHost says what is wrong with the name of a host or a pattern of names, or nothing.
func badHost(name string) string {
	name = strings.TrimSuffix(name, ".")
	plain, wild := strings.CutPrefix(name, "*.")
	last := plain[strings.LastIndexByte(plain, '.')+1:]
	_, err := netip.ParseAddr(name)
	switch {
	case strings.ContainsFunc(name, func(r rune) bool { return r > '~' }):
		return ": letters of other alphabets are written in their xn-- form"
	case strings.Contains(name, ":") || strings.Contains(name, "/"):
		return ": neither port, address in brackets nor URL"
	case strings.Contains(plain, "*"):
		return ": a * stands for the first label as a whole"
	case !hostRegexp.MatchString(name), len(name) > longest:
		return `: labels of letters, digits, "-" and "_", at most 63 each`
	case numberRegexp.MatchString(last) && (err != nil || wild):
		return ": it ends in a number and is no address"
	}
	return ""
}

func (m *mistakes) tls(at string, t component.TLS) {
	if m.has(at) && len(t.Certs) == 0 {
		m.add(at+".certs", "TLS needs a certificate: a list of cert and key, at least one")
	}
	first := map[string]int{}
	for i, pair := range t.Certs {
		here := index(at+".certs", i)
		m.required(here, "cert", pair.Cert, "certificate")
		m.required(here, "key", pair.Key, "certificate")
		m.hostPath(here+".cert", pair.Cert)
		m.hostPath(here+".key", pair.Key)
		if before, twice := first[pair.Cert]; twice && pair.Cert != "" {
			m.add(here+".cert", "%s is given twice, first by %s", short(pair.Cert), index(at+".certs", before))
			continue
		}
		first[pair.Cert] = i
	}
}

// hostPath checks the path of a file or directory on the host. Whether it is there only that host knows.
func (m *mistakes) hostPath(at, p string) {
	if p != "" && !path.IsAbs(p) {
		m.add(at, "%s is not an absolute path", short(p))
	}
}

func (m *mistakes) count(at string, n int) {
	if n < 0 || n > mostConns {
		m.add(at, "%d is out of range: 0 to %d", n, mostConns)
	}
}

func (m *mistakes) prefixes(at string, texts []string) {
	for i, text := range texts {
		p, err := netip.ParsePrefix(text)
		if addr, noPrefix := netip.ParseAddr(text); noPrefix == nil && addr.Zone() == "" {
			m.add(index(at, i), "%s is one address: write it as %s/%d", short(text), text, addr.BitLen())
			continue
		}
		switch {
		case err != nil:
			m.add(index(at, i), "%s is not a range of addresses such as 10.0.0.0/8", short(text))
		case p != p.Masked():
			m.add(index(at, i), "%s is not the start of its range: write %s", short(text), p.Masked())
		}
	}
}

// A taker is a port that takes some of what comes to an external port.
type taker struct {
	path string
	name string // of its component
	port component.Port
}

// String is the taker in a message about another one.
func (t taker) String() string { return fmt.Sprintf("%s, of component %s", t.path, short(t.name)) }

// sharedPorts reports ports that cannot share their external port with one before them.
func (m *mistakes) sharedPorts(p component.Project) {
	before := map[int][]taker{}
	for i, s := range p.Components {
		for j, port := range s.Ports {
			t := taker{index(index("components", i)+".ports", j), s.Name, port}
			for _, other := range before[port.External] {
				if m.cannotShare(other, t) {
					break
				}
			}
			before[port.External] = append(before[port.External], t)
		}
	}
}

// cannotShare reports what keeps two ports from sharing their external port, if anything does.
func (m *mistakes) cannotShare(a, b taker) bool {
	external := b.port.External
	kindA, kindB := or(a.port.Kind, component.KindTCP), or(b.port.Kind, component.KindTCP)
	both, clash := clashes(a.port.Match, b.port.Match)
	switch {
	case external == 0: // it is told
		return false
	case kindA != kindB && knownKind(kindA) && knownKind(kindB):
		m.add(b.path+".kind", "external port %d is of kind %s for %s", external, kindA, a)
	case a.port.TLS.IsZero() != b.port.TLS.IsZero():
		m.add(b.path+".tls", "external port %d is to speak TLS for all that share it or for none; see %s", external, a)
	case !sameSet(a.port.ProxyProtocol.From, b.port.ProxyProtocol.From):
		m.add(b.path+".proxyProtocol.from", "external port %d expects PROXY headers from others for %s", external, a)
	case clash && both == "":
		m.add(b.path+".external", "external port %d is taken by %s; a match on both could tell them apart", external, a)
	case clash:
		m.add(b.path+".match", "%s of external port %d is taken by %s", both, external, a)
	default:
		return false
	}
	return true
}

// clashes reports whether something would belong to both, and what; the empty text stands for
// all that no other port takes.
func clashes(a, b component.Match) (both string, clash bool) {
	as, bs := takes(a), takes(b)
	for _, t := range as {
		if slices.Contains(bs, t) {
			return t, true
		}
	}
	return "", false
}

// takes lists what a match takes, each in its one spelling.
func takes(match component.Match) []string {
	names := match.Hosts
	if len(match.SNI) > 0 {
		names = match.SNI
	}
	p := strings.TrimSuffix(match.Path, "/")
	if len(names) == 0 {
		return []string{p}
	}
	var out []string
	for _, n := range names {
		out = append(out, lower(n)+p)
	}
	return out
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
