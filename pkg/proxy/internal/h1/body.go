package h1

import "io"

// maxExtension bounds what a chunk may have beside its data, on its first line.
const maxExtension = 1024

// A Body finds the content of a message in the bytes that follow its head.
type Body struct {
	framing Framing
	state   state
	left    int64 // of the content, or of the chunk
	scan    Scanner
	line    int // bytes of the chunk's first line so far
	digits  int
	fields  []Field
}

// state is where in a body of chunks the next byte belongs.
type state uint8

const (
	inSize state = iota
	inExtension
	inSizeEnd // LF of the first line
	inData
	inDataCR
	inDataLF
	inTrailers
	done
)

// NewBody returns a body that has not begun. Its trailers reuse fields.
func NewBody(f Framing, length int64, fields []Field) Body {
	b := Body{framing: f, left: length, fields: fields[:0]}
	if f == NoBody || f == ByLength && length <= 0 {
		b.state = done
	}
	return b
}

// Done reports whether the body is over. One that lasts until the connection ends is never.
func (b *Body) Done() bool { return b.state == done }

// Trailers are the fields after the last chunk, once the body is over. Those that would
// change how the message is read are left out.
func (b *Body) Trailers() []Field { return b.fields }

// Next returns the first piece of content in p, and how many bytes of p are done with. Without
// content and with fewer bytes done than there are, it needs more than p has.
func (b *Body) Next(p []byte) (content []byte, used int, err error) {
	switch {
	case b.state == done:
		return nil, 0, nil
	case b.framing == UntilClose:
		return p, len(p), nil
	case b.framing == ByLength:
		n := int(min(int64(len(p)), b.left))
		if b.left -= int64(n); b.left == 0 {
			b.state = done
		}
		return p[:n], n, nil
	}
	return b.nextOfChunks(p)
}

// End returns what it means that nothing more comes.
func (b *Body) End() error {
	if b.state == done || b.framing == UntilClose {
		return nil
	}
	return io.ErrUnexpectedEOF
}

func (b *Body) nextOfChunks(p []byte) (content []byte, used int, err error) {
	for used < len(p) && b.state != done {
		switch b.state {
		case inData:
			n := int(min(int64(len(p)-used), b.left))
			content = p[used : used+n]
			if b.left -= int64(n); b.left == 0 {
				b.state = inDataCR
			}
			used += n
			// The end of the chunk, if it is there, so that a whole body is seen to be whole.
			for used < len(p) && (b.state == inDataCR || b.state == inDataLF) {
				if err := b.step(p[used]); err != nil {
					return nil, used, err
				}
				used++
			}
			return content, used, nil
		case inTrailers:
			n, err := b.trailers(p[used:])
			return nil, used + n, err
		default:
			if err := b.step(p[used]); err != nil {
				return nil, used, err
			}
			used++
		}
	}
	return nil, used, nil
}

// step takes one byte of what is between the data.
func (b *Body) step(c byte) error {
	switch b.state {
	case inSize:
		return b.sizeByte(c)
	case inExtension:
		switch {
		case c == '\r':
			b.state = inSizeEnd
		case c < ' ' && c != '\t' || c == 0x7f:
			return bad("extension of a chunk is not valid")
		}
		if b.line++; b.line > maxExtension {
			return bad("extension of a chunk is too long")
		}
	case inSizeEnd:
		if c != '\n' {
			return bad("line does not end with CR LF")
		}
		b.state = inData
		if b.left == 0 {
			b.state, b.scan = inTrailers, Scanner{}
		}
		b.digits, b.line = 0, 0
	case inDataCR:
		if c != '\r' {
			return bad("chunk is longer than its size")
		}
		b.state = inDataLF
	case inDataLF:
		if c != '\n' {
			return bad("chunk is longer than its size")
		}
		b.state = inSize
	default: // is not between the data
	}
	return nil
}

// sizeByte takes a byte of the size of a chunk.
func (b *Body) sizeByte(c byte) error {
	if v, ok := hexValue(c); ok {
		if b.digits == 0 {
			b.left = 0
		}
		if b.digits++; b.digits > 15 {
			return bad("size of a chunk is too large")
		}
		b.left = b.left<<4 | int64(v)
		return nil
	}
	switch {
	case b.digits == 0:
	case c == '\r':
		b.state = inSizeEnd
		return nil
	case c == ';':
		b.state = inExtension
		return nil
	}
	return bad("size of a chunk is not a number")
}

// trailers reads the fields after the last chunk, once all of them are there.
func (b *Body) trailers(p []byte) (int, error) {
	n, err := b.scan.fieldsEnd(p)
	if n == 0 || err != nil {
		return 0, err
	}
	fields, err := parseFields(b.fields, p[:n])
	if err != nil {
		return 0, err
	}
	b.fields = fields[:0]
	for _, f := range fields {
		if f.id == other {
			b.fields = append(b.fields, f)
		}
	}
	b.state = done
	return n, nil
}

// AppendChunk appends data, which is not empty, as a chunk.
func AppendChunk(dst, data []byte) []byte {
	dst = AppendChunkSize(dst, len(data))
	dst = append(dst, data...)
	return append(dst, "\r\n"...)
}

// AppendChunkSize appends the line before the data of a chunk.
func AppendChunkSize(dst []byte, n int) []byte {
	const hex = "0123456789abcdef"
	shift := 60
	for shift > 0 && n>>shift == 0 {
		shift -= 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, hex[n>>shift&15])
	}
	return append(dst, "\r\n"...)
}
