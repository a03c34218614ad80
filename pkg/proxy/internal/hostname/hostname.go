package hostname

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Limits of RFC 1035, section 2.3.4, without the dot at the end.
const (
	maxName  = 253
	maxLabel = 63
)

// Normalize returns the one spelling that names are compared in: lower case, without the dot at the
// end; of an IP address (without brackets) the canonical form. It refuses what is not a host
// name: labels of 1 to 63 letters, digits, hyphens and underscores, at most 253 bytes together.
func Normalize(name string) (string, error) {
	short := strings.TrimSuffix(name, ".")
	if err := check(short); err != nil {
		if addr, ok := parseAddr(name); ok {
			return addr, nil
		}
		return "", fmt.Errorf("host name %q: %w", clip(name), err)
	}
	return strings.ToLower(short), nil
}

// FromAuthority returns the normalized host name of an HTTP Host header or :authority, which is a name, an IPv4
// address or an IPv6 address in brackets, and may be followed by a port. The port is 0 if there is none.
func FromAuthority(authority string) (name string, port uint16, err error) {
	host, rest := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		host, rest = authority[:i], authority[i+1:]
		if port, err = parsePort(rest); err != nil {
			return "", 0, fmt.Errorf("authority %q: %w", clip(authority), err)
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !closed || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", 0, fmt.Errorf("authority %q: no IPv6 address in the brackets", clip(authority))
		}
		return addr.String(), port, nil
	}
	if strings.Contains(host, ":") {
		return "", 0, fmt.Errorf("authority %q: an IPv6 address needs brackets", clip(authority))
	}
	name, err = Normalize(host)
	return name, port, err
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return uint16(n), nil
}

// The mistakes that a name can contain.
var (
	errEmpty     = errors.New("is empty")
	errLong      = fmt.Errorf("is longer than %d bytes", maxName)
	errNoLabel   = errors.New("has an empty label")
	errLongLabel = fmt.Errorf("has a label longer than %d bytes", maxLabel)
	errNumeric   = errors.New("ends in a number and is not an IPv4 address")
)

// check accepts names and IPv4 addresses, not IPv6.
func check(name string) error {
	switch {
	case name == "":
		return errEmpty
	case len(name) > maxName:
		return errLong
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return err
		}
		last = label
	}
	// Browsers and resolvers read such a name as an address (0x7f.1, 127.1), each by its own rules.
	if strings.Trim(last, "0123456789") == "" {
		if _, ok := parseAddr(name); !ok {
			return errNumeric
		}
	}
	return nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return errNoLabel
	case len(label) > maxLabel:
		return errLongLabel
	}
	for i := range len(label) {
		if c := label[i]; !allowed(c) {
			if c >= 0x80 {
				return errors.New("is not ASCII; write it in its xn-- form")
			}
			return fmt.Errorf("contains %q", c)
		}
	}
	return nil
}

func allowed(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// parseAddr returns the canonical form of an IP address without a zone.
func parseAddr(s string) (string, bool) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return "", false
	}
	return addr.String(), true
}

// clip shortens what a stranger sent, for an error that is logged.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
