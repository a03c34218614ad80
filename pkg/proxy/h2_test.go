package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// siteH2C is an HTTP/2 target without TLS that says its name in the header Served-By.
func siteH2C(t testing.TB, name string, h http.HandlerFunc) (id, addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Served-By", name)
		if r.ProtoMajor != 2 {
			http.Error(w, "not over HTTP/2", http.StatusHTTPVersionNotSupported)
			return
		}
		if h != nil {
			h(w, r)
		}
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return name, s.Listener.Addr().String()
}

// talk answers each line at once, and ends with trailers, as gRPC does. It begins its answer before it
// reads anything.
func talk(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)
	_ = ctl.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	w.WriteHeader(http.StatusOK)
	_ = ctl.Flush()
	in := bufio.NewScanner(r.Body)
	n := 0
	for in.Scan() {
		n++
		fmt.Fprintf(w, "%s %s\n", w.Header().Get("Served-By"), in.Text())
		_ = ctl.Flush()
	}
	w.Header().Set("Grpc-Status", "0")
	w.Header().Set(http.TrailerPrefix+"Grpc-Message", fmt.Sprint(n))
	if r.Trailer.Get("Checksum") != "" {
		w.Header().Set(http.TrailerPrefix+"Checksum", r.Trailer.Get("Checksum"))
	}
}

// A chat is a request whose content and answer go on at the same time.
type chat struct {
	res  *http.Response
	say  *io.PipeWriter
	hear *bufio.Reader
}

// startChat begins a chat and waits for the head of its answer.
func startChat(t testing.TB, c *http.Client, url string) *chat {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Te", "trailers")
	req.Trailer = http.Header{"Checksum": {"4711"}}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return &chat{res, w, bufio.NewReader(res.Body)}
}

func (c *chat) ask(t testing.TB, line, want string) {
	t.Helper()
	if _, err := io.WriteString(c.say, line+"\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := c.hear.ReadString('\n'); err != nil || got != want+"\n" {
		t.Fatalf("answer to %q = %q, %v, want %q", line, got, err, want)
	}
}

// end ends the chat and checks its trailers.
func (c *chat) end(t testing.TB, said int) {
	t.Helper()
	_ = c.say.Close()
	rest, err := io.ReadAll(c.hear)
	if err != nil || len(rest) > 0 {
		t.Errorf("end of the answer: %q, %v", rest, err)
	}
	for name, want := range map[string]string{"Grpc-Status": "0", "Grpc-Message": fmt.Sprint(said), "Checksum": "4711"} {
		if got := c.res.Trailer.Get(name); got != want {
			t.Errorf("trailer %s = %q, want %q", name, got, want)
		}
	}
}

// TestChatAcrossASwitch: as a gRPC stream, whatever the two sides speak, it goes on at its target until it
// ends, and the next one goes to the new target.
func TestChatAcrossASwitch(t *testing.T) {
	for _, upstream := range []string{UpstreamHTTP1, UpstreamH2C} {
		for _, d := range dialects {
			t.Run(d.name+" to "+upstream, func(t *testing.T) {
				t.Parallel()
				target := func(name string) (string, string) {
					if upstream == UpstreamH2C {
						return siteH2C(t, name, talk)
					}
					return site(t, name, talk)
				}
				p := newProxy(t)
				l := d.listener(t, "", "")
				l.Upstream = upstream
				l.TargetID, l.Target = target("A")
				apply(t, p, l)
				c := d.client(t, addrOf(t, p))
				old := startChat(t, c, d.url("shop.example", "/svc/Talk"))
				old.ask(t, "one", "A one")
				wantOpen(t, p, "A", 1)
				l.TargetID, l.Target = target("B")
				apply(t, p, l)
				p.Drain("A")
				old.ask(t, "two", "A two")
				next := startChat(t, c, d.url("shop.example", "/svc/Talk"))
				next.ask(t, "three", "B three")
				old.ask(t, "four", "A four")
				old.end(t, 3)
				wantOpen(t, p, "A", 0)
				next.end(t, 1)
				wantOpen(t, p, "B", 0)
			})
		}
	}
}

