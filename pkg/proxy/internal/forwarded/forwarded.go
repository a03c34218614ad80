package forwarded

import (
	"net/netip"
	"strconv"
	"strings"
)

// A Kind is what a header has to do with the origin of a request.
type Kind uint8

// The kinds. Those from Forwarded on are given to Heard.
const (
	None      Kind = iota // nothing
	Alias                 // a spelling that some programs read as one of ours
	Other                 // X-Forwarded-… that we do not set
	Forwarded             // Forwarded
	For                   // X-Forwarded-For
	Host                  // X-Forwarded-Host
	Proto                 // X-Forwarded-Proto
	Port                  // X-Forwarded-Port
	RealIP                // X-Real-IP
	kinds
)

const prefix = "x-forwarded-"

// Classify says what the name of a header, however it is spelled, has to do with the origin.
func Classify[S string | []byte](name S) Kind {
	if len(name) < len("forwarded") || name[0]|0x20 != 'f' && name[0]|0x20 != 'x' {
		return None // most of them, for nothing
	}
	score := false
	for i := range len(name) {
		score = score || name[i] == '_'
	}
	kind := classify(name)
	if kind != None && score {
		return Alias
	}
	return kind
}

// classify reads an underscore as a dash.
func classify[S string | []byte](name S) Kind {
	switch {
	case spells(name, "forwarded"):
		return Forwarded
	case spells(name, "x-real-ip"):
		return RealIP
	case len(name) < len(prefix) || !spells(name[:len(prefix)], prefix):
		return None
	}
	switch rest := name[len(prefix):]; {
	case spells(rest, "for"):
		return For
	case spells(rest, "host"):
		return Host
	case spells(rest, "proto"):
		return Proto
	case spells(rest, "port"):
		return Port
	}
	return Other
}

// spells reports whether name is want, which is lower case with dashes.
func spells[S string | []byte](name S, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(want) {
		c := name[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		case c == '_':
			c = '-'
		}
		if c != want[i] {
			return false
		}
	}
	return true
}

// An Origin is where one request came from. The zero value knows nothing and says nothing.
type Origin struct {
	Client netip.AddrPort // of the connection, or of the PROXY header in front of it
	Local  netip.AddrPort // that the client connected to
	Host   string         // as the client asked, with the port if it gave one
	TLS    bool           // to us
	// Trusted are the proxies that may speak for others; used only for X-Real-IP after Heard.
	Trusted []netip.Prefix

	heard [kinds]string
}

// Trusts reports whether one of the prefixes contains the address.
func Trusts(prefixes []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Heard notes what a trusted client says. Several headers of one name are a list; of those that are
// none the first counts.
func (o *Origin) Heard(k Kind, value string) {
	value = strings.Trim(value, " \t")
	switch {
	case k < Forwarded || k >= kinds || value == "":
	case o.heard[k] == "":
		o.heard[k] = value
	case k == Forwarded || k == For:
		o.heard[k] += ", " + value
	}
}

// AppendLines appends the headers to a head: lines that end in CR LF.
func (o *Origin) AppendLines(b []byte) []byte {
	for k := Forwarded; k < kinds; k++ {
		was := len(b)
		b = append(append(b, k.Name()...), ": "...)
		value := len(b)
		if b = o.AppendValue(b, k); len(b) == value {
			b = b[:was]
			continue
		}
		b = append(b, "\r\n"...)
	}
	return b
}

// Name is the canonical name of a header that is set; empty for the other kinds.
func (k Kind) Name() string {
	switch k {
	case Forwarded:
		return "Forwarded"
	case For:
		return "X-Forwarded-For"
	case Host:
		return "X-Forwarded-Host"
	case Proto:
		return "X-Forwarded-Proto"
	case Port:
		return "X-Forwarded-Port"
	case RealIP:
		return "X-Real-Ip"
	default:
		return ""
	}
}

// Each calls set with every header.
func (o *Origin) Each(set func(name, value string)) {
	var buf [256]byte
	for k := Forwarded; k < kinds; k++ {
		if b := o.AppendValue(buf[:0], k); len(b) > 0 {
			set(k.Name(), string(b))
		}
	}
}

// AppendValue appends the value of one header; nothing when there is nothing to say.
func (o *Origin) AppendValue(b []byte, k Kind) []byte {
	client := o.Client.Addr().Unmap().WithZone("")
	switch said := o.heard[k]; {
	case k == Forwarded:
		return o.element(list(b, said), client)
	case k == For && client.IsValid():
		return client.AppendTo(list(b, said))
	case k == RealIP:
		return o.realIP(b, client)
	case said != "":
		return append(b, said...)
	case k == Host:
		return append(b, o.Host...)
	case k == Proto:
		return append(b, o.scheme()...)
	case k == Port && o.Local.IsValid():
		return strconv.AppendUint(b, uint64(o.Local.Port()), 10)
	}
	return b
}

func (o *Origin) scheme() string {
	if o.TLS {
		return "https"
	}
	return "http"
}

// list begins with what others said.
func list(b []byte, said string) []byte {
	if said == "" {
		return b
	}
	return append(append(b, said...), ", "...)
}

// element appends what we know in the form of RFC 7239, section 4.
func (o *Origin) element(b []byte, client netip.Addr) []byte {
	switch {
	case client.Is6():
		b = append(client.AppendTo(append(b, `for="[`...)), `]"`...)
	case client.IsValid():
		b = client.AppendTo(append(b, "for="...))
	default:
		b = append(b, "for=unknown"...)
	}
	if o.Host != "" {
		b = append(b, ";host="...)
		b = appendQuoted(b, o.Host)
	}
	return append(append(b, ";proto="...), o.scheme()...)
}

// appendQuoted appends s as a token if it is one, else as a quoted string.
func appendQuoted(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		c := s[i]
		plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_')
	}
	if plain {
		return append(b, s...)
	}
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// realIP appends the address that the request came from, as far as those we trust can be believed.
func (o *Origin) realIP(b []byte, client netip.Addr) []byte {
	rest, last := o.heard[For], ""
	for rest != "" {
		i := strings.LastIndexByte(rest, ',')
		hop := strings.Trim(rest[i+1:], " \t")
		rest = rest[:max(i, 0)]
		a, ok := address(hop)
		if !ok {
			break // nobody before it can be believed
		}
		last = hop
		if !Trusts(o.Trusted, a) {
			break
		}
	}
	if a, ok := address(last); ok {
		return a.AppendTo(b)
	}
	if a, ok := address(o.heard[RealIP]); ok && o.heard[For] == "" {
		return a.AppendTo(b)
	}
	if client.IsValid() {
		return client.AppendTo(b)
	}
	return b
}

// address reads an address as X-Forwarded-For may hold it: alone, or with a port.
func address(s string) (netip.Addr, bool) {
	if s == "" {
		return netip.Addr{}, false
	}
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	ap, err := netip.ParseAddrPort(s)
	return ap.Addr().Unmap().WithZone(""), err == nil
}
