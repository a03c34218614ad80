package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// at is a listener under another name.
func at(l Listener, name, addr string, hosts []string, path string) Listener {
	l.Name, l.Match = name, Match{Hosts: hosts, Path: path}
	if addr != "" {
		l.Addrs = []string{addr}
	}
	return l
}

// serial is the number of the certificate that a client which asks for name sees.
func serial(t testing.TB, addr, name string) int64 {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		t.Error(err)
		return 0
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// TestCertificatesOfSeveralOwners: an address has the certificates of all its listeners, and only theirs.
func TestCertificatesOfSeveralOwners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProxy(t)
	a := at(secure(t, "", ""), "a", "", nil, "")
	a.TLS = &TLS{Certs: []KeyPair{certify(t, dir, 1, "a.example")}}
	if err := p.Apply("A", []Listener{a}); err != nil {
		t.Fatal(err)
	}
	addr := p.Addr("a")[0]
	b := at(secure(t, "", ""), "b", addr, []string{"b.example", "*.b.example"}, "")
	b.TLS = &TLS{Certs: []KeyPair{certify(t, dir, 2, "b.example", "*.b.example")}}
	if err := p.Apply("B", []Listener{b}); err != nil {
		t.Fatal(err)
	}
	want := func(what string, serials map[string]int64) {
		t.Helper()
		for name, n := range serials {
			if got := serial(t, addr, name); got != n {
				t.Errorf("%s: certificate for %q is %d, want %d", what, name, got, n)
			}
		}
	}
	want("both", map[string]int64{"a.example": 1, "b.example": 2, "x.b.example": 2, "other": 1, "": 1})
	if err := p.Apply("B", nil); err != nil {
		t.Fatal(err)
	}
	want("without B", map[string]int64{"a.example": 1, "b.example": 1})
	plain := at(web1("", ""), "c", addr, []string{"c.example"}, "")
	tcp := at(tcp("", ""), "d", addr, nil, "")
	for name, l := range map[string]Listener{"plain HTTP": plain, "TCP": tcp} {
		if err := p.Apply("C", []Listener{l}); err == nil || !strings.Contains(err.Error(), `listener "a" of "A"`) {
			t.Errorf("%s beside TLS: %v, want an error that names the other listener", name, err)
		}
	}
}

// TestCertificateReloadUnderLoad: new connections all the time, and none of them fails.
func TestCertificateReloadUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var logged lockedBuffer
	p := newProxyWith(t, Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	p.files = 20 * time.Millisecond
	id, target := site(t, "A", nil)
	l := web1(id, target)
	pair := certify(t, dir, 1, "shop.example")
	l.TLS = &TLS{Certs: []KeyPair{pair}}
	apply(t, p, l)
	addr := addrOf(t, p)
	var (
		wg   sync.WaitGroup
		seen atomic.Int64
		stop = make(chan struct{})
	)
	for _, d := range dialects[1:3] {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c := d.client(t, addr)
				res, err := c.Get(d.url("shop.example", "/"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				c.CloseIdleConnections()
				seen.Store(max(seen.Load(), res.TLS.PeerCertificates[0].SerialNumber.Int64()))
			}
		})
	}
	for i := range int64(4) {
		certify(t, dir, i+2, "shop.example")
		eventually(t, "the new certificate is served", func() bool { return seen.Load() == i+2 })
	}
	good, err := os.ReadFile(pair.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	put(t, pair.CertFile, []byte("nonsense"))
	// Of a new certificate whose key is not there yet it may have spoken before: certify writes two files.
	const broken = "failed to find any PEM data"
	eventually(t, "the broken one is spoken of", func() bool { return strings.Contains(logged.String(), broken) })
	put(t, pair.CertFile, good)
	l.HoldMax++
	apply(t, p, l)
	close(stop)
	wg.Wait()
	if n := strings.Count(logged.String(), broken); n != 1 || !strings.Contains(logged.String(), "the old one stays") {
		t.Errorf("said %d times that the certificate is broken, want once:\n%s", n, logged.String())
	}
}

