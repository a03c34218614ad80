// Package certs gives TLS servers their certificates: from files, by the name that a client asks for,
// and the new ones when the files change.
//
//	s := certs.NewStore(log)
//	choice, err := s.Use([]certs.Pair{{Cert: "site.pem", Key: "site.key"}})
//	config := certs.Config(choice)
//	for range ticker.C { s.Poll(time.Now()) }
//
// Exact names come before wildcards, and a client that names nobody we know gets the first pair: what
// it then says to its user is better than a closed connection. Among several pairs for one name (RSA
// and ECDSA) the first that the client can use is taken.
//
// A pair is swapped as a whole, and only for one that works: when the new files are broken, or only
// one of the two is there yet, the old pair stays, and the reason is logged once it has lasted for some
// polls. Connections that are open are not touched.
//
// All methods may be called at once. Nothing here runs by itself: the caller polls. Certificate, which
// every handshake calls, neither waits nor reads a file.
//
// It knows no ACME. Whoever brings it implements Source.
package certs
