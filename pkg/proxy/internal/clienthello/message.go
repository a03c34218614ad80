package clienthello

import (
	"errors"
	"fmt"

	"github.com/gantryd/gantryd/pkg/proxy/internal/hostname"
)

// Parts of the message, RFC 8446 section 4.1.2, and numbers of extensions.
const (
	randomLen    = 32
	maxSessionID = 32

	extServerName   = 0
	extALPN         = 16
	extPreSharedKey = 41

	nameTypeHost = 0
)

// Mistakes in the message.
var (
	errTruncated = errors.New("a length says more than there is")
	errTrailing  = errors.New("a length says less than there is")
	errVersion   = errors.New("the version is none of TLS")
	errParameter = errors.New("the session ID, cipher suites or compression methods are malformed")
	errOrder     = errors.New("the pre-shared key is not the last extension")
	errEmptyList = errors.New("is an empty list")
	errEmptyItem = errors.New("has an empty entry")
	errTwoNames  = errors.New("has two host names")
)

// parseHello reads the contents of the message.
func parseHello(message []byte) (Hello, error) {
	r := reader{rest: message}
	version := r.take(2)
	r.take(randomLen)
	session := r.list8()
	suites := r.list16()
	compression := r.list8()
	switch {
	case r.short:
		return Hello{}, errTruncated
	case version[0] != recordVersion:
		return Hello{}, errVersion
	case len(session) > maxSessionID, len(suites) == 0, len(suites)%2 != 0, len(compression) == 0:
		return Hello{}, errParameter
	case len(r.rest) == 0:
		return Hello{}, nil // before TLS 1.2, extensions were optional
	}
	extensions := r.list16()
	if err := r.end(); err != nil {
		return Hello{}, err
	}
	return parseExtensions(extensions)
}

func parseExtensions(list []byte) (h Hello, err error) {
	var seen [1 << 16 / 64]uint64 // a set of all there may be
	for r := (reader{rest: list}); len(r.rest) > 0; {
		kind := r.uint16()
		body := r.list16()
		switch {
		case r.short:
			return Hello{}, errTruncated
		case seen[kind/64]&(1<<(kind%64)) != 0:
			return Hello{}, fmt.Errorf("extension %d is there twice", kind)
		case kind == extPreSharedKey && len(r.rest) > 0:
			return Hello{}, errOrder
		}
		seen[kind/64] |= 1 << (kind % 64)
		switch kind {
		case extServerName:
			if h.ServerName, err = parseServerName(body); err != nil {
				return Hello{}, fmt.Errorf("server name: %w", err)
			}
		case extALPN:
			if h.protocols, err = parseProtocols(body); err != nil {
				return Hello{}, fmt.Errorf("application protocols: %w", err)
			}
		}
	}
	return h, nil
}

// parseServerName reads RFC 6066, section 3. Types of names other than a host's do not exist.
func parseServerName(body []byte) (string, error) {
	list, err := only(body)
	if err != nil {
		return "", err
	}
	var name string
	for r := (reader{rest: list}); len(r.rest) > 0; {
		kind := r.take(1)
		value := r.list16()
		switch {
		case r.short:
			return "", errTruncated
		case kind[0] != nameTypeHost:
			continue
		case name != "":
			return "", errTwoNames
		}
		if name, err = hostname.Normalize(string(value)); err != nil {
			return "", err
		}
	}
	return name, nil
}

// parseProtocols reads RFC 7301, section 3.1, and returns the list as it is.
func parseProtocols(body []byte) (string, error) {
	list, err := only(body)
	if err != nil {
		return "", err
	}
	for r := (reader{rest: list}); len(r.rest) > 0; {
		protocol := r.list8()
		switch {
		case r.short:
			return "", errTruncated
		case len(protocol) == 0:
			return "", errEmptyItem
		}
	}
	return string(list), nil
}

// only returns the list that body consists of.
func only(body []byte) ([]byte, error) {
	r := reader{rest: body}
	list := r.list16()
	if err := r.end(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errEmptyList
	}
	return list, nil
}

// A reader takes bytes from the front. When there are too few it becomes short, and what it returned
// then means nothing.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.short, r.rest = true, nil
		return make([]byte, min(n, 2)) // enough for whoever looks at numbers before he looks at short
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) uint16() int {
	b := r.take(2)
	return int(b[0])<<8 | int(b[1])
}

// list8 and list16 take what follows after its length in one or two bytes.
func (r *reader) list8() []byte  { return r.take(int(r.take(1)[0])) }
func (r *reader) list16() []byte { return r.take(r.uint16()) }

// end returns an error unless exactly everything was taken.
func (r *reader) end() error {
	switch {
	case r.short:
		return errTruncated
	case len(r.rest) > 0:
		return errTrailing
	}
	return nil
}
