package proxyproto

import (
	"errors"
	"fmt"
	"net/netip"
)

// MaxLen is the longest header that is read, in bytes: what no sender exceeds without putting whole
// certificates into it.
const MaxLen = 16 << 10

// Versions of the header.
const (
	V1 = 1 // a line of text
	V2 = 2 // binary
)

// A Header says whose connection is forwarded.
type Header struct {
	Version int // V1 or V2
	// Source is the client and Destination what it connected to. Both are the zero AddrPort when the
	// header has no address that could be used (LOCAL, UNKNOWN, UNSPEC, a unix socket): the
	// connection's own addresses hold then. An IPv4 address is never in its IPv6 form.
	Source, Destination netip.AddrPort
	Len                 int // of the header, in bytes
}

// How each version begins. No protocol that is in use begins so.
const (
	prefix1 = "PROXY "
	prefix2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// Parse reads the header at the beginning of b. As long as b ends within it, need is the number of
// bytes that b must have at least before another call can say more. An error is final: no bytes that
// follow make the header right.
func Parse(b []byte) (h Header, need int, err error) {
	switch {
	case len(b) == 0:
		return Header{}, 1, nil
	case b[0] == prefix1[0]:
		h, need, err = parse1(b)
	default:
		h, need, err = parse2(b)
	}
	if err != nil {
		return Header{}, 0, fmt.Errorf("read PROXY header: %w", err)
	}
	h.Source, h.Destination = unmap(h.Source), unmap(h.Destination)
	return h, need, nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// expect says how far b agrees with prefix: need is 0 if it has all of it.
func expect(b []byte, prefix string) (need int, err error) {
	n := min(len(b), len(prefix))
	if string(b[:n]) != prefix[:n] {
		return 0, fmt.Errorf("the connection begins with %q", b[:min(len(b), 16)])
	}
	if n < len(prefix) {
		return len(prefix), nil
	}
	return 0, nil
}

// errVersion is a mistake of the caller.
var errVersion = errors.New("version is neither 1 nor 2")

// Append appends the header of that version for a connection from source to destination. When one of
// them is not valid the header has no addresses. An IPv4 address next to an IPv6 one
// is written as the IPv6 address that maps it.
func Append(b []byte, version int, source, destination netip.AddrPort) ([]byte, error) {
	source, destination = align(source, destination)
	switch version {
	case V1:
		return append1(b, source, destination), nil
	case V2:
		return append2(b, source, destination), nil
	}
	return b, fmt.Errorf("write PROXY header: %w", errVersion)
}

// align gives both the same family and no zones, or makes both invalid.
func align(source, destination netip.AddrPort) (s, d netip.AddrPort) {
	if !source.IsValid() || !destination.IsValid() {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	from, to := source.Addr().Unmap().WithZone(""), destination.Addr().Unmap().WithZone("")
	if from.Is4() != to.Is4() {
		from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
	}
	return netip.AddrPortFrom(from, source.Port()), netip.AddrPortFrom(to, destination.Port())
}
