package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// patience bounds every wait; a passing test spends little of it.
const patience = 40 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const shop = `{"components":[{"name":"web","repo":"example/web","tag":"1","environmentVariables":[{"name":"KEY","value":"s3cret"}]},{"name":"db","repo":"example/db","tag":"1"}]}`

// A rig is a server on real etcd.
type rig struct {
	t      *testing.T
	member *etcdtest.Member
	etcd   *etcdstate.Client
	server *Server
	url    string
	access *lines
	stop   func() error // ends Run and returns what it says
}

// lines collects what is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// images says that every image has an ID made of its name, but for one that is gone.
func images(_ context.Context, ref, _ string) (component.Image, string, error) {
	if strings.Contains(ref, "gone") {
		return component.Image{}, "", errors.New("resolve image: no such image")
	}
	return component.Image{Ref: ref}, "sha256:" + strings.Repeat("0", 50) + strings.ReplaceAll(ref, "/", ""), nil
}

// newRig starts a server with the user root, an admin, and a project named shop.
func newRig(t *testing.T, edit func(*Options, *Server)) *rig {
	t.Helper()
	r := &rig{t: t, member: etcdtest.Start(t), access: &lines{}}
	c, err := etcdstate.Dial(t.Context(), etcdstate.Config{Endpoints: []string{r.member.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r.etcd = c
	if _, err := c.ReplaceConfig(t.Context(), "shop", []byte(shop), 0); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Addr: "127.0.0.1:0", Basic: &Basic{Username: "root", Password: "pässword", Role: Admin}, AccessLog: r.access,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if edit != nil {
		edit(&o, nil)
	}
	if r.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(&o, r.server)
	}
	r.run()
	return r
}

// run runs the server until the test ends, or stop.
func (r *rig) run() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	r.server.addr.Store(nil)
	go func() { ended <- r.server.Run(ctx, r.etcd, images) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	r.t.Cleanup(func() { _ = r.stop() })
	r.await("the server listens", func() bool { return r.server.addr.Load() != nil && r.server.tokens.ready() })
	scheme := "http://"
	if r.server.tls != nil {
		scheme = "https://"
	}
	r.url = scheme + r.server.addr.Load().String()
}

func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !cond(); {
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// token makes a token that the server knows.
func (r *rig) token(t etcdstate.Token) (id, text string) {
	r.t.Helper()
	t, text = NewToken(t)
	if err := r.etcd.CreateToken(r.t.Context(), t); err != nil {
		r.t.Fatal(err)
	}
	r.await("the server knows the token", func() bool { _, ok := r.server.tokens.get(t.ID); return ok })
	return t.ID, text
}

// An answered is what came back.
type answered struct {
	status int
	header http.Header
	body   string
	code   api.Code
}

// do sends a request as root, unless header says otherwise: pairs of names and values.
func (r *rig) do(method, path, body string, header ...string) answered {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.SetBasicAuth("root", "pässword")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i+1] == "" {
			req.Header.Del(header[i])
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	a := answered{status: resp.StatusCode, header: resp.Header, body: string(b)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		var p api.Problem
		if err := json.Unmarshal(b, &p); err != nil || p.Status != a.status || p.RequestID != resp.Header.Get("X-Request-ID") {
			r.t.Errorf("%s %s: problem %s: %v", method, path, b, err)
		}
		a.code = p.Code
	}
	r.conforms(method, path, a)
	return a
}

// client keeps no connections, which would outlive their test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
