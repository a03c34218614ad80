package h1

import (
	"bytes"
	"errors"
	"io"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
)

func TestChunks(t *testing.T) {
	tests := []struct {
		name, send string
		want       string
		trailers   string
		rest       string
		fails      bool
	}{
		{"one", "3\r\nabc\r\n0\r\n\r\nrest", "abc", "", "rest", false},
		{"two", "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", "", "", false},
		{"leading zeros", "003\r\nabc\r\n00\r\n\r\n", "abc", "", "", false},
		{"extensions", "3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\n\r\n", "abc", "", "", false},
		{"trailers", "1\r\na\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n", "a", "X-A=b X-C=d ", "", false},
		{"trailers that would change the message", "1\r\na\r\n0\r\nContent-Length: 5\r\nHost: b\r\nX: y\r\nTransfer-Encoding: x\r\nConnection: x\r\n\r\n", "a", "X=y ", "", false},
		{"no size", "\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"sign", "+3\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"prefix", "0x3\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"space before the size", " 3\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"space behind the size", "3 \r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"underscore", "1_0\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"size that overflows", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"bare LF behind the size", "3\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"bare CR behind the size", "3\rabc\r\n0\r\n\r\n", "", "", "", true},
		{"bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"NUL in an extension", "3;\x00\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"long extension", "3;" + strings.Repeat("x", 5000) + "\r\nabc\r\n0\r\n\r\n", "", "", "", true},
		{"chunk longer than its size", "3\r\nabcd\r\n0\r\n\r\n", "", "", "", true},
		{"bare LF behind a chunk", "3\r\nabc\n0\r\n\r\n", "", "", "", true},
		{"bare LF in trailers", "0\r\nX: y\n\r\n", "", "", "", true},
		{"folded trailer", "0\r\nX: y\r\n z\r\n\r\n", "", "", "", true},
		{"trailer without a colon", "0\r\nX\r\n\r\n", "", "", "", true},
		{"half", "3\r\nab", "ab", "", "", true},
		{"no end", "3\r\nabc\r\n", "abc", "", "", true},
		{"no end of trailers", "0\r\nX: y\r\n", "", "", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, rest, err := readBody(NewBody(ByChunks, 0, nil), []byte(tt.send))
			if tt.fails {
				if err == nil {
					t.Errorf("taken as %q", got)
				}
				return
			}
			if err != nil || string(got) != tt.want || string(rest) != tt.rest {
				t.Errorf("%q, rest %q, %v", got, rest, err)
			}
			b := NewBody(ByChunks, 0, nil)
			data := []byte(tt.send)
			for !b.Done() {
				_, used, _ := b.Next(data)
				data = data[used:]
			}
			var trailers strings.Builder
			for _, f := range b.Trailers() {
				trailers.WriteString(string(f.Name) + "=" + string(f.Value) + " ")
			}
			if trailers.String() != tt.trailers {
				t.Errorf("trailers %q, want %q", trailers.String(), tt.trailers)
			}
		})
	}
}

// inPieces reads a body whose bytes arrive size at a time.
func inPieces(b Body, data []byte, size int) (content []byte, err error) {
	var have []byte
	for !b.Done() {
		piece, used, err := b.Next(have)
		if err != nil {
			return content, err
		}
		content = append(content, piece...)
		have = have[used:]
		if used > 0 || b.Done() {
			continue
		}
		if len(data) == 0 {
			return content, b.End()
		}
		n := min(size, len(data))
		have = append(slices.Clip(have), data[:n]...)
		data = data[n:]
	}
	return content, nil
}

// FuzzChunks: what is taken is read like this by net/http too, however it arrives, and what
// AppendChunk writes is read back.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\n"), 1)
	f.Add([]byte("3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n"), 2)
	f.Add([]byte("ff\r\n"), 3)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		got, rest, err := readBody(NewBody(ByChunks, 0, nil), data)
		pieces, err2 := inPieces(NewBody(ByChunks, 0, nil), data, 1+max(0, size)%64)
		if (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(got, pieces) {
			t.Errorf("%q: at once %q, %v; in pieces %q, %v", data, got, err, pieces, err2)
		}
		if err != nil {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(want, got) {
			t.Errorf("%q (rest %q): net/http reads %q, %v; we %q", data, rest, want, err, got)
		}
		if len(got) == 0 {
			return
		}
		again, _, err := readBody(NewBody(ByChunks, 0, nil), append(AppendChunk(nil, got), "0\r\n\r\n"...))
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("written and read again: %q, %v, want %q", again, err, got)
		}
	})
}

func TestBodyByLength(t *testing.T) {
	got, rest, err := readBody(NewBody(ByLength, 3, nil), []byte("abcd"))
	if string(got) != "abc" || string(rest) != "d" || err != nil {
		t.Errorf("%q, %q, %v", got, rest, err)
	}
	if _, _, err := readBody(NewBody(ByLength, 3, nil), []byte("ab")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short body: %v", err)
	}
	if got, _, err := readBody(NewBody(UntilClose, -1, nil), []byte("ab")); string(got) != "ab" || err != nil {
		t.Errorf("until close: %q, %v", got, err)
	}
}