// TestSwitchUnderH2Requests: 200 switches, and every request is answered by the target of its time.
func TestSwitchUnderH2Requests(t *testing.T) {
	for _, upstream := range []string{UpstreamHTTP1, UpstreamH2C} {
		t.Run(upstream, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			ids, addrs := make([]string, 4), make([]string, 4)
			for i := range ids {
				name := fmt.Sprintf("T%d", i)
				answer := func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					_, _ = w.Write(body)
				}
				if upstream == UpstreamH2C {
					ids[i], addrs[i] = siteH2C(t, name, answer)
				} else {
					ids[i], addrs[i] = site(t, name, answer)
				}
			}
			l := secure(t, ids[0], addrs[0])
			l.Upstream = upstream
			apply(t, p, l)
			d := dialects[2]
			stop := make(chan struct{})
			var wg sync.WaitGroup
			var count atomic.Int64
			for i := range 4 {
				c := d.client(t, addrOf(t, p))
				wg.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						body := strings.Repeat("x", (n%5)*(i+1)*1000)
						res, err := c.Post(d.url("shop.example", "/"), "text/plain", strings.NewReader(body))
						if err != nil {
							t.Error(err)
							return
						}
						got, err := io.ReadAll(res.Body)
						_ = res.Body.Close()
						if err != nil || res.StatusCode != http.StatusOK || string(got) != body {
							t.Errorf("%s, %d bytes of %d, %v", res.Status, len(got), len(body), err)
							return
						}
						count.Add(1)
					}
				})
			}
			for i := 0; (i < 200 || count.Load() < 50) && !t.Failed(); i++ { // a busy machine answers few
				l.TargetID, l.Target = ids[(i+1)%4], addrs[(i+1)%4]
				apply(t, p, l)
				p.Drain(ids[i%4])
				<-time.After(2 * time.Millisecond)
			}
			close(stop)
			wg.Wait()
			for _, id := range ids {
				wantOpen(t, p, id, 0)
			}
		})
	}
}

func TestHeldH2Requests(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := secure(t, "", "")
	l.HoldMax, l.HoldTimeout = 2, patience
	apply(t, p, l)
	d := dialects[2]
	c := d.client(t, addrOf(t, p))
	var wg sync.WaitGroup
	codes := make(chan int, 3)
	for range 3 {
		wg.Go(func() {
			res, err := c.Get(d.url("shop.example", "/"))
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			codes <- res.StatusCode
		})
	}
	if code := <-codes; code != http.StatusServiceUnavailable {
		t.Errorf("the third one got %d, want 503", code)
	}
	l.TargetID, l.Target = site(t, "A", nil)
	apply(t, p, l)
	wg.Wait()
	for range 2 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a held one got %d, want 200", code)
		}
	}
}

// TestCutH2Requests: a stream that is cut ends, the others of its connection go on.
func TestCutH2Requests(t *testing.T) {
	for _, upstream := range []string{UpstreamHTTP1, UpstreamH2C} {
		t.Run(upstream, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			l := secure(t, "", "")
			l.Upstream = upstream
			target := site
			if upstream == UpstreamH2C {
				target = siteH2C
			}
			l.TargetID, l.Target = target(t, "A", talk)
			apply(t, p, l)
			d := dialects[2]
			c := d.client(t, addrOf(t, p))
			begun := startChat(t, c, d.url("shop.example", "/"))
			begun.ask(t, "one", "A one")
			l.TargetID, l.Target = target(t, "B", talk)
			apply(t, p, l)
			other := startChat(t, c, d.url("shop.example", "/"))
			p.Cut(t.Context(), "A", 0)
			wantOpen(t, p, "A", 0)
			if _, err := io.ReadAll(begun.hear); err == nil {
				t.Error("an answer that was cut looks whole")
			}
			other.ask(t, "two", "B two")
			other.end(t, 1)
		})
	}
}

// TestClientOfH2RequestLeaves: its target does not go on working for nobody.
func TestClientOfH2RequestLeaves(t *testing.T) {
	for _, upstream := range []string{UpstreamHTTP1, UpstreamH2C} {
		for _, d := range dialects {
			t.Run(d.name+" to "+upstream, func(t *testing.T) {
				t.Parallel()
				p := newProxy(t)
				l := d.listener(t, "", "")
				l.Upstream = upstream
				arrived, left := make(chan struct{}), make(chan struct{})
				wait := func(_ http.ResponseWriter, r *http.Request) {
					close(arrived)
					<-r.Context().Done()
					close(left)
				}
				if upstream == UpstreamH2C {
					l.TargetID, l.Target = siteH2C(t, "A", wait)
				} else {
					l.TargetID, l.Target = site(t, "A", wait)
				}
				apply(t, p, l)
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url("shop.example", "/"), nil)
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				wg.Go(func() {
					if res, err := d.client(t, addrOf(t, p)).Do(req); err == nil {
						t.Errorf("an answer: %s", res.Status)
						_ = res.Body.Close()
					}
				})
				<-arrived // before, the client may leave without the target ever hearing of it
				wantOpen(t, p, "A", 1)
				cancel()
				wg.Wait()
				<-left
				wantOpen(t, p, "A", 0)
			})
		}
	}
}

