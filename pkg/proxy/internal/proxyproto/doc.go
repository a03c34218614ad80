// Package proxyproto reads and writes the header of the PROXY protocol, by which one proxy tells the
// next one whose connection it forwards. Both versions are as in HAProxy's
// doc/proxy-protocol.txt, sections 2.1 and 2.2.
//
// Parse is given what has arrived so far, and says what it still needs:
//
//	h, need, err := proxyproto.Parse(b)
//	switch {
//	case err != nil:        // abort the connection; the error names the mistake
//	case need > 0:          // call again once there are need bytes
//	default: b = b[h.Len:]  // the rest is the client's
//	}
//
// It keeps nothing of b, changes nothing in it, and its answer depends on no byte behind the header. A
// header may come from a listed sender only: whoever may send one chooses its own address.
//
// Of version 2, what follows the addresses (TLVs) is checked for its lengths and otherwise skipped,
// except the checksum, which is verified when there is one.
//
// All functions are pure.
package proxyproto
