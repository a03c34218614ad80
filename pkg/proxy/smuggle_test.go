package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/forwarded"
	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
)

// A witness is a target that notes each request that reaches it, as net/http reads it.
type witness struct {
	mu   sync.Mutex
	seen []string
}

func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	var said []string
	for name, values := range r.Header {
		if forwarded.Classify(name) != forwarded.None && name != "X-Forwarded-Port" && name != "Forwarded" {
			said = append(said, fmt.Sprintf("%s=%q", name, values))
		}
	}
	slices.Sort(said)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil { // a request that broke off was not served
		w.seen = append(w.seen, fmt.Sprintf("%s %s of %s: %q from %s", r.Method, r.RequestURI, r.Host, content, strings.Join(said, " ")))
	}
	_, _ = io.WriteString(rw, "ok")
}

// take returns what was seen since the last call.
func (w *witness) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// TestRefusedRequests sends what must not be understood in two ways: the client is told so at once, the
// connection ends, and the target hears nothing, not even of a good request behind it.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("internal/h1/testdata/refused.txt")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{}
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", w.ServeHTTP)))
	addr := addrOf(t, p)
	for line := range strings.Lines(string(table)) {
		if strings.HasPrefix(line, "#") || strings.Contains(line, "preface of HTTP/2") { // which is served, by another server
			continue
		}
		part := strings.Split(strings.TrimSpace(line), "\t")
		t.Run(part[1], func(t *testing.T) {
			send, err := strconv.Unquote(part[2])
			if err != nil {
				t.Fatal(err)
			}
			c := connect(t, addr)
			_, _ = io.WriteString(c, send+"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n")
			got := what(c)
			if !strings.HasPrefix(got, "HTTP/1.1 "+part[0]+" ") || strings.Count(got, "HTTP/1.1") != 1 ||
				!strings.Contains(got, "Connection: close\r\n") || !strings.HasSuffix(got, "|end") {
				t.Errorf("client saw %q, want one answer %s and the end", got, part[0])
			}
			if seen := w.take(); len(seen) > 0 {
				t.Errorf("target saw %q", seen)
			}
		})
	}
}

// TestBrokenContent: content that breaks the rules after the head was sent on reaches nobody as a whole.
func TestBrokenContent(t *testing.T) {
	t.Parallel()
	w := &witness{}
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", w.ServeHTTP)))
	addr := addrOf(t, p)
	const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct{ name, send, later string }{
		{"size", "", "5x\r\nhello\r\n0\r\n\r\n"},
		{"bare LF", "", "5\nhello\r\n0\r\n\r\n"},
		{"longer than its size", "5\r\nhello\r\n", "5\r\nhelloGET / HTTP/1.1\r\n"},
		{"size with a sign", "5\r\nhello\r\n", "-1\r\nx\r\n0\r\n\r\n"},
		{"folded trailer", "5\r\nhello\r\n", "0\r\nA: b\r\n c\r\n\r\n"},
	} {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, together %v", tt.name, together), func(t *testing.T) {
				c := connect(t, addr)
				if together {
					_, _ = io.WriteString(c, head+tt.send+tt.later)
				} else {
					_, _ = io.WriteString(c, head+tt.send)
					<-time.After(5 * time.Millisecond)
					_, _ = io.WriteString(c, tt.later)
				}
				if got := what(c); !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Count(got, "HTTP/1.1") != 1 {
					t.Errorf("client saw %q, want 400", got)
				}
				if seen := w.take(); len(seen) > 0 {
					t.Errorf("target saw %q", seen)
				}
			})
		}
	}
}

// FuzzProxiedBytes sends any bytes through a proxy to a server of net/http. What that server sees must be
// exactly what the parser saw, request by request, and nothing else.
func FuzzProxiedBytes(f *testing.F) {
	for _, s := range []string{
		"GET /a?b HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6\r\nx_real_ip: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nForwarded: y\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a/b%2e HTTP/1.0\r\nHost: A\r\nConnection: keep-alive\r\n\r\nGET /%2e%2e/x HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	w := &witness{}
	p := newProxy(f)
	apply(f, p, web1(site(f, "A", w.ServeHTTP)))
	addr := addrOf(f, p)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8<<10 || bytes.Contains(bytes.ToLower(data), []byte("expect:")) || bytes.Contains(bytes.ToLower(data), []byte("upgrade")) {
			return // both depend on time
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Skip(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = c.Write(data)
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		want := expected(data, c.LocalAddr().(*net.TCPAddr).IP.String(), addr)
		got := w.take()
		// The client may be taken for gone before its last request was answered: fewer is right, other is not.
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Errorf("sent %q\ntarget saw %q\nparser saw %q", data, got, want)
		}
	})
}

// expected is what the target should see of data.
func expected(data []byte, client, local string) []string {
	var all []string
	for {
		var (
			scan h1.Scanner
			r    h1.Request
		)
		n, err := scan.End(data)
		if n == 0 || err != nil || r.Parse(data[:n]) != nil {
			return all
		}
		content, rest, err := contentOf(h1.NewBody(r.Framing, r.Length, nil), data[n:])
		if err != nil {
			return all
		}
		host, said := string(r.Host), fmt.Sprintf(`X-Forwarded-For=["%s"] X-Forwarded-Host=["%s"] X-Forwarded-Proto=["http"] X-Real-Ip=["%s"]`, client, r.Host, client)
		if host == "" {
			host = local
			said = fmt.Sprintf(`X-Forwarded-For=["%s"] X-Forwarded-Proto=["http"] X-Real-Ip=["%s"]`, client, client)
		}
		if string(r.Target) != "*" { // which net/http answers itself
			all = append(all, fmt.Sprintf("%s %s of %s: %q from %s", r.Method, r.Target, host, content, said))
		}
		if r.Close {
			return all
		}
		data = rest
	}
}

// contentOf reads the content of a request from data, and returns what is behind it.
func contentOf(b h1.Body, data []byte) (content, rest []byte, err error) {
	for !b.Done() {
		piece, used, err := b.Next(data)
		if err != nil {
			return nil, nil, err
		}
		content = append(content, piece...)
		data = data[used:]
		if used == 0 && !b.Done() {
			return nil, nil, io.ErrUnexpectedEOF
		}
	}
	return content, data, nil
}

// TestWitnessSees shows that the fuzz test would notice a smuggled request.
func TestWitnessSees(t *testing.T) {
	t.Parallel()
	w := &witness{}
	_, addr := site(t, "A", w.ServeHTTP)
	c := connect(t, addr)
	data := []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
	_, _ = c.Write(data)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Skip("net/http refuses it by now:", err)
	}
	_ = res.Body.Close()
	if got, want := w.take(), expected(data, "127.0.0.1", addr); len(got) <= len(want) {
		t.Errorf("target saw %q without a proxy, the parser %q", got, want)
	}
}

// TestRefusedRequestIsLogged: with what is known of it, which is who sent it.
func TestRefusedRequestIsLogged(t *testing.T) {
	t.Parallel()
	var out lockedBuffer
	p := newProxyWith(t, Options{Log: newProxy(t).log, AccessLog: &out})
	apply(t, p, web1("", ""))
	c := connect(t, addrOf(t, p))
	_, _ = io.WriteString(c, "GET /secret HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	_ = what(c)
	eventually(t, "a line", func() bool { return strings.HasSuffix(out.String(), "\n") })
	if line := out.String(); !strings.Contains(line, `"status":400`) || !strings.Contains(line, c.LocalAddr().String()) || strings.Contains(line, "secret") {
		t.Errorf("logged %s", line)
	}
}
