package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
)

// answers is a server with a path for every way to answer.
func answers(elsewhere string) http.HandlerFunc {
	mux := http.NewServeMux()
	for _, code := range []int{200, 204, 299, 304, 404, 500, 503, 599} {
		mux.HandleFunc(fmt.Sprintf("/%d", code), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	to := func(path string, code int, target func(*http.Request) string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", target(r))
			w.WriteHeader(code)
		})
	}
	to("/relative", 301, func(*http.Request) string { return "/200" })
	to("/absolute", 302, func(r *http.Request) string { return "http://" + r.Host + "/204" })
	to("/loop", 307, func(*http.Request) string { return "/loop" })
	to("/elsewhere", 302, func(*http.Request) string { return elsewhere })
	to("/scheme", 301, func(r *http.Request) string { return "https://" + r.Host + "/200" })
	to("/port", 301, func(*http.Request) string { return "http://127.0.0.1/200" })
	to("/named", 301, func(*http.Request) string { return "http://www.example.com/who" })
	to("/far", 301, func(*http.Request) string { return "http://far.example.com/" + strings.Repeat("x", 10000) })
	to("/broken", 301, func(*http.Request) string { return "http://[::1/" })
	mux.HandleFunc("/nowhere", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(301) })
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "www.example.com" || r.Header.Get("Authorization") != r.Header.Get("X-Want") {
			w.WriteHeader(http.StatusMisdirectedRequest)
		}
	})
	mux.HandleFunc("/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/query", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "a=b&c" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		got := []string{r.Method, r.Header.Get("X-Token"), r.Header.Get("User-Agent"), r.Header.Get("Connection"), r.Header.Get("Accept-Encoding")}
		if want := []string{"GET", "secret", "gantryd-check", "close", ""}; !cmp.Equal(got, want) {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/agent", func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "other" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for chunk := make([]byte, 64<<10); r.Context().Err() == nil; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/stuck", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("some"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/torn", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("some"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	return mux.ServeHTTP
}

func TestProbeHTTP(t *testing.T) {
	hits := new(atomic.Int64)
	other, _ := web(t, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	other.Start()
	srv, open := web(t, answers(other.URL+"/200"))
	srv.Start()
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	target, port := at(t, srv.Listener.Addr())
	p := New(Options{})

	tests := []struct {
		name  string
		check component.Check // kind and port are filled in
		want  string          // {url} is that of the server
	}{
		{"200 passes", component.Check{Path: "/200"}, ""},
		{"204 passes", component.Check{Path: "/204"}, ""},
		{"299 passes", component.Check{Path: "/299"}, ""},
		{"304 fails", component.Check{Path: "/304"}, "GET {url}/304: 304 Not Modified"},
		{"404 fails", component.Check{Path: "/404"}, "GET {url}/404: 404 Not Found"},
		{"503 fails", component.Check{Path: "/503"}, "GET {url}/503: 503 Service Unavailable"},
		{"a status without a name", component.Check{Path: "/599"}, "GET {url}/599: 599"},
		{"no path is the root", component.Check{}, ""},
		{"path without slash", component.Check{Path: "200"}, ""},
		{"query goes along", component.Check{Path: "/query?a=b&c"}, ""},
		{"path that is no host", component.Check{Path: "@127.0.0.1:1/"}, "GET {url}/@127.0.0.1:1/: 404 Not Found"},
		{"path that is no URL", component.Check{Path: "/%zz"}, "GET {url}/%zz: invalid URL escape \"%zz\""},
		{"expected status passes", component.Check{Path: "/503", ExpectStatus: []int{200, 503}}, ""},
		{"2xx is not enough when others are expected", component.Check{Path: "/200", ExpectStatus: []int{204}}, "GET {url}/200: 200 OK"},
		{"expected redirect is not followed", component.Check{Path: "/elsewhere", ExpectStatus: []int{302}}, ""},
		{"expected status behind a redirect", component.Check{Path: "/absolute", ExpectStatus: []int{204}}, ""},
		{"relative redirect", component.Check{Path: "/relative"}, ""},
		{"absolute redirect to itself", component.Check{Path: "/absolute"}, ""},
		{"redirect without end", component.Check{Path: "/loop"}, "GET {url}/loop: more than 10 redirects"},
		{"redirect without target", component.Check{Path: "/nowhere"}, "GET {url}/nowhere: 301 Moved Permanently"},
		{"redirect elsewhere", component.Check{Path: "/elsewhere"}, "GET {url}/elsewhere: 302 redirect to \"" + other.URL + "/200\", which is not the container"},
		{"redirect to another scheme", component.Check{Path: "/scheme"}, "GET {url}/scheme: 301 redirect to \"https://{host}/200\", which is not the container"},
		{"redirect to another port", component.Check{Path: "/port"}, "GET {url}/port: 301 redirect to \"http://127.0.0.1/200\", which is not the container"},
		{"redirect to the name asked for", component.Check{Path: "/named", Headers: map[string]string{"Host": "www.example.com", "Authorization": "a", "X-Want": "a"}}, ""},
		{"redirect to a name not asked for", component.Check{Path: "/named"}, "GET {url}/named: 301 redirect to \"http://www.example.com/who\", which is not the container"},
		{"redirect too long to tell", component.Check{Path: "/far"}, "GET {url}/far: 301 redirect to \"http://far.example.com/" + strings.Repeat("x", 160) + "…"},
		{"headers and host", component.Check{Path: "/who", Headers: map[string]string{"host": "www.example.com"}}, ""},
		{"own headers", component.Check{Path: "/headers", Headers: map[string]string{"x-token": "secret"}}, ""},
		{"user agent can be set", component.Check{Path: "/agent", Headers: map[string]string{"user-agent": "other"}}, ""},
		{"header that is none", component.Check{Path: "/200", Headers: map[string]string{"a\r\nb": "c"}}, "GET {url}/200: header \"a\\r\\nb\" is not valid"},
		{"header value that is none", component.Check{Path: "/200", Headers: map[string]string{"a": "c\r\nb: d"}}, "GET {url}/200: header \"a\" is not valid"},
		{"host that is none", component.Check{Path: "/200", Headers: map[string]string{"Host": "a b"}}, "GET {url}/200: header \"Host\" is not valid"},
		{"interim answers are passed over", component.Check{Path: "/early"}, ""},
		{"no answer", component.Check{Path: "/silent", RequestTimeout: component.Duration(50 * time.Millisecond)}, "GET {url}/silent: no answer within 50ms"},
		{"endless body passes by its status", component.Check{Path: "/endless"}, ""},
		{"body that stops", component.Check{Path: "/stuck", RequestTimeout: component.Duration(2 * time.Second)}, "GET {url}/stuck: 200 OK, then its body: no answer within 2s"},
		{"body that is torn off", component.Check{Path: "/torn"}, "GET {url}/torn: 200 OK, then its body: connection closed before the answer was complete"},
		{"closed without an answer", component.Check{Path: "/abort"}, "GET {url}/abort: connection closed before the answer was complete"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.check.Kind, tt.check.Port = component.CheckHTTP, port
			if tt.check.RequestTimeout == 0 {
				tt.check.RequestTimeout = patient
			}
			want := strings.NewReplacer("{url}", srv.URL, "{host}", srv.Listener.Addr().String()).Replace(tt.want)
			verify(t, p.Probe(t.Context(), target, tt.check), want)
			eventually(t, "no connection is left", func() bool { return open.Load() == 0 })
		})
	}
	t.Run("broken redirect", func(t *testing.T) {
		err := p.Probe(t.Context(), target, component.Check{Kind: "http", Port: port, Path: "/broken", RequestTimeout: patient})
		if err == nil || !strings.HasPrefix(err.Error(), "GET "+srv.URL+"/broken: failed to parse Location header") {
			t.Errorf("got %v", err)
		}
	})
	if n := hits.Load(); n != 0 {
		t.Errorf("another server was asked %d times", n)
	}
}

func TestProbeHTTPS(t *testing.T) {
	var sni atomic.Value
	srv, open := web(t, answers(""))
	srv.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		sni.Store(h.ServerName)
		return nil, nil
	}}
	srv.Config.ErrorLog = quiet()
	srv.StartTLS()
	plain, _ := web(t, answers(""))
	plain.Start()
	target, port := at(t, srv.Listener.Addr())
	_, plainPort := at(t, plain.Listener.Addr())
	p := New(Options{})

	tests := []struct {
		name    string
		check   component.Check
		want    string
		wantSNI string
	}{
		{"certificate is not verified", component.Check{Kind: "https", Port: port, Path: "/200"}, "", ""},
		{"host header chooses the certificate", component.Check{Kind: "https", Port: port, Path: "/who", Headers: map[string]string{"Host": "www.example.com"}}, "", "www.example.com"},
		{"redirect within", component.Check{Kind: "https", Port: port, Path: "/relative"}, "", ""},
		{"503 fails", component.Check{Kind: "https", Port: port, Path: "/503"}, "GET " + srv.URL + "/503: 503 Service Unavailable", ""},
		{"http to an https port", component.Check{Kind: "http", Port: port}, fmt.Sprintf("GET http://127.0.0.1:%d/: 400 Bad Request", port), ""},
		{"https to an http port", component.Check{Kind: "https", Port: plainPort}, fmt.Sprintf("GET https://127.0.0.1:%d/: http: server gave HTTP response to HTTPS client", plainPort), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sni.Store("")
			tt.check.RequestTimeout = patient
			verify(t, p.Probe(t.Context(), target, tt.check), tt.want)
			if got := sni.Load(); got != tt.wantSNI {
				t.Errorf("asked for the certificate of %q, want %q", got, tt.wantSNI)
			}
			eventually(t, "no connection is left", func() bool { return open.Load() == 0 })
		})
	}
}

