package proxy

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
)

// FuzzHeadOfH2: whatever a request over HTTP/2 says, once it is written as HTTP/1 it says the same, or it is
// refused.
func FuzzHeadOfH2(f *testing.F) {
	f.Add("GET", "/", "shop.example", "X-A", "b", int64(0))
	f.Add("GET /evil HTTP/1.1\r\nX: ", "/ HTTP/1.1\r\nHost: evil", "a\r\nb", "Transfer-Encoding", "chunked", int64(-1))
	f.Add("POST", "*", "[::1]:80", "Content-Length", "3", int64(5))
	f.Add("OPTIONS", "http://evil/", "a@b", "Connection", "X-Forwarded-For", int64(1))
	f.Fuzz(func(t *testing.T, method, path, host, name, value string, length int64) {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return // net/http refuses it
		}
		name = http.CanonicalHeaderKey(name)
		r := &http.Request{Method: method, RequestURI: path, Host: host, Header: http.Header{name: {value}}, ContentLength: max(-1, length)}
		head, err := appendRequest(nil, r)
		if err != nil {
			return
		}
		var scan h1.Scanner
		n, err := scan.End(head)
		if err != nil || n != len(head) {
			return
		}
		var req h1.Request
		if req.Parse(head) != nil {
			return
		}
		target := path
		if rest, ok := strings.CutPrefix(strings.ToLower(path), "http://"); ok { // a whole URL, whose host must be the same
			if !strings.HasPrefix(rest, strings.ToLower(host)) {
				t.Fatalf("%q is taken for %q", path, host)
			}
			target = string(req.Target)
		}
		if string(req.Method) != method || string(req.Target) != target || string(req.Host) != strings.Trim(host, " \t") {
			t.Fatalf("%q %q %q came out as %q %q %q", method, path, host, req.Method, req.Target, req.Host)
		}
		if req.Framing == h1.ByChunks != (length < 0) || req.Framing == h1.ByLength != (length > 0) || length > 0 && req.Length != length {
			t.Fatalf("length %d came out as framing %d of %d", length, req.Framing, req.Length)
		}
		others := 0
		for _, field := range req.Fields {
			switch got := string(field.Name); {
			case got == name:
				if want := strings.Trim(value, " \t"); string(field.Value) != want && name != "Content-Length" {
					t.Fatalf("%s: %q came out as %q", name, value, field.Value)
				}
			case got != "Host" && got != "Content-Length" && got != "Transfer-Encoding":
				others++
			}
		}
		if others > 0 {
			t.Fatalf("%q became more fields than it was: %q", value, head)
		}
	})
}
