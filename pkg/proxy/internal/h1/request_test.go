package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
)

// parse reads one head from text as a connection would.
func parse(text string) (*Request, int, error) {
	var (
		scan Scanner
		r    Request
	)
	n, err := scan.End([]byte(text))
	if err != nil || n == 0 {
		return nil, n, err
	}
	return &r, n, r.Parse([]byte(text[:n]))
}

func statusOf(err error) int {
	bad, _ := errors.AsType[Error](err)
	return bad.Status
}

// TestRequestsThatAreRefused goes through testdata/refused.txt: status, name, and what is sent.
func TestRequestsThatAreRefused(t *testing.T) {
	table, err := os.ReadFile("testdata/refused.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		part := strings.Split(strings.TrimSpace(line), "\t")
		t.Run(part[1], func(t *testing.T) {
			send, err := strconv.Unquote(part[2])
			if err != nil {
				t.Fatal(err)
			}
			wantRefused(t, send, part[0])
		})
	}
	const head = "GET / HTTP/1.1\r\nHost: a\r\n"
	wantRefused(t, head+strings.Repeat("A: b\r\n", MaxFields)+"\r\n", "431")
	wantRefused(t, head+"A: "+strings.Repeat("b", MaxHead), "431")
}

func wantRefused(t *testing.T, send, status string) {
	t.Helper()
	r, n, err := parse(send)
	if got := strconv.Itoa(statusOf(err)); got != status {
		t.Errorf("read %d bytes, %+v, %v; want status %s", n, r, err, status)
	}
}