// Servers that break the protocol, each in its own way.
func TestProbeBrokenServers(t *testing.T) {
	refused := addrOf(t, porttest.Refusing(t).Addr)
	readAll := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	reset := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	slowHeaders := func(c net.Conn) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for b := range strings.SplitSeq("HTTP/1.1 200 OK\r\nX-Slow: "+strings.Repeat("z", 1000), "") {
			if _, err := c.Write([]byte(b)); err != nil {
				return
			}
			<-tick.C
		}
	}
	hugeHeaders := func(c net.Conn) {
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n"))
		for err := error(nil); err == nil; {
			_, err = c.Write([]byte("X: " + strings.Repeat("y", 10000) + "\r\n"))
		}
	}
	garbage := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_, _ = c.Write([]byte("\x1b[2J nonsense\r\n\r\n"))
		readAll(c)
	}
	greeting := func(c net.Conn) {
		_, _ = c.Write([]byte("220 mail.example.com\r\n"))
		readAll(c)
	}
	evil := func(c net.Conn) {
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n\x1b[2J" + strings.Repeat("z", 1000) + "\r\n\r\n"))
		readAll(c)
	}
	tests := []struct {
		name   string
		kind   string
		addr   net.Addr
		want   string // {addr} is where the server listens
		prefix bool   // want is how the text begins
	}{
		{"http refused", "http", refused, "GET http://{addr}/: connection refused", false},
		{"https refused", "https", refused, "GET https://{addr}/: connection refused", false},
		{"tcp refused", "tcp", refused, "connect {addr}: connection refused", false},
		{"grpc refused", "grpc", refused, "grpc {addr}: connection refused", false},
		{"http never answered", "http", raw(t, readAll), "GET http://{addr}/: no answer within 100ms", false},
		{"https never answered", "https", raw(t, readAll), "GET https://{addr}/: no answer within 100ms", false},
		{"grpc never answered", "grpc", raw(t, readAll), "grpc {addr}: no answer within 100ms", false},
		{"http never accepted", "http", listen(t).Addr(), "GET http://{addr}/: no answer within 100ms", false},
		{"http reset", "http", raw(t, reset), "GET http://{addr}/: connection reset by peer", false},
		{"https reset", "https", raw(t, reset), "GET https://{addr}/: connection reset by peer", false},
		{"grpc reset", "grpc", raw(t, reset), "grpc {addr}: Unavailable: ", true},
		{"http slow headers", "http", raw(t, slowHeaders), "GET http://{addr}/: no answer within 100ms", false},
		{"http huge headers", "http", raw(t, hugeHeaders), "GET http://{addr}/: headers of the answer are too long", false},
		{"http garbage", "http", raw(t, garbage), "GET http://{addr}/: malformed HTTP ", true},
		{"http greeting", "http", raw(t, greeting), `GET http://{addr}/: malformed HTTP status code "mail.example.com"`, false},
		{"http evil header", "http", raw(t, evil), "GET http://{addr}/: malformed MIME header: missing colon: ", true},
		{"grpc garbage", "grpc", raw(t, garbage), "grpc {addr}: ", true},
		{"tcp to one that is silent", "tcp", raw(t, readAll), "", false},
		{"tcp to one that never accepts", "tcp", listen(t).Addr(), "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target, port := at(t, tt.addr)
			within := 20 * time.Second
			if strings.HasSuffix(tt.want, "no answer within 100ms") {
				within = 100 * time.Millisecond
			}
			start := time.Now()
			err := New(Options{}).Probe(t.Context(), target, component.Check{Kind: tt.kind, Port: port, RequestTimeout: component.Duration(within)})
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("took %v", d)
			}
			want := strings.ReplaceAll(tt.want, "{addr}", tt.addr.String())
			if tt.prefix && err != nil && strings.HasPrefix(err.Error(), want) {
				if strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 300 {
					t.Errorf("more than a message: %q", err)
				}
				return
			}
			verify(t, err, want)
		})
	}
	target, port := at(t, refused)
	err := New(Options{}).Probe(t.Context(), target, component.Check{Kind: "http", Port: port, RequestTimeout: patient})
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v does not wrap the errno", err)
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	target, port := at(t, raw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	for _, kind := range []string{"http", "https", "grpc"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		because := errors.New("daemon stops")
		time.AfterFunc(20*time.Millisecond, func() { cancel(because) })
		err := New(Options{}).Probe(ctx, target, component.Check{Kind: kind, Port: port, RequestTimeout: patient})
		if !errors.Is(err, because) {
			t.Errorf("%s: got %v, want one that wraps %v", kind, err, because)
		}
	}
}

