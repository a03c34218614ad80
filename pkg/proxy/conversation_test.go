package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// raw sends text to p and returns all that comes back until the connection ends.
func raw(t testing.TB, p *Proxy, text string) string {
	t.Helper()
	c := connect(t, addrOf(t, p))
	_, _ = io.WriteString(c, text)
	return what(c)
}

func TestTrailersBothWays(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	seen := make(chan http.Header, 1)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		_, _ = io.Copy(w, r.Body)
		seen <- r.Trailer
		w.Header().Set("Sum", "42")
		w.Header().Set(http.TrailerPrefix+"Late", "yes")
	})))
	r, _ := http.NewRequest("POST", "http://"+addrOf(t, p), io.MultiReader(strings.NewReader("a"), strings.NewReader("b")))
	r.Trailer = http.Header{"Check": {"7"}, "X-Forwarded-For": {"6.6.6.6"}}
	res, err := browser(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || string(b) != "ab" {
		t.Errorf("%q, %v", b, err)
	}
	got := <-seen
	delete(got, "X-Forwarded-For") // announced, and never sent
	if diff := cmp.Diff(http.Header{"Check": {"7"}}, got); diff != "" {
		t.Errorf("target's trailers, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(http.Header{"Sum": {"42"}, "Late": {"yes"}}, res.Trailer); diff != "" {
		t.Errorf("client's trailers, -want +got:\n%s", diff)
	}
}

// TestUploadsReuseConnections: once the target was seen to keep connections open, what must not be sent
// twice goes there too.
func TestUploadsReuseConnections(t *testing.T) {
	t.Parallel()
	var open, opened atomic.Int64
	addr := backend(t, func(c *net.TCPConn) {
		open.Add(1)
		opened.Add(1)
		defer open.Add(-1)
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	p := newProxy(t)
	apply(t, p, web1("A", addr))
	client := browser(t)
	post := func() {
		res, err := client.Post("http://"+addrOf(t, p), "text/plain", strings.NewReader("data"))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
	}
	post()
	seenToKeep(t, p)
	before := opened.Load()
	for range 50 {
		post()
	}
	if n := opened.Load() - before; n > 1 { // one if the next upload came before the connection of the first was put back
		t.Errorf("50 uploads made %d connections", n)
	}
}

// seenToKeep waits until the one idle connection to the target was open for so long that requests which must
// not be sent twice use it. They do so from now on, however slow this machine is.
func seenToKeep(t testing.TB, p *Proxy) {
	t.Helper()
	u := upstreamOf(p)
	u.mu.Lock()
	u.trusted = time.Hour
	u.mu.Unlock()
	eventually(t, "the target is seen to keep connections", func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return len(u.idle) == 1 && time.Since(u.idle[0].since) > keepsAfter
	})
}

// upstreamOf is that of the test's listener.
func upstreamOf(p *Proxy) *upstream {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	return p.fronts["a:1"].route.dest.up
}

// dier answers requests until told to, and then closes the connection on the next one without an answer.
func dier(t testing.TB, die *atomic.Bool, requests *atomic.Int64) string {
	return backend(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for n := 0; ; n++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			requests.Add(1)
			if n > 0 && die.Load() {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
}

func TestWhatIsSentTwice(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method   string
		want     string
		requests int64 // that reached the target, of the last one sent
	}{
		{"GET", "200 OK", 2},
		{"HEAD", "200 OK", 2},
		{"POST", "502 Bad Gateway", 1},
		{"PUT", "502 Bad Gateway", 1},
		{"DELETE", "502 Bad Gateway", 1},
		{"PATCH", "502 Bad Gateway", 1},
	} {
		t.Run(tt.method, func(t *testing.T) {
			t.Parallel()
			var die atomic.Bool
			var requests atomic.Int64
			p := newProxy(t)
			apply(t, p, web1("A", dier(t, &die, &requests)))
			url := "http://" + addrOf(t, p)
			if got := status(t, url); got != "200 OK" {
				t.Fatal(got)
			}
			seenToKeep(t, p)
			die.Store(true)
			before := requests.Load()
			r, _ := http.NewRequest(tt.method, url, nil)
			res, err := browser(t).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if n := requests.Load() - before; res.Status != tt.want || n != tt.requests {
				t.Errorf("%s after %d requests, want %s after %d", res.Status, n, tt.want, tt.requests)
			}
			wantOpen(t, p, "A", 0)
		})
	}
}

// TestTargetSpeaksUnasked: what a target says on an idle connection is nobody's answer.
func TestTargetSpeaksUnasked(t *testing.T) {
	t.Parallel()
	speak := make(chan struct{})
	addr := backend(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
		<-speak
		_, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 3\r\n\r\nbad")
		_, _ = io.Copy(io.Discard, r)
	})
	p := newProxy(t)
	apply(t, p, web1("A", addr))
	for range 3 {
		if got := status(t, "http://"+addrOf(t, p)); got != "200 OK" {
			t.Errorf("client got %s", got)
		}
		speak <- struct{}{}
		eventually(t, "what it says is there", func() bool {
			u := upstreamOf(p)
			u.mu.Lock()
			defer u.mu.Unlock()
			return len(u.idle) == 1 && !u.idle[0].isQuiet()
		})
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s;", r.Method, r.URL.Path, b)
	})))
	got := raw(t, p, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"+
		"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ntwo"+
		"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nth\r\n3\r\nree\r\n0\r\n\r\n"+
		"HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n"+
		"GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /6 HTTP/1.1\r\nHost: a\r\n\r\n")
	r := bufio.NewReader(strings.NewReader(got))
	for _, want := range []string{"GET /1 ;", "POST /2 two;", "POST /3 three;", "", "GET /5 ;"} {
		method := "GET"
		if want == "" {
			method = "HEAD"
		}
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%v in %q", err, got)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || string(b) != want {
			t.Errorf("answer %q, %v, want %q", b, err, want)
		}
	}
	if rest, _ := io.ReadAll(r); string(rest) != "|end" {
		t.Errorf("rest %q", rest)
	}
}

