package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// upgrader is a target that speaks the protocol "echo" after an upgrade.
func upgrader(t testing.TB) string {
	t.Helper()
	return backend(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Header.Get("Upgrade") != "echo" {
			_, _ = io.WriteString(c, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Note: n\r\n\r\nwelcome\n")
		_, _ = io.Copy(c, r)
		_, _ = io.WriteString(c, "bye\n")
	})
}

func TestForwardedHeaders(t *testing.T) {
	seen := make(chan http.Header, 1)
	id, addr := site(t, "A", func(_ http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		h.Set("Host", r.Host)
		h.Set("Request-Uri", r.RequestURI)
		seen <- h
	})
	p := newProxy(t)
	apply(t, p, web1(id, addr))
	base := http.Header{
		"Host": {"shop.example"}, "Request-Uri": {"/a%2Fb?c=d;e"},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"shop.example"}, "X-Forwarded-Proto": {"http"},
		"X-Forwarded-Port": {strings.TrimPrefix(addrOf(t, p), "127.0.0.1:")}, "X-Real-Ip": {"127.0.0.1"},
		"Forwarded": {"for=127.0.0.1;host=shop.example;proto=http"},
	}
	tests := []struct {
		name string
		send string
		want http.Header // beside base; empty: not there
	}{
		{"nothing said", "", nil},
		{"lies", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n", nil},
		{"lies twice", "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\n", nil},
		{"other names", "Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\n", nil},
		{"underscores", "X_Forwarded_For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nX-Forwarded_Proto: https\r\n", nil},
		{"told to drop ours", "Connection: X-Forwarded-For, close\r\nX-Forwarded-For: 6.6.6.6\r\n", nil},
		{"hop by hop", "Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nProxy-Authorization: x\r\nTe: gzip\r\n", nil},
		{"ordinary ones stay", "Accept: a\r\nAccept: b\r\nX-Custom: c\r\nCookie: d\r\nUser-Agent: e\r\nFrom: f\r\nX_Custom: g\r\n", http.Header{
			"Accept": {"a", "b"}, "X-Custom": {"c"}, "Cookie": {"d"}, "User-Agent": {"e"}, "From": {"f"}, "X_custom": {"g"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, addrOf(t, p))
			_, _ = fmt.Fprintf(c, "GET /a%%2Fb?c=d;e HTTP/1.1\r\nHost: shop.example\r\n%s\r\n", tt.send)
			want := base.Clone()
			maps.Copy(want, tt.want)
			if diff := cmp.Diff(want, <-seen); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestClientConnectionSurvivesTheSwitch(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", nil)))
	c := connect(t, addrOf(t, p))
	r := bufio.NewReader(c)
	get := func() string {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.Header.Get("Served-By")
	}
	if got := get(); got != "A" {
		t.Errorf("served by %q, want A", got)
	}
	wantOpen(t, p, "A", 0) // an idle client belongs to nobody
	apply(t, p, web1(site(t, "B", nil)))
	if got := get(); got != "B" {
		t.Errorf("served by %q, want B", got)
	}
}

func TestIdleUpstreamConnectionsAreClosed(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, p *Proxy)
	}{
		{"by a switch", func(t *testing.T, p *Proxy) { apply(t, p, web1(site(t, "B", nil))) }},
		{"by a drain", func(_ *testing.T, p *Proxy) { p.Drain("A") }},
		{"with the listener", func(t *testing.T, p *Proxy) { apply(t, p) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var open atomic.Int64
			addr := countingSite(t, &open)
			p := newProxy(t)
			apply(t, p, web1("A", addr))
			url := "http://" + addrOf(t, p)
			for range 3 {
				if got := status(t, url); got != "200 OK" {
					t.Fatal(got)
				}
			}
			if got := open.Load(); got != 1 {
				t.Fatalf("%d upstream connections, want one that is reused", got)
			}
			tt.do(t, p)
			eventually(t, "idle connection is closed", func() bool { return open.Load() == 0 })
		})
	}
}

// countingSite counts the connections that are open to it. The path /slow is answered when the
// client says so, by the body.
func countingSite(t testing.TB, open *atomic.Int64) string {
	t.Helper()
	return backend(t, func(c *net.TCPConn) {
		open.Add(1)
		defer open.Add(-1)
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if req.Close {
				return
			}
		}
	})
}

// TestConnectionOfLastRequestIsClosed: a request that is answered after the drain leaves no
// connection behind, and goes on undisturbed.
func TestConnectionOfLastRequestIsClosed(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan struct{}), make(chan struct{})
	var conns atomic.Int64
	id, addr := site(t, "A", func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-answer
		_, _ = io.WriteString(w, "late")
	})
	p := newProxy(t)
	apply(t, p, web1(id, addr))
	url := "http://" + addrOf(t, p)
	got := make(chan string)
	go func() { got <- status(t, url) }()
	<-arrived
	apply(t, p, web1(site(t, "B", nil)))
	p.Drain("A")
	wantOpen(t, p, "A", 1)
	answer <- struct{}{}
	if s := <-got; s != "200 OK" {
		t.Errorf("request during the drain: %s", s)
	}
	wantOpen(t, p, "A", 0)
	eventually(t, "connections of the old target are closed", func() bool {
		conns.Store(int64(established(t, addr)))
		return conns.Load() == 0
	})
}