func TestEachAttemptHasItsOwnConnection(t *testing.T) {
	seen := new(atomic.Int64)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			seen.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	target, port := at(t, srv.Listener.Addr())
	p := New(Options{})
	for range 5 {
		verify(t, p.Probe(t.Context(), target, component.Check{Kind: "http", Port: port, RequestTimeout: patient}), "")
	}
	if n := seen.Load(); n != 5 {
		t.Errorf("5 probes made %d connections", n)
	}
}

// Whatever a server writes, an answer passes only when it is one with a status of 200 to 299, and
// what is said about it can be shown.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
		"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n",
		"HTTP/1.1 503 \x1b[2J\r\n\r\n", "HTTP/9.9 999 \xff\r\n\r\n", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nA\x1b: b\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		p := New(Options{})
		p.dial = func(context.Context, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() { // ends when the client closes
				_, _ = http.ReadRequest(bufio.NewReader(server))
				_, _ = server.Write(answer)
				_ = server.Close()
			}()
			return client, nil
		}
		err := p.Probe(t.Context(), container, webCheck)
		switch {
		case err == nil && !strings.Contains(string(answer), " 2"):
			t.Errorf("%q passes", answer)
		case err != nil && (len(err.Error()) > 1000 || strings.ContainsFunc(err.Error(), unicode.IsControl)):
			t.Errorf("%q: said of it: %q", answer, err)
		}
	})
}