// framer is a client of HTTP/2 that sends what it likes.
type framer struct {
	*http2.Framer
	t    testing.TB
	head strings.Builder
	enc  *hpack.Encoder
	next uint32
}

func newFramer(t testing.TB, addr string) *framer {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := &framer{Framer: http2.NewFramer(c, c), t: t, next: 1}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.head)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// ask sends a head, name and value by turns, and returns the status of the answer, or what else became of
// the stream.
func (f *framer) ask(fields ...string) string {
	f.t.Helper()
	f.head.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	id := f.next
	f.next += 2
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(f.head.String()), EndStream: true, EndHeaders: true}); err != nil {
		return err.Error()
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return err.Error()
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if frame.StreamID == id {
				return frame.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if frame.StreamID == id {
				return frame.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			return "GOAWAY " + frame.ErrCode.String()
		}
	}
}

// TestH2IsReadStrictly: what could be another request once it is written as HTTP/1 reaches no target.
func TestH2IsReadStrictly(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	id, addr := site(t, "A", func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	p := newProxy(t)
	apply(t, p, secure(t, id, addr))
	base := func(method, path, authority string, more ...string) []string {
		return append([]string{":method", method, ":scheme", "https", ":path", path, ":authority", authority}, more...)
	}
	tests := []struct {
		name string
		send []string
		want string
	}{
		{"ordinary", base("GET", "/", "shop.example"), "200"},
		{"host as in authority", base("GET", "/", "shop.example", "host", "shop.example"), "200"},
		{"another host", base("GET", "/", "shop.example", "host", "evil.example"), "400"},
		{"two hosts", base("GET", "/", "shop.example", "host", "shop.example", "host", "evil.example"), "400"},
		{"no host at all", []string{":method", "GET", ":scheme", "https", ":path", "/"}, "400"},
		{"host that is none", base("GET", "/", "shop.example/x"), "400"},
		{"user in the host", base("GET", "/", "a@shop.example"), "PROTOCOL_ERROR"},
		{"line in a value", base("GET", "/", "shop.example", "x", "a\r\nhost: evil"), "PROTOCOL_ERROR"},
		{"line in a name", base("GET", "/", "shop.example", "x\r\ny", "a"), "PROTOCOL_ERROR"},
		{"line in the path", base("GET", "/\r\nhost: evil", "shop.example"), "PROTOCOL_ERROR"},
		{"space in the path", base("GET", "/ HTTP/1.1", "shop.example"), "400"},
		{"space in the method", base("GET /evil HTTP/1.1", "/", "shop.example"), "400"},
		{"upper case", base("GET", "/", "shop.example", "X-Up", "a"), "PROTOCOL_ERROR"},
		{"connection", base("GET", "/", "shop.example", "connection", "close"), "400"},
		{"transfer encoding", base("GET", "/", "shop.example", "transfer-encoding", "chunked"), "400"},
		{"upgrade", base("GET", "/", "shop.example", "upgrade", "websocket"), "400"},
		{"path that is none", base("GET", "x", "shop.example"), "PROTOCOL_ERROR"},
		{"connect", []string{":method", "CONNECT", ":authority", "shop.example:443"}, "405"},
		{"extended connect", base("CONNECT", "/", "shop.example", ":protocol", "websocket"), "PROTOCOL_ERROR"},
		{"length without content", base("POST", "/", "shop.example", "content-length", "5"), "400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := reached.Load()
			got := newFramer(t, addrOf(t, p)).ask(tt.send...)
			if got != tt.want {
				t.Errorf("answer %s, want %s", got, tt.want)
			}
			if n := reached.Load() - before; (n > 0) != (tt.want == "200") {
				t.Errorf("%d requests reached the target", n)
			}
		})
	}
}

// TestListenerGoesAway: clients are told; what is in flight is answered.
func TestListenerGoesAway(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	id, addr := site(t, "A", func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
	})
	p := newProxy(t)
	apply(t, p, secure(t, id, addr))
	f := newFramer(t, addrOf(t, p))
	if got := f.ask(":method", "GET", ":scheme", "https", ":path", "/", ":authority", "shop.example"); got != "200" {
		t.Fatalf("answer %s, want 200", got)
	}
	d := dialects[2]
	c := d.client(t, addrOf(t, p))
	var wg sync.WaitGroup
	wg.Go(func() {
		res, err := c.Get(d.url("shop.example", "/slow"))
		if err != nil {
			t.Error(err)
			return
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Error(res.Status)
		}
	})
	wantOpen(t, p, "A", 1)
	apply(t, p) // nothing is listened to any more
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Errorf("no GOAWAY, but %v", err)
			break
		}
		if g, ok := frame.(*http2.GoAwayFrame); ok {
			if g.ErrCode != http2.ErrCodeNo {
				t.Errorf("GOAWAY says %v", g.ErrCode)
			}
			break
		}
	}
	close(release)
	wg.Wait()
	wantOpen(t, p, "A", 0)
}

