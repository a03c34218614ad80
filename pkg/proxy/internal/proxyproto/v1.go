package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxLine is the longest header of version 1, with its CR LF.
const maxLine = 107

// Mistakes in a line.
var (
	errLine  = fmt.Errorf("no end of the line within %d bytes", maxLine)
	errCR    = errors.New("a CR without LF")
	errLF    = errors.New("a LF without CR")
	errParts = errors.New("not five words with one space between them")
)

func parse1(b []byte) (h Header, need int, err error) {
	if need, err := expect(b, prefix1); need > 0 || err != nil {
		return Header{}, need, err
	}
	line := b[:min(len(b), maxLine)]
	end := bytes.IndexAny(line, "\r\n")
	switch {
	case end < 0 && len(line) == maxLine, end == maxLine-1:
		return Header{}, 0, errLine
	case end < 0:
		return Header{}, len(b) + 1, nil
	case line[end] == '\n':
		return Header{}, 0, errLF
	case end+1 == len(line):
		return Header{}, len(b) + 1, nil
	case line[end+1] != '\n':
		return Header{}, 0, errCR
	}
	h = Header{Version: V1, Len: end + 2}
	h.Source, h.Destination, err = parseLine(string(line[len(prefix1):end]))
	return h, 0, err
}

// parseLine reads what is between "PROXY " and the end of the line.
func parseLine(line string) (source, destination netip.AddrPort, err error) {
	family, rest, _ := strings.Cut(line, " ")
	if family == "UNKNOWN" {
		return source, destination, nil // whatever follows has no meaning
	}
	if family != "TCP4" && family != "TCP6" {
		return source, destination, fmt.Errorf("family %q is none of TCP4, TCP6, UNKNOWN", family)
	}
	words := strings.Split(rest, " ")
	if len(words) != 4 {
		return source, destination, errParts
	}
	if source, err = parseEnd(family, words[0], words[2]); err != nil {
		return netip.AddrPort{}, destination, fmt.Errorf("source: %w", err)
	}
	if destination, err = parseEnd(family, words[1], words[3]); err != nil {
		return netip.AddrPort{}, destination, fmt.Errorf("destination: %w", err)
	}
	return source, destination, nil
}

func parseEnd(family, addr, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Is4() != (family == "TCP4") || a.Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address of %s", addr, family)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, fmt.Errorf("%q is not a port", port)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}

func append1(b []byte, source, destination netip.AddrPort) []byte {
	if !source.IsValid() {
		return append(b, prefix1+"UNKNOWN\r\n"...)
	}
	family := "TCP6 "
	if source.Addr().Is4() {
		family = "TCP4 "
	}
	b = append(b, prefix1+family...)
	b = appendAddr1(b, source.Addr())
	b = append(b, ' ')
	b = appendAddr1(b, destination.Addr())
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(source.Port()), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(destination.Port()), 10)
	return append(b, '\r', '\n')
}

// appendAddr1 writes an IPv6 address in hexadecimal only, also one that maps an IPv4 address: the
// protocol knows no dots in it.
func appendAddr1(b []byte, a netip.Addr) []byte {
	if !a.Is4In6() {
		return a.AppendTo(b)
	}
	v4 := a.Unmap().As4()
	return fmt.Appendf(b, "::ffff:%x:%x", uint(v4[0])<<8|uint(v4[1]), uint(v4[2])<<8|uint(v4[3]))
}