// TestUploadsNeverMeetAClosedConnection: the target closes each connection after one answer, without
// saying so. What must not be sent twice is not sent on a kept connection.
func TestUploadsNeverMeetAClosedConnection(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	addr := backend(t, func(c *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		served.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	p := newProxy(t)
	apply(t, p, web1("A", addr))
	u := upstreamOf(p)
	u.mu.Lock()
	u.proof = time.Hour // a busy machine may take long to close what it has answered on
	u.mu.Unlock()
	client := browser(t)
	url := "http://" + addrOf(t, p)
	const n = 300
	for i := range n {
		method, body := []string{"POST", "GET", "PUT", "DELETE"}[i%4], io.Reader(nil)
		if i%4 == 0 || i%4 == 2 {
			body = strings.NewReader("payload")
		}
		r, _ := http.NewRequest(method, url, body)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatalf("%s number %d: %s", method, i, res.Status)
		}
	}
	if got := served.Load(); got != n {
		t.Errorf("target served %d requests, want %d", got, n)
	}
}

func TestBadUpstream(t *testing.T) {
	tests := []struct {
		name    string
		addr    func(t *testing.T) string
		connect time.Duration
		want    string
	}{
		{"refuses", func(t *testing.T) string { return deadPort(t) }, 2 * time.Second, "502 Bad Gateway"},
		{"does not answer the dial", func(t *testing.T) string { return silentPort(t) }, 100 * time.Millisecond, "504 Gateway Timeout"},
		{"closes instead of answering", func(t *testing.T) string {
			return backend(t, func(c *net.TCPConn) { _, _ = http.ReadRequest(bufio.NewReader(c)) })
		}, patience, "502 Bad Gateway"},
		{"answers nonsense", func(t *testing.T) string {
			return backend(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "what?\r\n\r\n") })
		}, patience, "502 Bad Gateway"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: tt.connect})
			apply(t, p, web1("A", tt.addr(t)))
			var wg sync.WaitGroup
			for _, method := range []string{"GET", "POST"} {
				wg.Go(func() {
					r, _ := http.NewRequest(method, "http://"+addrOf(t, p), strings.NewReader("x"))
					res, err := browser(t).Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					_ = res.Body.Close()
					if res.Status != tt.want || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
						t.Errorf("%s: %s, want %s", method, res.Status, tt.want)
					}
				})
			}
			wg.Wait()
			wantOpen(t, p, "A", 0)
		})
	}
}

func TestRequestGoesToTheNewTargetWhenTheOldOneRefuses(t *testing.T) {
	t.Parallel()
	p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: patience})
	apply(t, p, web1("A", deadPort(t)))
	url := "http://" + addrOf(t, p)
	got := make(chan string)
	go func() {
		res, err := browser(t).Post(url, "text/plain", strings.NewReader("payload"))
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		got <- string(b)
	}()
	wantOpen(t, p, "A", 1)
	apply(t, p, web1(site(t, "B", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })))
	if b := <-got; b != "payload" {
		t.Errorf("answer %q, want the echo of the new target", b)
	}
	wantOpen(t, p, "A", 0)
}