// TestSlowHandshakes: clients that do not shake hands are not waited for, and disturb nobody.
func TestSlowHandshakes(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	p.headers = 5 * time.Second
	apply(t, p, secure(t, "", ""))
	id, addr := site(t, "A", nil)
	l := secure(t, id, addr)
	apply(t, p, l)
	at := addrOf(t, p)
	var slow []net.Conn
	for i := range 200 {
		c := connect(t, at)
		if i%2 == 0 {
			_, _ = c.Write([]byte{22, 3, 1, 0})
		}
		slow = append(slow, c)
	}
	d := dialects[2]
	for range 20 {
		if res := fetch(t, d.client(t, at), d.url("shop.example", "/")); res.StatusCode != http.StatusOK {
			t.Error(res.Status)
		}
	}
	for _, c := range slow {
		if _, err := io.ReadAll(c); isTimeout(err) {
			t.Fatal("a client that does not shake hands is waited for")
		}
	}
	eventually(t, "no connection left", func() bool { return p.conns.Load() <= 20 })
}

// TestShutdownLetsH2AnswersEnd: the last answers arrive whole, though nothing is left to wait for once the
// target has said them.
func TestShutdownLetsH2AnswersEnd(t *testing.T) {
	t.Parallel()
	for range 10 {
		release := make(chan struct{})
		id, addr := site(t, "A", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-release
			_, _ = io.WriteString(w, strings.Repeat("x", 50_000))
		})
		p := newProxy(t)
		apply(t, p, secure(t, id, addr))
		d := dialects[2]
		var wg sync.WaitGroup
		for range 4 {
			c := d.client(t, addrOf(t, p))
			for range 4 {
				res, err := c.Get(d.url("shop.example", "/"))
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					defer res.Body.Close()
					if b, err := io.ReadAll(res.Body); err != nil || len(b) != 50_000 {
						t.Errorf("%d bytes of the answer, %v", len(b), err)
					}
				})
			}
		}
		wg.Go(func() {
			if err := p.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "listener is gone", func() bool { return p.Addr("a:1") == nil })
		close(release)
		wg.Wait()
	}
}

// A gated connection keeps what it reads for itself while its gate is locked.
type gated struct {
	net.Conn
	gate *sync.RWMutex
}

func (g gated) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	g.gate.RLock()
	defer g.gate.RUnlock()
	return n, err
}

// TestShutdownWaitsForSlowH2Clients: a client that stands still for a moment while its answer ends is not closed on.
func TestShutdownWaitsForSlowH2Clients(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	id, addr := site(t, "A", func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, strings.Repeat("x", 50_000))
	})
	p := newProxy(t)
	apply(t, p, secure(t, id, addr))
	d := dialects[2]
	c, at := d.client(t, addrOf(t, p)), addrOf(t, p)
	var gate sync.RWMutex
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, at)
		return gated{conn, &gate}, err
	}
	res, err := c.Get(d.url("shop.example", "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	gate.Lock()
	start := time.Now()
	close(release)
	if err := p.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	took := time.Since(start)
	gate.Unlock()
	if took < 500*time.Millisecond {
		t.Errorf("its connection was closed after %v", took)
	}
	if b, err := io.ReadAll(res.Body); err != nil || len(b) != 50_000 {
		t.Errorf("%d bytes of the answer, %v", len(b), err)
	}
}

// TestH2CTargetSaysNothingOfTheConnection: fields that HTTP/2 has no meaning for do not reach a client that has.
func TestH2CTargetSaysNothingOfTheConnection(t *testing.T) {
	t.Parallel()
	hop := []string{"Keep-Alive", "Proxy-Connection", "Upgrade"}
	l := web1(siteH2C(t, "A", func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range hop {
			w.Header().Set(name, "x")
		}
		w.Header().Set("Kept", "x")
	}))
	l.Upstream = UpstreamH2C
	p := newProxy(t)
	apply(t, p, l)
	d := dialects[0]
	got := fetch(t, d.client(t, addrOf(t, p)), d.url("shop.example", "/"))
	if got.StatusCode != http.StatusOK || got.Header.Get("Kept") != "x" {
		t.Errorf("answer %s %v", got.Status, got.Header)
	}
	for _, name := range hop {
		if v := got.Header.Get(name); v != "" {
			t.Errorf("%s: %s reached the client", name, v)
		}
	}
}
