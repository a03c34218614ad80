package h1

import "testing"

func TestResponses(t *testing.T) {
	tests := []struct {
		name    string
		send    string
		head    bool
		fails   bool
		status  int
		framing Framing
		length  int64
		close   bool
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, false, 200, ByLength, 5, false},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, false, 200, NoBody, 0, false},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, false, 200, ByChunks, -1, false},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n", false, false, 200, UntilClose, -1, true},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, false, 200, NoBody, 5, false},
		{"HEAD of chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, false, 200, NoBody, -1, false},
		{"304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, false, 304, NoBody, 5, false},
		{"204", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false, false, 204, NoBody, -1, false},
		{"interim", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", false, false, 103, NoBody, -1, false},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, false, 200, NoBody, 0, false},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n", false, false, 200, ByLength, 1, true},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false, false, 200, ByLength, 1, true},
		{"HTTP/1.0 that stays", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", false, false, 200, ByLength, 1, false},
		{"length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false, true, 0, 0, 0, false},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", false, true, 0, 0, 0, false},
		{"other coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, true, 0, 0, 0, false},
		{"coding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, true, 0, 0, 0, false},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", false, true, 0, 0, 0, false},
		{"bare CR in a value", "HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\n\r\n", false, true, 0, 0, 0, false},
		{"folded", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false, true, 0, 0, 0, false},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", false, true, 0, 0, 0, false},
		{"status of two digits", "HTTP/1.1 99 OK\r\n\r\n", false, true, 0, 0, 0, false},
		{"status 099", "HTTP/1.1 099 OK\r\n\r\n", false, true, 0, 0, 0, false},
		{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", false, true, 0, 0, 0, false},
		{"no answer at all", "what?\r\n\r\n", false, true, 0, 0, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var (
				scan Scanner
				r    Response
			)
			n, err := scan.End([]byte(tt.send))
			if err == nil {
				err = r.Parse([]byte(tt.send[:n]), tt.head)
			}
			if tt.fails {
				if err == nil {
					t.Errorf("taken: %+v", r)
				}
				return
			}
			if err != nil || r.Status != tt.status || r.Framing != tt.framing || r.Length != tt.length || r.Close != tt.close {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}
