package benchtest

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A front stands before Docker Engine and notes when which call began and how long it took.
type front struct {
	host string // for DOCKER_HOST

	mu    sync.Mutex
	calls []call
}

type call struct {
	method, path string
	began        time.Time
	took         time.Duration
}

func startFront(tb testing.TB) *front {
	tb.Helper()
	engine := "/var/run/docker.sock"
	if h := os.Getenv("DOCKER_HOST"); h != "" {
		path, ok := strings.CutPrefix(h, "unix://")
		if !ok {
			tb.Skipf("DOCKER_HOST %q is not a unix socket", h)
		}
		engine = path
	}
	dir, err := os.MkdirTemp("", "front") // the path of a socket must be short
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	sock := filepath.Join(dir, "s")
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "unix", sock)
	if err != nil {
		tb.Fatal(err)
	}
	f := &front{host: "unix://" + sock}
	relay := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 16,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", engine)
			},
		},
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		relay.ServeHTTP(w, r)
		f.note(call{r.Method, r.URL.Path, began, time.Since(began)})
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	tb.Cleanup(func() { _ = srv.Close(); wg.Wait() })
	return f
}

func (f *front) note(c call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, c)
}

// take returns the calls that ended since the last take.
func (f *front) take() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	cs := f.calls
	f.calls = nil
	return cs
}

// find returns the first call whose path ends so.
func find(cs []call, suffix string) (call, bool) {
	for _, c := range cs {
		if c.method == http.MethodPost && strings.HasSuffix(c.path, suffix) {
			return c, true
		}
	}
	return call{}, false
}
