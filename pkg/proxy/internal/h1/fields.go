package h1

import "bytes"

// Bounds of a head.
const (
	MaxHead   = 64 << 10 // bytes, the empty line included
	MaxFields = 200
)

// A Field is one line of a head or of trailers.
type Field struct {
	Name, Value []byte
	// Hop is set on what is about this connection or this message's frame, and on what the sender
	// listed in Connection: it is not passed on. So is Host, which is written from Request.Host.
	Hop bool
	id  id
}

// id tells the names apart that mean something to a proxy.
type id uint8

const (
	other id = iota
	hostID
	lengthID
	codingID
	connectionID
	upgradeID
	teID
	trailerID
	expectID
	hopID // others that are about one connection
)

// identify is the id of a name.
func identify(name []byte) id {
	switch len(name) {
	case 2:
		return match(name, "te", teID)
	case 4:
		return match(name, "host", hostID)
	case 6:
		return match(name, "expect", expectID)
	case 7:
		if name[0]|0x20 == 't' {
			return match(name, "trailer", trailerID)
		}
		return match(name, "upgrade", upgradeID)
	case 10:
		if name[0]|0x20 == 'k' {
			return match(name, "keep-alive", hopID)
		}
		return match(name, "connection", connectionID)
	case 14:
		return match(name, "content-length", lengthID)
	case 16:
		return match(name, "proxy-connection", hopID)
	case 17:
		return match(name, "transfer-encoding", codingID)
	case 18:
		return match(name, "proxy-authenticate", hopID)
	case 19:
		return match(name, "proxy-authorization", hopID)
	}
	return other
}

func match(name []byte, lower string, is id) id {
	if equalFold(name, lower) {
		return is
	}
	return other
}

// A Scanner finds the end of a head that comes in pieces. The zero value is ready.
type Scanner struct {
	line  int // where the current line begins
	seen  int // up to where there is no end of the line
	lines int
}

// End returns the length of the head at the beginning of b, the empty line included, or 0 when b does not
// have all of it. The next call gets the same bytes and more.
func (s *Scanner) End(b []byte) (int, error) {
	if s.seen == 0 && len(b) > 0 && !has(tokenLow, tokenHigh, b[0]) {
		return 0, bad("first byte is not of a method") // such as a client that speaks TLS
	}
	return s.fieldsEnd(b)
}

// fieldsEnd is End for fields without a first line.
func (s *Scanner) fieldsEnd(b []byte) (int, error) {
	for {
		i := bytes.IndexByte(b[s.seen:], '\n')
		if i < 0 {
			s.seen = len(b)
			if len(b) >= MaxHead {
				return 0, Error{431, "head is too large"}
			}
			return 0, nil
		}
		end := s.seen + i
		switch {
		case end >= MaxHead:
			return 0, Error{431, "head is too large"}
		case end == s.line || b[end-1] != '\r':
			return 0, bad("line does not end with CR LF")
		}
		s.seen = end + 1
		if end-1 == s.line {
			return s.seen, nil
		}
		s.line = s.seen
		if s.lines++; s.lines > MaxFields+1 {
			return 0, Error{431, "too many fields"}
		}
	}
}

// cutLine returns the first line of b without its end, and what follows. The Scanner saw that
// there is one, and that it ends with CR LF.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, false
	}
	return b[:i-1], b[i+1:], true
}

// parseFields appends the fields of b, which ends with an empty line.
func parseFields(fields []Field, b []byte) ([]Field, error) {
	for {
		line, rest, ok := cutLine(b)
		switch {
		case !ok:
			return fields, bad("line does not end with CR LF")
		case len(line) == 0 && len(rest) > 0:
			return fields, bad("something follows the empty line")
		case len(line) == 0:
			return fields, nil
		case len(fields) == MaxFields:
			return fields, Error{431, "too many fields"}
		}
		b = rest
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return fields, bad("field without a colon")
		}
		f := Field{Name: name, Value: trim(value)}
		if !isToken(f.Name) { // that is also a folded line, and a space before the colon
			return fields, bad("name of a field is not valid")
		}
		if !isValue(f.Value) {
			return fields, bad("value of a field is not valid")
		}
		f.id = identify(f.Name)
		f.Hop = f.id != other && f.id != trailerID && f.id != expectID
		fields = append(fields, f)
	}
}

// tokens calls yield with each element of a list in a value, until it returns false. Empty ones are left out.
func tokens(value []byte, yield func([]byte) bool) {
	for len(value) > 0 {
		part := value
		if i := bytes.IndexByte(value, ','); i >= 0 {
			part, value = value[:i], value[i+1:]
		} else {
			value = nil
		}
		if part = trim(part); len(part) > 0 && !yield(part) {
			return
		}
	}
}

// HasToken reports whether a list in a value has an element, given in lower case.
func HasToken(value []byte, lower string) bool {
	found := false
	tokens(value, func(t []byte) bool {
		found = equalFold(t, lower)
		return !found
	})
	return found
}

// hops is what the Connection fields of a head say.
type hops struct {
	close, keep, upgrade bool
	named                bool // fields that were listed
}

// applyConnection reads the Connection fields and marks the fields that they list.
func applyConnection(fields []Field) (h hops, err error) {
	for i := range fields {
		if fields[i].id != connectionID {
			continue
		}
		tokens(fields[i].Value, func(t []byte) bool {
			switch {
			case equalFold(t, "close"):
				h.close = true
			case equalFold(t, "keep-alive"):
				h.keep = true
			case equalFold(t, "upgrade"):
				h.upgrade = true
			case !isToken(t):
				err = bad("Connection lists what is no name")
			default:
				h.named = true
				mark(fields, t)
			}
			return err == nil
		})
	}
	return h, err
}

// mark makes the fields of a name stay on this hop.
func mark(fields []Field, name []byte) {
	for i := range fields {
		if bytes.EqualFold(fields[i].Name, name) {
			fields[i].Hop = true
		}
	}
}

// frame is what a head says about the length of its body.
type frame struct {
	chunked bool
	length  int64 // -1: not said
}

// parseFrame reads Content-Length and Transfer-Encoding. Two ways to say it, even if they agree, are one too many.
func parseFrame(fields []Field) (frame, error) {
	f := frame{length: -1}
	for i := range fields {
		switch v := fields[i].Value; fields[i].id {
		case lengthID:
			n, ok := parseLength(v)
			if !ok || f.length >= 0 {
				return f, bad("Content-Length is not one number")
			}
			f.length = n
		case codingID:
			if f.chunked {
				return f, bad("several Transfer-Encoding")
			}
			if !equalFold(v, "chunked") {
				return f, Error{501, "Transfer-Encoding is not chunked"}
			}
			f.chunked = true
		default:
		}
	}
	if f.chunked && f.length >= 0 {
		return f, bad("Content-Length and Transfer-Encoding")
	}
	return f, nil
}

// parseLength reads a Content-Length.
func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if !isDigit(c) {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// AppendField appends one line of a head.
func AppendField[T ~string | ~[]byte](dst []byte, name, value T) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// Valid reports whether f may be written.
func (f Field) Valid() bool { return isToken(f.Name) && isValue(f.Value) && identify(f.Name) == other }
