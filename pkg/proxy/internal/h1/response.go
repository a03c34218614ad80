package h1

import "bytes"

// A Response is the head of an answer.
type Response struct {
	Minor  int
	Status int
	Reason []byte
	Fields []Field

	Framing Framing
	Length  int64 // of the body, or of the one that HEAD asked about; -1 when not said

	Close   bool   // the server takes no other request on this connection
	Upgrade []byte // the protocol it names
}

// Parse reads a whole head, whose length a Scanner found. head is set when HEAD was asked.
func (r *Response) Parse(b []byte, head bool) error {
	*r = Response{Fields: r.Fields[:0], Length: -1}
	line, rest, ok := cutLine(b)
	if !ok {
		return bad("line does not end with CR LF")
	}
	err := r.parseLine(line)
	if err != nil {
		return err
	}
	if r.Fields, err = parseFields(r.Fields, rest); err != nil {
		return err
	}
	f, err := parseFrame(r.Fields)
	if err != nil {
		return err
	}
	h, err := applyConnection(r.Fields)
	if err != nil {
		return err
	}
	r.Close = h.close || r.Minor == 0 && !h.keep
	if h.upgrade {
		r.findUpgrade()
	}
	return r.findBody(f, head)
}

func (r *Response) parseLine(line []byte) error {
	// HTTP/1.1 200 OK
	if len(line) < 12 || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return bad("first line is not of an answer")
	}
	var err error
	if r.Minor, err = parseVersion(line[:8]); err != nil {
		return err
	}
	for _, c := range line[9:12] {
		if !isDigit(c) {
			return bad("status is not a number")
		}
		r.Status = 10*r.Status + int(c-'0')
	}
	if r.Status < 100 {
		return bad("status is not valid")
	}
	if len(line) > 13 {
		r.Reason = line[13:]
	}
	if !isValue(r.Reason) {
		return bad("reason is not valid")
	}
	return nil
}

func (r *Response) findUpgrade() {
	for i := range r.Fields {
		if r.Fields[i].id == upgradeID {
			r.Upgrade = r.Fields[i].Value
		}
	}
}

func (r *Response) findBody(f frame, head bool) error {
	if f.chunked && r.Minor == 0 {
		return bad("Transfer-Encoding in HTTP/1.0")
	}
	r.Length = f.length
	for i := range r.Fields {
		if r.Fields[i].id == trailerID {
			r.Fields[i].Hop = r.Fields[i].Hop || !f.chunked
		}
	}
	switch {
	case r.Status < 200 || r.Status == 204:
		r.Length = -1
	case head || r.Status == 304:
	case f.chunked:
		r.Framing = ByChunks
	case f.length > 0:
		r.Framing = ByLength
	case f.length < 0:
		r.Framing, r.Close = UntilClose, true
	}
	return nil
}

// Interim reports whether another head follows this one.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// Has reports whether there is a field of a name, given in lower case.
func (r *Response) Has(lower string) bool {
	for i := range r.Fields {
		if equalFold(r.Fields[i].Name, lower) {
			return true
		}
	}
	return false
}

// SameProtocol reports whether an answer agrees to the upgrade that was asked for.
func SameProtocol(asked, got []byte) bool { return len(asked) > 0 && bytes.EqualFold(asked, got) }