// lockedBuffer is a buffer for many.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestBadHTTPListeners(t *testing.T) {
	dir := t.TempDir()
	pair := certify(t, dir, 1, "a")
	tests := []struct {
		name   string
		change func(l *Listener)
		want   string
	}{
		{"TLS of TCP", func(l *Listener) { l.Kind, l.TLS = TCP, &TLS{Certs: []KeyPair{pair}} }, `are of kind "http"`},
		{"no certificate", func(l *Listener) { l.TLS = &TLS{} }, "TLS without a certificate"},
		{"no key", func(l *Listener) { l.TLS = &TLS{Certs: []KeyPair{{CertFile: pair.CertFile}}} }, "both files are needed"},
		{"no such file", func(l *Listener) { l.TLS = &TLS{Certs: []KeyPair{pair, {filepath.Join(dir, "x"), pair.KeyFile}}} }, "no such file"},
		{"no such pages", func(l *Listener) { l.Pages = filepath.Join(dir, "x") }, "no such file"},
		{"unknown upstream", func(l *Listener) { l.Upstream = "http3" }, `upstream "http3"`},
		{"bad prefix", func(l *Listener) { l.Trusted = []netip.Prefix{{}} }, "prefix is not valid"},
		{"path with an escape", func(l *Listener) { l.Match.Path = "/a%20b" }, "not possible in the path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			id, addr := site(t, "A", nil)
			good := web1(id, addr)
			apply(t, p, good)
			bad := good
			tt.change(&bad)
			err := p.Apply("test", []Listener{bad})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Apply = %v, want %q", err, tt.want)
			}
			d := dialects[0]
			if res := fetch(t, d.client(t, addrOf(t, p)), d.url("x", "/")); res.StatusCode != http.StatusOK {
				t.Errorf("the listener is not what it was: %s", res.Status)
			}
		})
	}
}

// TestRoutesComeAndGo: while requests flow, owners add and remove their parts of an address; nobody gets
// an answer of the wrong one, and who is not concerned notices nothing.
func TestRoutesComeAndGo(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	dir := t.TempDir()
	base := web1("", "")
	base.TLS = &TLS{Certs: []KeyPair{certify(t, dir, 1, "a.example", "b.example")}}
	with := func(name, addr string, hosts []string, path string) Listener {
		l := at(base, name, addr, hosts, path)
		l.TargetID, l.Target = site(t, name, nil)
		return l
	}
	all := with("all", "", nil, "")
	if err := p.Apply("all", []Listener{all}); err != nil {
		t.Fatal(err)
	}
	addr := p.Addr("all")[0]
	api := with("a-api", addr, []string{"a.example"}, "/api")
	a := with("a", addr, []string{"a.example"}, "")
	b := with("b", addr, []string{"*.example"}, "")
	tests := []struct {
		host, path string
		want       []string // may answer; the first one always has a listener
	}{
		{"other.test", "/api", []string{"all"}},
		{"a.example", "/api/x", []string{"all", "a", "a-api", "b"}},
		{"a.example", "/x", []string{"all", "a", "b"}},
		{"b.example", "/api", []string{"all", "b"}},
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, d := range dialects[1:3] {
		c := d.client(t, addr)
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				tt := tests[i%len(tests)]
				res, err := c.Get(d.url(tt.host, tt.path))
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				if got := res.Header.Get("Served-By"); res.StatusCode != http.StatusOK || !strings.Contains(" "+strings.Join(tt.want, " ")+" ", " "+got+" ") {
					t.Errorf("%s%s: %s by %q, want one of %q", tt.host, tt.path, res.Status, got, tt.want)
				}
			}
		})
	}
	must := func(owner string, ls ...Listener) {
		t.Helper()
		if err := p.Apply(owner, ls); err != nil {
			t.Error(err)
		}
		<-time.After(3 * time.Millisecond)
	}
	d := dialects[2]
	for range 20 {
		must("A", a)
		must("B", b)
		must("A", a, api)
		for _, tt := range []struct{ host, path, want string }{
			{"a.example", "/api", "a-api"}, {"a.example", "/apix", "a"}, {"x.example", "/api", "b"}, {"x.y.example", "/", "all"},
		} {
			if res := fetch(t, d.client(t, addr), d.url(tt.host, tt.path)); res.Header.Get("Served-By") != tt.want {
				t.Errorf("%s%s is served by %q, want %q", tt.host, tt.path, res.Header.Get("Served-By"), tt.want)
			}
		}
		must("A", api)
		must("B")
		must("A")
	}
	close(stop)
	wg.Wait()
	clash := with("c", addr, []string{"A.example."}, "/api/")
	must("A", api)
	if err := p.Apply("C", []Listener{clash}); err == nil || !strings.Contains(err.Error(), `"a-api" of "A"`) {
		t.Errorf("the same match twice: %v, want an error that names the other listener", err)
	}
}