// TestAnswersWithoutContent: the connection goes on after each of them.
func TestAnswersWithoutContent(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusNotModified)
		default:
			_, _ = io.WriteString(w, strings.Repeat("x", 5000))
		}
	})))
	c := connect(t, addrOf(t, p))
	r := bufio.NewReader(c)
	for _, tt := range []struct {
		method, path string
		status, len  int
	}{{"GET", "/204", 204, 0}, {"GET", "/304", 304, 0}, {"HEAD", "/", 200, 0}, {"GET", "/", 200, 5000}, {"HEAD", "/", 200, 0}} {
		_, _ = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: a\r\n\r\n", tt.method, tt.path)
		res, err := http.ReadResponse(r, &http.Request{Method: tt.method})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != tt.status || len(b) != tt.len {
			t.Errorf("%s %s: %s, %d bytes, %v", tt.method, tt.path, res.Status, len(b), err)
		}
	}
}

func TestInterimAnswersArePassedOn(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})))
	var hints []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprintf("%d %s", code, h.Get("Link")))
		return nil
	}})
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addrOf(t, p), nil)
	res, err := browser(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if diff := cmp.Diff([]string{"103 </style.css>; rel=preload"}, hints); diff != "" || res.StatusCode != 200 {
		t.Errorf("%s, hints -want +got:\n%s", res.Status, diff)
	}
	if got := raw(t, p, "GET / HTTP/1.0\r\n\r\n"); strings.Contains(got, "103") {
		t.Errorf("client of HTTP/1.0 got %q", got)
	}
}

func TestOldClient(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, " chunked")
	})))
	got := raw(t, p, "GET / HTTP/1.0\r\n\r\n")
	if !strings.Contains(got, "\r\n\r\n"+addrOf(t, p)+" chunked|end") || strings.Contains(got, "Transfer-Encoding") {
		t.Errorf("client of HTTP/1.0 got %q", got)
	}
}

// TestContentIsStreamed sends much both ways at once, and compares sums.
func TestContentIsStreamed(t *testing.T) {
	t.Parallel()
	const size = 12 << 20
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", r.Header.Get("Content-Length"))
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})))
	data := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(data)
	want := sha256.Sum256(data)
	for _, path := range []string{"/sized", "/chunked"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			var body io.Reader = bytes.NewReader(data)
			if path == "/chunked" {
				body = struct{ io.Reader }{body}
			}
			res, err := browser(t).Post("http://"+addrOf(t, p)+path, "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			h := sha256.New()
			n, err := io.Copy(h, res.Body)
			if err != nil || n != size || !bytes.Equal(h.Sum(nil), want[:]) {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}

// TestTargetRefusesContent: the client learns why, also when it is still sending.
func TestTargetRefusesContent(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1("A", backend(t, func(c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
		_ = c.CloseWrite()
		_, _ = io.CopyN(io.Discard, c, 1<<20)
	})))
	c := connect(t, addrOf(t, p))
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range 50 {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 413 || string(b) != "big" || err != nil {
		t.Errorf("%s, %q, %v", res.Status, b, err)
	}
	_ = c.Close()
	wantOpen(t, p, "A", 0)
}

func TestClientStopsSendingContent(t *testing.T) {
	t.Parallel()
	p, waits := newProxy(t), newProxy(t)
	p.stall = 100 * time.Millisecond
	var broke atomic.Int64
	l := web1(site(t, "A", func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			broke.Add(1)
		}
	}))
	apply(t, p, l)
	apply(t, waits, l)
	got := raw(t, p, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
	if !strings.HasPrefix(got, "HTTP/1.1 408 ") {
		t.Errorf("client got %q, want 408", got)
	}
	wantOpen(t, p, "A", 0)
	c := connect(t, addrOf(t, waits))
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
	wantOpen(t, waits, "A", 1)
	_ = c.Close()
	wantOpen(t, waits, "A", 0)
	eventually(t, "target sees that both broke off", func() bool { return broke.Load() == 2 })
}

// TestClientLeavesDuringItsRequest: the target is not kept busy for nobody.
func TestClientLeavesDuringItsRequest(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	arrived, noticed := make(chan struct{}), make(chan struct{})
	apply(t, p, web1(site(t, "A", func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(noticed)
	})))
	c := connect(t, addrOf(t, p))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived // before, the client may leave without the target ever hearing of it
	wantOpen(t, p, "A", 1)
	_ = c.Close()
	wantOpen(t, p, "A", 0)
	<-noticed
}

