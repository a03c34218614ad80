// Package hostname decides which of several host name patterns a name belongs to.
//
// A pattern is a name (www.example.org), an IP address, or a wildcard for exactly one label
// (*.example.org). Routes of HTTP requests by host and of TLS connections by SNI use the same
// patterns, so that a name means the same to both:
//
//	var routes hostname.Map[*route]
//	p, err := hostname.ParsePattern("*.example.org")
//	routes.Add(p, r)
//	name, err := hostname.Normalize("WWW.example.org.")
//	r, ok := routes.Find(name)
//
// The most specific pattern wins: a name before the wildcard that would match it too. Names are
// compared without regard to case and to one dot at the end. Names outside ASCII are refused: on
// the wire they are written in their xn-- form, and a pattern should show what is compared.
//
// All functions are pure. A Map may be read by many at once, and is not changed once it is in use.
package hostname