func TestNoRoute(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	id, addr := site(t, "A", nil)
	apply(t, p, at(web1(id, addr), "a:1", "", []string{"a.example"}, "/api"))
	c := dialects[0].client(t, addrOf(t, p))
	for path, want := range map[string]int{"/api/x": 200, "/": 404, "/api/../x": 400, "/%61pi": 400, "/api%2fx": 400} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = "//a.example" + path
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, res.Status, want)
		}
	}
	if res := fetch(t, c, "http://b.example/api"); res.StatusCode != http.StatusNotFound {
		t.Errorf("another host: %s, want 404", res.Status)
	}
}

// TestOriginOfRequests: a stranger's word counts for nothing, in any spelling; a trusted client's is kept.
func TestOriginOfRequests(t *testing.T) {
	lies := []string{
		"X-Forwarded-For", "6.6.6.6", "x-forwarded-host", "evil", "X-FORWARDED-PROTO", "gopher", "X-Forwarded-Port", "1", "X-Real-IP", "6.6.6.6",
		"Forwarded", "for=6.6.6.6", "X-Forwarded-Prefix", "/x", "X-Forwarded-User", "root", "X_Forwarded_For", "6.6.6.6", "x_real-ip", "6.6.6.6",
		"X-Forwarded_User", "root", "X-Custom", "kept", "X_Custom", "kept",
	}
	for _, upstream := range []string{UpstreamHTTP1, UpstreamH2C} {
		for _, d := range dialects {
			for _, trusted := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s to %s, trusted %v", d.name, upstream, trusted), func(t *testing.T) {
					t.Parallel()
					seen := make(chan http.Header, 1)
					see := func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Clone() }
					p := newProxy(t)
					l := d.listener(t, "", "")
					l.Upstream = upstream
					if upstream == UpstreamH2C {
						l.TargetID, l.Target = siteH2C(t, "A", see)
					} else {
						l.TargetID, l.Target = site(t, "A", see)
					}
					if trusted {
						l.Trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}
					}
					apply(t, p, l)
					addr := addrOf(t, p)
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url("shop.example", "/"), nil)
					if err != nil {
						t.Fatal(err)
					}
					for i := 0; i < len(lies); i += 2 {
						req.Header[lies[i]] = append(req.Header[lies[i]], lies[i+1])
					}
					res, err := d.client(t, addr).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					_ = res.Body.Close()
					got := <-seen
					got.Del("User-Agent")
					scheme := "http"
					if d.tls {
						scheme = "https"
					}
					own := "for=127.0.0.1;host=shop.example;proto=" + scheme
					want := http.Header{
						"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"shop.example"}, "X-Forwarded-Proto": {scheme},
						"X-Forwarded-Port": {strings.TrimPrefix(addr, "127.0.0.1:")}, "X-Real-Ip": {"127.0.0.1"}, "Forwarded": {own},
						"X-Custom": {"kept"}, "X_custom": {"kept"},
					}
					if trusted {
						for name, value := range map[string]string{
							"X-Forwarded-For": "6.6.6.6, 127.0.0.1", "X-Forwarded-Host": "evil", "X-Forwarded-Proto": "gopher", "X-Forwarded-Port": "1",
							"X-Real-Ip": "6.6.6.6", "Forwarded": "for=6.6.6.6, " + own, "X-Forwarded-Prefix": "/x", "X-Forwarded-User": "root",
						} {
							want[name] = []string{value}
						}
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("-want +got:\n%s", diff)
					}
				})
			}
		}
	}
}

