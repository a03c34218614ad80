// Package pages has the answers that a proxy gives by itself: no target (503), no answer from it (502,
// 504), maintenance.
//
//	s, err := pages.Open("/etc/gantryd/pages") // or "" for the built-in ones
//	p := s.Page(pages.Maintenance, request.Accept)
//	// p.Status, p.ContentType, p.RetryAfter, p.Body
//
// A directory may hold 502.html, 503.html, 504.html and maintenance.html; what is missing is built in.
// Clients that accept HTML by name, as browsers do, get the page; all others one line of text, so that a
// program's log stays readable. Poll reads the files again when they changed; one that became too large or
// cannot be read keeps its old content, and that is logged once.
//
// Page may be called by many at once and neither waits nor allocates. Open and Poll read files; the
// caller polls. It writes no answer: whoever speaks the client's protocol does.
package pages