// TestListenerGoes: idle clients are sent away, a request in flight is answered and then its client too.
func TestListenerGoes(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	answer := make(chan struct{})
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-answer
		}
		_, _ = io.WriteString(w, "ok")
	})))
	idle, busy := connect(t, addrOf(t, p)), connect(t, addrOf(t, p))
	r := bufio.NewReader(idle)
	_, _ = io.WriteString(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	wantOpen(t, p, "A", 0)
	_, _ = io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	wantOpen(t, p, "A", 1)
	apply(t, p)
	if b, err := io.ReadAll(r); len(b) > 0 || err != nil {
		t.Errorf("idle client got %q, %v, want the end", b, err)
	}
	close(answer)
	if got := what(busy); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.Contains(got, "Connection: close\r\n") || !strings.HasSuffix(got, "ok|end") {
		t.Errorf("client with a request got %q", got)
	}
}

// TestWebSocketIsToldThatItEnds: at the end of a drain a silent WebSocket gets a close frame on both sides.
func TestWebSocketIsToldThatItEnds(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	got := make(chan []byte, 1)
	apply(t, p, web1("A", backend(t, func(c *net.TCPConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n")
		b, _ := io.ReadAll(c)
		got <- b
	})))
	c := connect(t, addrOf(t, p))
	if line := upgrade(t, c, "websocket", ""); line != "HTTP/1.1 101 Switching Protocols" {
		t.Fatal(line)
	}
	wantOpen(t, p, "A", 1)
	eventually(t, "connection is silent", func() bool {
		l := p.Connections("A")
		return len(l) == 1 && l[0].Idle > politeIdle
	})
	p.Cut(t.Context(), "A", 0)
	if b, err := io.ReadAll(c); !bytes.Equal(b, []byte{0x88, 2, 0x03, 0xe9}) || err != nil {
		t.Errorf("client got %x, %v, want a close frame with 1001", b, err)
	}
	b := <-got
	if len(b) != 8 || b[0] != 0x88 || b[1] != 0x82 || b[6]^b[2] != 0x03 || b[7]^b[3] != 0xe9 {
		t.Errorf("target got %x, want a masked close frame with 1001", b)
	}
	wantOpen(t, p, "A", 0)
}

// TestRequestsUnderCuts: whatever is cut when, counts end at zero and clients see an answer or an error.
func TestRequestsUnderCuts(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, web1(site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
		_ = http.NewResponseController(w).Flush()
		waitABit(rand.New(rand.NewPCG(1, uint64(r.ContentLength))))
	})))
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	var wg sync.WaitGroup
	var done atomic.Int64
	const enough = 500 // answers
	for i := range 8 {
		client := browser(t)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				res, err := client.Post("http://"+addrOf(t, p), "text/plain", strings.NewReader(strings.Repeat("x", (i*1000)%20000+n%7)))
				if err != nil {
					continue
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err == nil && res.StatusCode == 200 && len(b) != (i*1000)%20000+n%7 {
					t.Errorf("answer of %d bytes looks whole", len(b))
				}
				if done.Add(1) == enough {
					stop()
				}
			}
		})
	}
	for ctx.Err() == nil {
		p.Cut(ctx, "A", 300)
		<-time.After(time.Millisecond)
	}
	wg.Wait()
	wantOpen(t, p, "A", 0)
	if n := done.Load(); n < enough {
		t.Errorf("%d requests were answered, want %d", n, enough)
	}
	if got := status(t, "http://"+addrOf(t, p)); got != "200 OK" {
		t.Errorf("afterwards: %s", got)
	}
}

// TestErrorsAreWhole: an answer of the proxy's own leaves the connection usable.
func TestErrorsAreWhole(t *testing.T) {
	t.Parallel()
	p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: time.Second})
	apply(t, p, web1("A", deadPort(t)))
	c := connect(t, addrOf(t, p))
	r := bufio.NewReader(c)
	for _, method := range []string{"GET", "POST", "HEAD", "GET"} {
		_, _ = fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", method)
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 502 {
			t.Errorf("%s: %s, %v", method, res.Status, err)
		}
		_ = res.Body.Close()
	}
	_ = c.CloseWrite()
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last request: %v", err)
	}
}
