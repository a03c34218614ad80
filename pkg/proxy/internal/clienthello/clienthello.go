package clienthello

import (
	"errors"
	"fmt"
)

// MaxLen is how many bytes, with the headers of the records, are read for a ClientHello. Those of today have 0.2 to 2 KiB.
const MaxLen = 16 << 10

// A Hello is what a client says first.
type Hello struct {
	ServerName string // normalized; empty when the client named none
	protocols  string // as on the wire: each with its length before it
}

// Protocols are the application protocols (ALPN) that the client offers, its favourite first.
func (h Hello) Protocols() []string {
	var all []string
	for rest := h.protocols; rest != ""; {
		n := int(rest[0])
		all = append(all, rest[1:1+n])
		rest = rest[1+n:]
	}
	return all
}

// ErrNotTLS is the answer to bytes that do not begin a TLS connection.
var ErrNotTLS = errors.New("the connection does not begin with TLS")

// Parse reads the ClientHello at the beginning of b. As long as b ends within it, need is the number
// of bytes that b must have at least before another call can say more. An error is final: no bytes that
// follow make it right.
func Parse(b []byte) (h Hello, need int, err error) {
	message, need, err := handshake(b)
	if err == nil && need == 0 {
		h, err = parseHello(message)
	}
	switch {
	case errors.Is(err, ErrNotTLS):
		return Hello{}, 0, ErrNotTLS
	case err != nil:
		return Hello{}, 0, fmt.Errorf("read TLS ClientHello: %w", err)
	}
	return h, need, nil
}
