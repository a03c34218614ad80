package h1

import "bytes"

// A Framing is how the end of a body is known.
type Framing uint8

// The framings. A request has never UntilClose.
const (
	NoBody Framing = iota
	ByLength
	ByChunks
	UntilClose
)

// A Request is the head of a request.
type Request struct {
	Method []byte
	Target []byte // as it is to be forwarded: the path and the query, or "*"
	Path   []byte // the part of Target that routes look at; see NormalizePath
	Host   []byte // as it came; empty when HTTP/1.0 did not say
	Minor  int    // the 1 of HTTP/1.1
	Fields []Field

	Framing Framing
	Length  int64 // of the body, ByLength

	Close    bool   // the client takes no other answer on this connection
	Upgrade  []byte // the protocol it asks for, nil for none
	Continue bool   // it waits for leave to send the body
	Trailers bool   // it takes trailers

	head, asks bool // what the method is; the buffer may be gone when it is asked
}

// Parse reads a whole head, whose length a Scanner found. On an error the request means nothing.
func (r *Request) Parse(head []byte) error {
	*r = Request{Fields: r.Fields[:0], Length: -1}
	line, rest, ok := cutLine(head)
	if !ok {
		return bad("line does not end with CR LF")
	}
	authority, err := r.parseLine(line)
	if err != nil {
		return err
	}
	if r.Fields, err = parseFields(r.Fields, rest); err != nil {
		return err
	}
	if err := r.findHost(authority); err != nil {
		return err
	}
	if err := r.findBody(); err != nil {
		return err
	}
	return r.findManners()
}

// parseLine reads the first line. It returns the authority when the target has one.
func (r *Request) parseLine(line []byte) (authority []byte, err error) {
	i := bytes.IndexByte(line, ' ')
	j := bytes.LastIndexByte(line, ' ')
	if i < 0 || i == j {
		return nil, bad("first line is not of a request")
	}
	target, version := line[i+1:j], line[j+1:]
	r.Method = line[:i]
	if !isToken(r.Method) || len(r.Method) > 32 {
		return nil, bad("method is not valid")
	}
	switch string(r.Method) {
	case "HEAD":
		r.head, r.asks = true, true
	case "GET", "OPTIONS", "TRACE":
		r.asks = true
	}
	if r.Minor, err = parseVersion(version); err != nil {
		return nil, err
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return nil, bad("character in the target is not valid")
		}
	}
	switch {
	case equal(r.Method, "CONNECT"):
		return nil, Error{405, "CONNECT is not supported"}
	case len(target) > 0 && target[0] == '/':
		return nil, r.setTarget(target)
	case equal(target, "*") && equal(r.Method, "OPTIONS"):
		r.Target, r.Path = target, target
		return nil, nil
	case len(target) > len("http://") && equalFold(target[:len("http://")], "http://"):
		return r.splitURL(target[len("http://"):])
	}
	return nil, bad("target is neither a path nor a URL")
}

func equal(s []byte, t string) bool { return string(s) == t }

func parseVersion(v []byte) (minor int, err error) {
	switch {
	case equal(v, "HTTP/1.1"):
		return 1, nil
	case equal(v, "HTTP/1.0"):
		return 0, nil
	case len(v) == 8 && equal(v[:5], "HTTP/") && isDigit(v[5]) && v[6] == '.' && isDigit(v[7]):
		return 0, Error{505, "version of HTTP is not 1.0 or 1.1"}
	}
	return 0, bad("first line is not of a request")
}

// splitURL reads a target that names the host, without its scheme.
func (r *Request) splitURL(s []byte) (authority []byte, err error) {
	i := bytes.IndexAny(s, "/?")
	if i < 0 {
		i = len(s)
	}
	authority, rest := s[:i], s[i:]
	switch {
	case len(authority) == 0:
		return nil, bad("URL without a host")
	case len(rest) == 0 && equal(r.Method, "OPTIONS"):
		r.Target, r.Path = []byte("*"), nil
	case len(rest) == 0:
		err = r.setTarget([]byte("/"))
	case rest[0] == '?':
		err = r.setTarget(append([]byte("/"), rest...))
	default:
		err = r.setTarget(rest)
	}
	return authority, err
}

// setTarget takes a path with its query. A backslash is read as a slash by some and as itself by
// others, and a percent sign stands for a byte or for nothing.
func (r *Request) setTarget(t []byte) error {
	r.Target = t
	r.Path, _, _ = bytes.Cut(t, []byte("?"))
	for i := 0; i < len(r.Path); i++ {
		switch r.Path[i] {
		case '\\':
			return bad("backslash in the path")
		case '%':
			if _, ok := unescape(r.Path[i:]); !ok {
				return bad("escape in the path is not valid")
			}
			i += 2
		}
	}
	return nil
}

// unescape is the byte that an escape at the beginning of s stands for.
func unescape(s []byte) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	a, ok := hexValue(s[1])
	b, ok2 := hexValue(s[2])
	return a<<4 | b, ok && ok2
}

// NormalizePath gives the path the one form that routes are compared with and that is forwarded: what is
// escaped for no reason is not, in the buffer of the head. A path that could still be read in two
// ways is refused: with "." and ".." as segments, or with an escaped slash, backslash or NUL. Call it where
// the path decides about the target; elsewhere a path is passed on as it came.
func (r *Request) NormalizePath() error {
	if len(r.Path) == 0 || r.Path[0] != '/' {
		return nil
	}
	to := 0
	for from := 0; from < len(r.Path); from++ {
		c := r.Path[from]
		if c == '%' {
			raw, _ := unescape(r.Path[from:])
			switch {
			case raw == '/' || raw == '\\' || raw == 0:
				return bad("path can be read in two ways")
			case unreserved(raw):
				c = raw
				from += 2
			}
		}
		r.Path[to] = c
		to++
	}
	query := r.Target[len(r.Path):]
	n := to + copy(r.Target[to:], query)
	r.Target, r.Path = r.Target[:n], r.Target[:to]
	return checkDots(r.Path)
}

