package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// fixed is the part of a version 2 header that is always there: signature, version and command,
// family and protocol, length of the rest.
const fixed = len(prefix2) + 4

// Commands: the lower half of the 13th byte.
const (
	cmdLocal = 0
	cmdProxy = 1
)

// Address families: the upper half of the 14th byte. Its lower half is the protocol, of which
// 0 (unspecified), 1 (stream) and 2 (datagram) exist.
const (
	familyUnspec = 0
	familyIPv4   = 1
	familyIPv6   = 2
	familyUnix   = 3

	maxProtocol = 2
)

// addressLen is how many bytes the addresses of a family have.
func addressLen(family byte) int {
	switch family {
	case familyIPv4:
		return 2*4 + 2*2
	case familyIPv6:
		return 2*16 + 2*2
	case familyUnix:
		return 2 * 108
	}
	return 0
}

func parse2(b []byte) (h Header, need int, err error) {
	if need, err := expect(b, prefix2); need > 0 || err != nil {
		return Header{}, need, err
	}
	if len(b) < fixed {
		// Version and command are judged as soon as they are there, as everything is.
		if len(b) > len(prefix2) {
			err = checkCommand(b[len(prefix2)])
		}
		return Header{}, fixed, err
	}
	command, kind := b[len(prefix2)], b[len(prefix2)+1]
	if err := checkCommand(command); err != nil {
		return Header{}, 0, err
	}
	n := fixed + int(binary.BigEndian.Uint16(b[fixed-2:fixed]))
	if n > MaxLen {
		return Header{}, 0, fmt.Errorf("it has %d bytes, at most %d are read", n, MaxLen)
	}
	h = Header{Version: V2, Len: n}
	if command&0xf == cmdLocal {
		// Family and contents are to be ignored.
		if len(b) < n {
			return Header{}, n, nil
		}
		return h, 0, nil
	}
	if err := checkKind(kind, n-fixed); err != nil {
		return Header{}, 0, err
	}
	if len(b) < n {
		return Header{}, n, nil
	}
	if err := h.proxied(b[:n], kind); err != nil {
		return Header{}, 0, err
	}
	return h, 0, nil
}

func checkCommand(c byte) error {
	if v := c >> 4; v != V2 {
		return fmt.Errorf("version %d is not 2", v)
	}
	if c&0xf > cmdProxy {
		return fmt.Errorf("command %d is neither LOCAL nor PROXY", c&0xf)
	}
	return nil
}

// checkKind judges family and protocol, and whether n bytes are enough for their addresses.
func checkKind(kind byte, n int) error {
	family, protocol := kind>>4, kind&0xf
	switch {
	case family > familyUnix:
		return fmt.Errorf("address family %d does not exist", family)
	case protocol > maxProtocol:
		return fmt.Errorf("transport protocol %d does not exist", protocol)
	case protocol != 0 && n < addressLen(family):
		return fmt.Errorf("%d bytes are too few for the addresses of family %d", n, family)
	}
	return nil
}

// proxied reads a whole header with the command PROXY.
func (h *Header) proxied(b []byte, kind byte) error {
	family, protocol := kind>>4, kind&0xf
	if family == familyUnspec || protocol == 0 {
		return nil // the lengths of what follows are not known
	}
	block := b[fixed:]
	switch family {
	case familyIPv4:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(block[0:4])), binary.BigEndian.Uint16(block[8:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte(block[4:8])), binary.BigEndian.Uint16(block[10:]))
	case familyIPv6:
		h.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(block[0:16])), binary.BigEndian.Uint16(block[32:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom16([16]byte(block[16:32])), binary.BigEndian.Uint16(block[34:]))
	}
	return checkTLVs(b, fixed+addressLen(family))
}

// typeCRC32C is the TLV with the checksum of the header.
const typeCRC32C = 0x03

var (
	errChecksumLen   = errors.New("the checksum does not have 4 bytes")
	errChecksumTwice = errors.New("it has two checksums")
	errChecksum      = errors.New("the checksum is wrong")
)

// checkTLVs walks over the TLVs, which begin at byte at and end with b, and verifies the checksum
// if one of them is that.
func checkTLVs(b []byte, at int) error {
	sum := 0 // where the checksum is
	for at < len(b) {
		if len(b)-at < 3 {
			return fmt.Errorf("%d bytes at its end are no TLV", len(b)-at)
		}
		kind, n := b[at], int(binary.BigEndian.Uint16(b[at+1:]))
		at += 3
		if n > len(b)-at {
			return fmt.Errorf("TLV of type %#x has %d bytes, %d are left", kind, n, len(b)-at)
		}
		if kind == typeCRC32C {
			switch {
			case n != crc32.Size:
				return errChecksumLen
			case sum != 0:
				return errChecksumTwice
			}
			sum = at
		}
		at += n
	}
	if sum != 0 && binary.BigEndian.Uint32(b[sum:]) != checksum(b, sum) {
		return errChecksum
	}
	return nil
}

// checksum is the CRC32c of b with four zeros at position at.
func checksum(b []byte, at int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	var zeros [crc32.Size]byte
	c := crc32.Update(0, table, b[:at])
	c = crc32.Update(c, table, zeros[:])
	return crc32.Update(c, table, b[at+crc32.Size:])
}

func append2(b []byte, source, destination netip.AddrPort) []byte {
	b = append(b, prefix2...)
	if !source.IsValid() {
		return append(b, V2<<4|cmdLocal, familyUnspec<<4, 0, 0)
	}
	const stream = 1
	family := byte(familyIPv6)
	if source.Addr().Is4() {
		family = familyIPv4
	}
	b = append(b, V2<<4|cmdProxy, family<<4|stream)
	b = binary.BigEndian.AppendUint16(b, uint16(addressLen(family)))
	if family == familyIPv4 {
		from, to := source.Addr().As4(), destination.Addr().As4()
		b = append(append(b, from[:]...), to[:]...)
	} else {
		from, to := source.Addr().As16(), destination.Addr().As16()
		b = append(append(b, from[:]...), to[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, source.Port())
	return binary.BigEndian.AppendUint16(b, destination.Port())
}
