// Package clienthello reads which server a TLS client asks for, out of the first bytes that it sends.
//
// A proxy that passes TLS through to one of several targets needs the server name (SNI, RFC 6066) before it knows
// where the bytes go. Parse is given what has arrived so far, and says what it still needs:
//
//	hello, need, err := clienthello.Parse(b)
//	switch {
//	case errors.Is(err, clienthello.ErrNotTLS): // seen at the first byte or two
//	case err != nil: // a client that speaks TLS wrongly; abort the connection
//	case need > 0:   // call again once there are need bytes
//	default:         // hello.ServerName, which may be empty
//	}
//
// It keeps nothing of b and changes nothing in it; the target gets to read the very same bytes. The message may be
// spread over several records. Lengths must agree exactly, and what RFC 8446 forbids in a
// ClientHello in a way that makes two readers see two names (an extension twice, two
// host names, bytes behind the message) is refused: what the proxy routes by is what the target
// sees. Values that mean nothing (GREASE) are skipped. With Encrypted ClientHello the name is the outer one,
// which is meant to be routed by.
//
// All functions are pure.
package clienthello