func TestPagesAndMaintenance(t *testing.T) {
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write := func(name, text string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("503.html", "<p>closed</p>")
			write("maintenance.html", "<p>painting</p>")
			p := newProxy(t)
			p.files = 20 * time.Millisecond
			l := d.listener(t, "", "")
			l.HoldMax, l.Pages = 0, dir
			apply(t, p, l)
			c := d.client(t, addrOf(t, p))
			get := func(accept string) reply {
				t.Helper()
				return fetch(t, c, d.url("shop.example", "/"), "Accept", accept)
			}
			want := func(accept string, status int, retry, part string) {
				t.Helper()
				res := get(accept)
				if res.StatusCode != status || res.Header.Get("Retry-After") != retry || !strings.Contains(res.text, part) {
					t.Errorf("%s: %s, retry after %q: %q, want %d, %q, %q", accept, res.Status, res.Header.Get("Retry-After"), res.text, status, retry, part)
				}
			}
			want("text/html", 503, "5", "<p>closed</p>")
			want("*/*", 503, "5", "503 Service unavailable")
			write("503.html", "<p>still closed</p>")
			eventually(t, "the new page", func() bool {
				return get("text/html").text == "<p>still closed</p>"
			})
			l.TargetID, l.Target = "B", backend(t, func(*net.TCPConn) {}) // says nothing
			apply(t, p, l)
			want("text/html", 502, "", "Bad gateway")
			l.TargetID, l.Target = site(t, "A", nil)
			apply(t, p, l)
			want("text/html", 200, "", "")
			l.Maintenance, l.HoldMax = true, 100
			apply(t, p, l)
			want("text/html", 503, "60", "<p>painting</p>")
			want("application/json", 503, "60", "503 Maintenance")
			l.Maintenance = false
			apply(t, p, l)
			want("text/html", 200, "", "")
		})
	}
}

func TestAccessLog(t *testing.T) {
	for _, upstream := range []string{UpstreamHTTP1, UpstreamH2C} {
		for _, d := range dialects {
			t.Run(d.name+" to "+upstream, func(t *testing.T) {
				t.Parallel()
				var out lockedBuffer
				p := newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler), AccessLog: &out})
				l := d.listener(t, "", "")
				l.Upstream = upstream
				echo := func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(http.StatusCreated)
					_, _ = io.Copy(w, io.MultiReader(r.Body, strings.NewReader("more")))
				}
				if upstream == UpstreamH2C {
					l.TargetID, l.Target = siteH2C(t, "A", echo)
				} else {
					l.TargetID, l.Target = site(t, "A", echo)
				}
				apply(t, p, l)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url("shop.example", "/a/b?token=secret"), strings.NewReader("hello"))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("User-Agent", "tester\t1")
				req.Header.Set("Referer", "http://a.example/x?token=secret")
				res, err := d.client(t, addrOf(t, p)).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || string(text) != "hellomore" {
					t.Errorf("answer %q, %v", text, err)
				}
				eventually(t, "a line", func() bool { return strings.HasSuffix(out.String(), "\n") })
				var got map[string]any
				if err := json.NewDecoder(bufio.NewReader(strings.NewReader(out.String()))).Decode(&got); err != nil {
					t.Fatal(err)
				}
				if s, ok := got["client"].(string); !ok || !strings.HasPrefix(s, "127.0.0.1:") {
					t.Errorf("client %v", got["client"])
				}
				if n, ok := got["duration_ms"].(float64); !ok || n <= 0 || n > 60_000 {
					t.Errorf("duration %v", got["duration_ms"])
				}
				for _, k := range []string{"time", "client", "duration_ms"} {
					delete(got, k)
				}
				want := map[string]any{
					"listener": "a:1", "method": "POST", "host": "shop.example", "path": "/a/b", "protocol": d.proto, "status": 201.0,
					"bytes_in": 5.0, "bytes_out": 9.0, "target": l.Target, "target_id": "A", "attempts": 1.0,
					"user_agent": "tester\t1", "referrer": "http://a.example/x",
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
	}
}