func TestStreamsBothWays(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		_ = c.Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			_, _ = w.Write(b[:n])
			_ = c.Flush()
			if err != nil {
				return
			}
		}
	})))
	body, say := io.Pipe()
	r, _ := http.NewRequest("POST", "http://"+addrOf(t, p), body)
	res, err := browser(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for i := range 5 {
		msg := fmt.Sprintf("part %d", i)
		_, _ = io.WriteString(say, msg)
		got := make([]byte, len(msg))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != msg {
			t.Fatalf("read %q, %v, want %q", got, err, msg)
		}
	}
	_ = say.Close()
	if b, err := io.ReadAll(res.Body); err != nil || len(b) > 0 {
		t.Errorf("end: %q, %v", b, err)
	}
	wantOpen(t, p, "A", 0)
}

// TestPiecesAreNotHeldBack: also when the length of the answer is known.
func TestPiecesAreNotHeldBack(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "1")
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, "2")
	})))
	res, err := browser(t).Get("http://" + addrOf(t, p))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	one := make([]byte, 1)
	if _, err := io.ReadFull(res.Body, one); err != nil || one[0] != '1' {
		t.Errorf("first piece %q, %v", one, err)
	}
	close(more)
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "2" {
		t.Errorf("second piece %q, %v", b, err)
	}
}

func TestTargetAnswersBeforeItReadTheBody(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	})))
	c := connect(t, addrOf(t, p))
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\nsome")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("answer %s, want 413 while the body is on its way", res.Status)
	}
	_, _ = io.WriteString(c, strings.Repeat("x", 9996))
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "too large\n" {
		t.Errorf("body %q, %v", b, err)
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Saw", r.Method+" "+r.RequestURI)
	})))
	tests := []struct{ line, status, saw string }{
		{"GET / HTTP/1.1", "200 OK", "GET /"},
		{"OPTIONS * HTTP/1.1", "200 OK", ""}, // answered by the target's own server
		{"HEAD /x?y HTTP/1.1", "200 OK", "HEAD /x?y"},
		{"GET //x/%zz?%zz HTTP/1.1", "400 Bad Request", ""},
		{"GET //x//y?%zz;&a HTTP/1.1", "200 OK", "GET //x//y?%zz;&a"},
		{"GET http://X/z HTTP/1.1", "200 OK", "GET /z"},
		{"GET http://other/z HTTP/1.1", "400 Bad Request", ""},
		{"PURGE /x HTTP/1.1", "200 OK", "PURGE /x"},
		{"CONNECT other:80 HTTP/1.1", "405 Method Not Allowed", ""},
		{"GET / HTTP/2.7", "505 HTTP Version Not Supported", ""},
		{"nonsense", "400 Bad Request", ""},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			c := connect(t, addrOf(t, p))
			_, _ = fmt.Fprintf(c, "%s\r\nHost: x\r\n\r\n", tt.line)
			method, _, _ := strings.Cut(tt.line, " ")
			res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if !strings.HasPrefix(res.Status, tt.status) || res.Header.Get("Saw") != tt.saw {
				t.Errorf("%s, target saw %q; want %s, %q", res.Status, res.Header.Get("Saw"), tt.status, tt.saw)
			}
		})
	}
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(http.ResponseWriter, *http.Request) { t.Error("the target saw the request") })))
	c := connect(t, addrOf(t, p))
	_, _ = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nBig: %s\r\n\r\n", strings.Repeat("x", 100<<10))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil { // what was left unread reset the connection before the answer came through: refused as well
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("no answer: %v", err)
		}
		return
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answer %s, want 431", res.Status)
	}
}

func TestAnswerThatBreaksOffDoesNotLookWhole(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1("A", backend(t, func(c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	})))
	res, err := browser(t).Get("http://" + addrOf(t, p))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("answer that broke off looks whole: %q", b)
	}
}

// upgrade sends the request for an upgrade, with more behind it, and returns the status line.
func upgrade(t testing.TB, c net.Conn, proto, more string) string {
	t.Helper()
	_, _ = fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: %s\r\n\r\n%s", proto, more)
	var head strings.Builder
	one := make([]byte, 1)
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		if _, err := io.ReadFull(c, one); err != nil {
			t.Fatalf("after %q: %v", head.String(), err)
		}
		head.WriteByte(one[0])
	}
	line, _, _ := strings.Cut(head.String(), "\r\n")
	return line
}