// checkDots refuses segments that mean another place.
func checkDots(path []byte) error {
	for len(path) > 0 {
		path = path[1:] // the slash
		segment := path
		if i := bytes.IndexByte(path, '/'); i >= 0 {
			segment = path[:i]
		}
		path = path[len(segment):]
		if i := bytes.IndexByte(segment, ';'); i >= 0 { // "..;x" is ".." to those who know parameters
			segment = segment[:i]
		}
		if equal(segment, ".") || equal(segment, "..") {
			return bad("path can be read in two ways")
		}
	}
	return nil
}

// unreserved reports whether a character means the same escaped or not.
func unreserved(c byte) bool {
	return has(digitsLow|1<<'-'|1<<'.', lettersHigh|1<<('_'-64)|1<<('~'-64), c)
}

// findHost takes the one Host field, which must agree with the authority if there is one.
func (r *Request) findHost(authority []byte) error {
	seen := false
	for i := range r.Fields {
		if r.Fields[i].id != hostID {
			continue
		}
		if seen {
			return bad("several Host")
		}
		seen = true
		r.Host = r.Fields[i].Value
	}
	if !seen && r.Minor >= 1 {
		return bad("no Host")
	}
	if len(r.Host) > 0 && !validHost(r.Host) {
		return bad("Host is not valid")
	}
	if authority != nil && !bytes.EqualFold(authority, r.Host) {
		return bad("host of the URL is not Host")
	}
	return nil
}

// validHost reports whether h is a name or an IP address, with a port or without.
func validHost(h []byte) bool {
	if len(h) > 255 {
		return false
	}
	name := HostName(h)
	if port := h[len(name):]; len(port) > 0 {
		if len(port) < 2 || len(port) > 6 {
			return false
		}
		for _, c := range port[1:] {
			if !isDigit(c) {
				return false
			}
		}
	}
	if len(name) == 0 {
		return false
	}
	if name[0] == '[' {
		return validIPv6(name)
	}
	for _, c := range name {
		if !has(hostLow, hostHigh, c) {
			return false
		}
	}
	return name[0] != '.'
}

// validIPv6 looks at the characters only: who has such a name asks for no route.
func validIPv6(name []byte) bool {
	if len(name) < 4 || name[len(name)-1] != ']' {
		return false
	}
	for _, c := range name[1 : len(name)-1] {
		if _, ok := hexValue(c); !ok && c != ':' && c != '.' {
			return false
		}
	}
	return true
}

// HostName is a Host without its port.
func HostName(h []byte) []byte {
	if len(h) > 0 && h[0] == '[' {
		if i := bytes.IndexByte(h, ']'); i >= 0 {
			if i+1 < len(h) && h[i+1] != ':' {
				return h
			}
			return h[:i+1]
		}
		return h
	}
	name, _, _ := bytes.Cut(h, []byte(":"))
	return name
}

// findBody finds out whether there is a body.
func (r *Request) findBody() error {
	f, err := parseFrame(r.Fields)
	switch {
	case err != nil:
		return err
	case f.chunked && r.Minor == 0:
		return bad("Transfer-Encoding in HTTP/1.0")
	case f.chunked:
		r.Framing = ByChunks
	case f.length > 0:
		r.Framing, r.Length = ByLength, f.length
	case f.length == 0:
		r.Length = 0
	}
	return nil
}

// findManners reads what the client wants of this connection.
func (r *Request) findManners() error {
	h, err := applyConnection(r.Fields)
	if err != nil {
		return err
	}
	r.Close = h.close || r.Minor == 0 && !h.keep
	var upgrade []byte
	for i := range r.Fields {
		switch f := &r.Fields[i]; f.id {
		case upgradeID:
			if upgrade != nil {
				return bad("several Upgrade")
			}
			upgrade = f.Value
		case expectID:
			if !equalFold(f.Value, "100-continue") {
				return Error{417, "only 100-continue can be expected"}
			}
			r.Continue = r.Framing != NoBody && r.Minor >= 1
			f.Hop = !r.Continue
		case teID:
			r.Trailers = r.Trailers || HasToken(f.Value, "trailers")
		case trailerID:
			f.Hop = f.Hop || r.Framing != ByChunks
		default:
		}
	}
	// HTTP/2 on this connection would hide its requests from us. With a body, where it ends and
	// the other protocol begins is read differently.
	if h.upgrade && r.Minor >= 1 && r.Framing == NoBody && len(upgrade) > 0 && !HasToken(upgrade, "h2c") {
		r.Upgrade = upgrade
	}
	return nil
}

// Idempotent reports whether the request may be sent twice: it asks only, and has no body.
func (r *Request) Idempotent() bool { return r.asks && r.Framing == NoBody && r.Upgrade == nil }

// IsHead reports whether the answer has no body whatever its head says.
func (r *Request) IsHead() bool { return r.head }

// Value is the value of the first field of a name, given in lower case; nil when there is none.
func (r *Request) Value(lower string) []byte {
	for i := range r.Fields {
		if equalFold(r.Fields[i].Name, lower) {
			return r.Fields[i].Value
		}
	}
	return nil
}
