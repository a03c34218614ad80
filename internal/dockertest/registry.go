package dockertest

import (
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// A Fault is how a Registry misbehaves. Its zero value is a registry that works.
type Fault struct {
	Manifests int           // status of every request for a manifest, such as 404 or 429
	CutLayers int           // how many answers with a layer end in the middle
	Down      bool          // every connection is closed without an answer
	Hold      bool          // no answer until the fault is another one
	Spares    string        // the address of a client that finds no fault
	Stall     bool          // layers stop in the middle and never go on
	Delay     time.Duration // before every answer
	User      string        // credentials asked for (Basic); none when empty
	Password  string
}

// A Registry is an in-process registry on the loopback interface, which Docker Engine reaches
// without TLS. Its methods may be called at once.
type Registry struct {
	Host string // ip:port, the first part of a reference

	store http.Handler
	stop  chan struct{} // closed when the test ends; frees stalled answers

	mu        sync.Mutex
	fault     Fault
	change    chan struct{} // closed when the fault is another one
	manifests int
	layers    int
}

// StartRegistry starts an empty registry. It stops when the test ends.
func StartRegistry(t testing.TB) *Registry {
	t.Helper()
	return StartRegistryAt(t, "127.0.0.1")
}

// StartRegistryAt is StartRegistry at an address of this machine, for Engines that have a loopback interface of
// their own.
func StartRegistryAt(t testing.TB, ip string) *Registry {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{
		store: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		stop:  make(chan struct{}), change: make(chan struct{}),
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}}
	srv.Start()
	r.Host = strings.TrimPrefix(srv.URL, "http://")
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(r.stop) })
	return r
}

// SetFault replaces the way the registry misbehaves.
func (r *Registry) SetFault(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
	close(r.change)
	r.change = make(chan struct{})
}

// Counts are the requests for manifests and for layers or configs so far, pushes not counted.
func (r *Registry) Counts() (manifests, layers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manifests, r.layers
}

// Push stores the image under path, such as "web:v1", whatever the fault, and returns the
// reference to pull it by and its digest.
func (r *Registry) Push(t testing.TB, path string, img v1.Image) (ref, digest string) {
	t.Helper()
	ref = r.Host + "/" + path
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatalf("parse %q: %v", ref, err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatalf("digest of %q: %v", ref, err)
	}
	err = remote.Write(tag, img, remote.WithAuth(authn.Anonymous), remote.WithTransport(direct{r.store}), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatalf("push %q: %v", ref, err)
	}
	return ref, d.String()
}

// direct answers requests from a handler, without a connection and without faults.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	if req.Body == nil {
		req.Body = http.NoBody
	}
	d.h.ServeHTTP(rec, req)
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}

// ServeHTTP answers as a registry does, faults included.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	manifest := strings.Contains(req.URL.Path, "/manifests/")
	layer := strings.Contains(req.URL.Path, "/blobs/") && req.Method == http.MethodGet
	f, cut := r.count(req, manifest, layer)
	if f.Down {
		panic(http.ErrAbortHandler) // the server's way to break a connection
	}
	if f.Delay > 0 {
		r.pause(req, f.Delay)
	}
	if user, password, _ := req.BasicAuth(); f.User != "" && (user != f.User || password != f.Password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return
	}
	switch {
	case manifest && f.Manifests != 0:
		code := map[int]string{http.StatusNotFound: "MANIFEST_UNKNOWN", http.StatusTooManyRequests: "TOOMANYREQUESTS"}[f.Manifests]
		fail(w, f.Manifests, code)
	case layer && (cut || f.Stall):
		r.half(w, req, f.Stall)
	default:
		r.store.ServeHTTP(w, req)
	}
}

// count notes the request and tells how to misbehave.
func (r *Registry) count(req *http.Request, manifest, layer bool) (f Fault, cut bool) {
	ip, _, _ := net.SplitHostPort(req.RemoteAddr)
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.fault.Hold && ip != r.fault.Spares && req.Context().Err() == nil {
		change := r.change
		r.mu.Unlock()
		select {
		case <-change:
		case <-req.Context().Done():
		case <-r.stop:
			r.mu.Lock()
			return Fault{Down: true}, false
		}
		r.mu.Lock()
	}
	if manifest {
		r.manifests++
	}
	if layer {
		r.layers++
		if r.fault.CutLayers > 0 && ip != r.fault.Spares {
			r.fault.CutLayers--
			cut = true
		}
	}
	if ip == r.fault.Spares {
		return Fault{}, false
	}
	return r.fault, cut
}

// half sends half of the answer and then closes the connection, or waits when stall is set.
func (r *Registry) half(w http.ResponseWriter, req *http.Request, stall bool) {
	rec := httptest.NewRecorder()
	r.store.ServeHTTP(rec, req)
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	if stall {
		r.pause(req, 10*time.Minute)
	}
	panic(http.ErrAbortHandler) // the server's way to break a connection
}

// pause waits, at most until the client or the test is gone.
func (r *Registry) pause(req *http.Request, d time.Duration) {
	select {
	case <-req.Context().Done():
	case <-r.stop:
	case <-time.After(d):
	}
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"errors":[{"code":"`+code+`","message":"on request"}]}`)
}