func TestUpgradeAcrossASwitch(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1("A", upgrader(t)))
	c := connect(t, addrOf(t, p))
	if got := upgrade(t, c, "echo", "early\n"); got != "HTTP/1.1 101 Switching Protocols" {
		t.Fatal(got)
	}
	readLine := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Fatalf("read %q, %v, want %q", got, err, want)
		}
	}
	readLine("welcome\n")
	readLine("early\n")
	wantOpen(t, p, "A", 1)
	apply(t, p, web1(site(t, "B", nil)))
	p.Drain("A")
	if got := status(t, "http://"+addrOf(t, p)); got != "200 OK" {
		t.Errorf("new target: %s", got)
	}
	during(t, 50*time.Millisecond, "upgraded connection was closed by the drain", func() bool {
		n, _ := p.Conns("A")
		return n == 1
	})
	wantAnswer(t, c, "still there", "still there")
	eventually(t, "bytes are counted", func() bool {
		i := p.Connections("A")
		return len(i) == 1 && i[0].BytesIn == 18 && i[0].BytesOut == 26 && i[0].Client == c.LocalAddr().String()
	})
	_ = c.CloseWrite() // half-close goes through a tunnel, too
	readLine("bye\n")
	if got := what(c); got != "|end" {
		t.Errorf("client saw %q", got)
	}
	wantOpen(t, p, "A", 0)
}

func TestUpgradeIsCut(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1("A", upgrader(t)))
	c := connect(t, addrOf(t, p))
	upgrade(t, c, "echo", "")
	wantOpen(t, p, "A", 1)
	p.Cut(t.Context(), "A", 0)
	wantOpen(t, p, "A", 0)
	if got := what(c); !strings.HasSuffix(got, "|reset") && !strings.HasSuffix(got, "|end") {
		t.Errorf("client saw %q", got)
	}
}

func TestUpgradeRefused(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1("A", upgrader(t)))
	c := connect(t, addrOf(t, p))
	if got := upgrade(t, c, "other", ""); got != "HTTP/1.1 426 Upgrade Required" {
		t.Error(got)
	}
	wantOpen(t, p, "A", 0)
}

func TestUpgradeNobodyAskedFor(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1("A", backend(t, func(c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})))
	if got := status(t, "http://"+addrOf(t, p)); got != "502 Bad Gateway" {
		t.Error(got)
	}
	wantOpen(t, p, "A", 0)
}

func TestAnswerComesAsItIs(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1("A", backend(t, func(c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 299 Fine\r\nContent-Length: 6\r\nDate: then\r\nX-A: 1\r\nX-A: 2\r\nKeep-Alive: 5\r\n\r\n<html>")
	})))
	res, err := browser(t).Get("http://" + addrOf(t, p))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	want := http.Header{"Content-Length": {"6"}, "Date": {"then"}, "X-A": {"1", "2"}}
	if diff := cmp.Diff(want, res.Header); diff != "" || err != nil || string(b) != "<html>" || res.StatusCode != 299 {
		t.Errorf("%s, %q, %v, headers -want +got:\n%s", res.Status, b, err, diff)
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.Copy(w, r.Body)
	})))
	tests := []struct{ path, want string }{{"/yes", "HTTP/1.1 100 Continue"}, {"/no", "HTTP/1.1 403 Forbidden"}}
	for _, tt := range tests {
		c := connect(t, addrOf(t, p))
		_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", tt.path)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || strings.TrimSpace(line) != tt.want {
			t.Errorf("%s: %q, %v, want %q before the body is sent", tt.path, line, err, tt.want)
		}
	}
}

// TestSlowHeaders: who does not say what he wants does not stay, whether a target is there or not.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	p.headers = 50 * time.Millisecond
	apply(t, p, web1(site(t, "A", nil)))
	for _, said := range []string{"", "GET / HTT", "GET / HTTP/1.1\r\nHost: x\r\nA: "} {
		if got := outcomeOf(addrOf(t, p), said); strings.Contains(got, "200 OK") || strings.Contains(got, "timeout") {
			t.Errorf("after %q client saw %q", said, got)
		}
	}
	wantOpen(t, p, "A", 0)
}

func TestUnreachableTargetIsSaidOnce(t *testing.T) {
	t.Parallel()
	var said atomic.Int64
	log := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
		if strings.Contains(string(b), "target does not take connections") {
			said.Add(1)
		}
		return len(b), nil
	}), nil))
	p := newProxyWith(t, Options{Log: log, ConnectTimeout: 20 * time.Millisecond})
	apply(t, p, tcp("A", deadPort(t)))
	for range 3 {
		outcomeAt(addrOf(t, p))
	}
	if got := said.Load(); got != 1 {
		t.Errorf("said %d times", got)
	}
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