func TestRequestsThatAreTaken(t *testing.T) {
	tests := []struct {
		name                 string
		send                 string
		method, target, host string
		framing              Framing
		length               int64
		close                bool
		upgrade              string
		kept                 string // names of the fields that are passed on
	}{
		{"plain", "GET /a?b=%zz HTTP/1.1\r\nHost: A.example:80\r\nAccept: *\r\n\r\n", "GET", "/a?b=%zz", "A.example:80", NoBody, -1, false, "", "Accept"},
		{"URL", "GET http://a.example/x HTTP/1.1\r\nHost: A.example\r\n\r\n", "GET", "/x", "A.example", NoBody, -1, false, "", ""},
		{"URL without a path", "GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/?b", "a", NoBody, -1, false, "", ""},
		{"URL that asks the server", "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "*", "a", NoBody, -1, false, "", ""},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "*", "a", NoBody, -1, false, "", ""},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET", "/", "[::1]:80", NoBody, -1, false, "", ""},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET", "/", "", NoBody, -1, false, "", ""},
		{"length", "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 4\r\n\r\n", "POST", "/", "a", ByLength, 4, false, "", ""},
		{"no length at all", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST", "/", "a", NoBody, 0, false, "", ""},
		{"chunks", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tChunked \r\nTrailer: X\r\n\r\n", "POST", "/", "a", ByChunks, -1, false, "", "Trailer"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "GET", "/", "", NoBody, -1, true, "", ""},
		{"HTTP/1.0 that stays", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET", "/", "", NoBody, -1, false, "", ""},
		{"hop by hop", "GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 1\r\nConnection: close, x-hop,,\r\nKeep-Alive: 3\r\nProxy-Authorization: b\r\nTE: gzip\r\nB: c\r\n\r\n", "GET", "/", "a", NoBody, -1, true, "", "B"},
		{"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET", "/", "a", NoBody, -1, false, "websocket", ""},
		{"upgrade that is not meant", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET", "/", "a", NoBody, -1, false, "", ""},
		{"upgrade to HTTP/2", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", "GET", "/", "a", NoBody, -1, false, "", ""},
		{"upgrade with content", "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n", "POST", "/", "a", ByLength, 1, false, "", ""},
		{"value beyond ASCII", "GET / HTTP/1.1\r\nHost: a\r\nB: \xc3\xa4\tb\r\n\r\n", "GET", "/", "a", NoBody, -1, false, "", "B"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, n, err := parse(tt.send)
			if err != nil || n != len(tt.send) {
				t.Fatalf("read %d of %d bytes, %v", n, len(tt.send), err)
			}
			var kept []string
			for _, f := range r.Fields {
				if !f.Hop {
					kept = append(kept, string(f.Name))
				}
			}
			if string(r.Method) != tt.method || string(r.Target) != tt.target || string(r.Host) != tt.host ||
				r.Framing != tt.framing || r.Length != tt.length || r.Close != tt.close || string(r.Upgrade) != tt.upgrade || strings.Join(kept, " ") != tt.kept {
				t.Errorf("got %+v, kept %q", r, kept)
			}
		})
	}
}

func TestNormalizePath(t *testing.T) {
	tests := []struct{ path, want string }{
		{"/", "/"},
		{"/a/b?c=%2e%2e/../d", "/a/b?c=%2e%2e/../d"},
		{"/%61%2Db%7e?q", "/a-b~?q"},
		{"/a%20b%3f?q", "/a%20b%3f?q"},
		{"//a//b/", "//a//b/"},
		{"/a..b/.c/...", "/a..b/.c/..."},
		{"/%252e%252e/", "/%252e%252e/"},
		{"*", "*"},
		{"/..", ""},
		{"/a/../b", ""},
		{"/./a", ""},
		{"/a/.", ""},
		{"/a/%2e%2E/b", ""},
		{"/a/.%2e", ""},
		{"/..;x=1/b", ""},
		{"/a%2fb", ""},
		{"/a%2Fb", ""},
		{"/a%5cb", ""},
		{"/a%00", ""},
	}
	for _, tt := range tests {
		method := "GET"
		if tt.path == "*" {
			method = "OPTIONS"
		}
		r, _, err := parse(method + " " + tt.path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		if err != nil {
			t.Fatalf("%s: %v", tt.path, err)
		}
		switch err := r.NormalizePath(); {
		case tt.want == "" && statusOf(err) != 400:
			t.Errorf("%s: taken as %s, want it to be refused", tt.path, r.Target)
		case tt.want != "" && (err != nil || string(r.Target) != tt.want):
			t.Errorf("%s: %s, %v, want %s", tt.path, r.Target, err, tt.want)
		case err == nil && !strings.HasPrefix(string(r.Target), string(r.Path)):
			t.Errorf("%s: path %s is not of %s", tt.path, r.Path, r.Target)
		}
	}
}

// TestHeadInPieces: it does not matter how the bytes arrive.
func TestHeadInPieces(t *testing.T) {
	const text = "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\nrest"
	for size := 1; size <= len(text); size++ {
		var (
			scan Scanner
			n    int
		)
		for end := size; n == 0; end = min(end+size, len(text)) {
			var err error
			if n, err = scan.End([]byte(text[:end])); err != nil {
				t.Fatal(err)
			}
		}
		if n != len(text)-len("rest") {
			t.Errorf("in pieces of %d: head of %d bytes", size, n)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	head := []byte("GET /a/b?c HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\nAccept: a, b\r\nConnection: keep-alive, x\r\nX: y\r\n\r\n")
	var r Request
	out := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		var scan Scanner
		n, err := scan.End(head)
		if err != nil || r.Parse(head[:n]) != nil || r.NormalizePath() != nil {
			t.Fatal("not taken")
		}
		for _, f := range r.Fields {
			out = AppendField(out[:0], f.Name, f.Value)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a request", n)
	}
}

// FuzzRequest: what is taken has one reading, which is also net/http's.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("GET /a?b HTTP/1.1\r\nHost: a.example\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\nHost: b\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n"))
	f.Add([]byte("GET http://a/b%2e HTTP/1.0\r\nHost: A\r\nConnection: x, keep-alive\r\nX: y\r\n\r\n"))
	f.Add([]byte("OPTIONS * HTTP/1.1\r\nHost: [::1]:8\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var (
			scan Scanner
			r    Request
		)
		n, err := scan.End(data)
		if n == 0 || err != nil || r.Parse(data[:n]) != nil {
			return
		}
		std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			t.Fatalf("%q: taken, but net/http says %v", data[:n], err)
		}
		if std.Method != string(r.Method) || !strings.EqualFold(std.Host, string(r.Host)) || std.ProtoMinor != r.Minor {
			t.Errorf("%q: net/http reads %s %s, we %s %s", data[:n], std.Method, std.Host, r.Method, r.Host)
		}
		if uri := std.URL.RequestURI(); string(r.Target) != "*" && !bytes.HasSuffix([]byte(std.RequestURI), r.Target) && uri != string(r.Target) {
			t.Errorf("%q: net/http reads %q, we %q", data[:n], uri, r.Target)
		}
		want, wantErr := io.ReadAll(std.Body)
		got, _, gotErr := readBody(NewBody(r.Framing, r.Length, nil), data[n:])
		if gotErr == nil && (wantErr != nil || !bytes.Equal(want, got)) {
			t.Errorf("%q: net/http reads the content %q, %v; we %q", data, want, wantErr, got)
		}
		if r.NormalizePath() == nil && len(r.Path) > 0 && (bytes.Contains(r.Path, []byte("/../")) || bytes.Contains(r.Path, []byte("%2e"))) {
			t.Errorf("%q: normal path %q", data[:n], r.Path)
		}
	})
}

// readBody reads a body from data, and returns what is behind it.
func readBody(b Body, data []byte) (content, rest []byte, err error) {
	for !b.Done() {
		piece, used, err := b.Next(data)
		if err != nil {
			return content, data, err
		}
		content = append(content, piece...)
		data = data[used:]
		if used == 0 && !b.Done() {
			return content, data, b.End()
		}
	}
	return content, data, nil
}