// TestExpectContinueToH2C: the client's content is asked for by its target.
func TestExpectContinueToH2C(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	l := web1("", "")
	l.Upstream = UpstreamH2C
	l.TargetID, l.Target = siteH2C(t, "A", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.Copy(w, r.Body)
	})
	apply(t, p, l)
	for path, want := range map[string]string{"/": "HTTP/1.1 100 Continue", "/no": "HTTP/1.1 403 Forbidden"} {
		c := connect(t, addrOf(t, p))
		r := bufio.NewReader(c)
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", path)
		line, err := r.ReadString('\n')
		if strings.TrimSpace(line) != want || err != nil {
			t.Fatalf("%s: %q, %v, want %q", path, line, err, want)
		}
		if path == "/no" {
			continue
		}
		_, _ = r.ReadString('\n')
		_, _ = io.WriteString(c, "hello")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(text) != "hello" || err != nil {
			t.Errorf("answer %q, %v", text, err)
		}
	}
}

// TestH2CTargetThatDoesNotConnect: it is tried until there is no time left, and said so.
func TestH2CTargetThatDoesNotConnect(t *testing.T) {
	t.Parallel()
	addr, fill := fullQueue(t)
	eventually(t, "its queue is full", fill)
	p := newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler), ConnectTimeout: 200 * time.Millisecond})
	l := web1("A", addr)
	l.Upstream = UpstreamH2C
	apply(t, p, l)
	d := dialects[0]
	c := d.client(t, addrOf(t, p))
	if res := fetch(t, c, d.url("x", "/")); res.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("target that does not accept: %s, want 504", res.Status)
	}
	l.TargetID, l.Target = "B", deadPort(t)
	apply(t, p, l)
	if res := fetch(t, c, d.url("x", "/")); res.StatusCode != http.StatusBadGateway && res.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("target that refuses: %s, want 502 or 504", res.Status)
	}
	wantOpen(t, p, "B", 0)
	l.TargetID, l.Target = siteH2C(t, "C", nil)
	l.ConnectTimeout = patience
	apply(t, p, l)
	if res := fetch(t, c, d.url("x", "/")); res.StatusCode != http.StatusOK {
		t.Errorf("target that works: %s", res.Status)
	}
}

// TestAccessLogNobodyReads: a log that stands still makes no request wait.
func TestAccessLogNobodyReads(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	p := newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler), AccessLog: w})
	id, addr := site(t, "A", nil)
	apply(t, p, web1(id, addr))
	c := browser(t)
	agent := strings.Repeat("\x7f", 500) // six times as long in the log
	var slowest time.Duration
	for range 1500 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addrOf(t, p), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Referer", strings.Repeat("é", 500)+agent[:0])
		began := time.Now()
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		slowest = max(slowest, time.Since(began))
	}
	if slowest > 20*time.Second {
		t.Errorf("a request took %v", slowest)
	}
	began := time.Now()
	_ = p.Close()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the end took %v", took)
	}
}
