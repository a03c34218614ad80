package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func TestBadRequests(t *testing.T) {
	r := newRig(t, nil)
	before, _ := r.etcd.Project(t.Context(), "shop")
	large := `{"components":"` + strings.Repeat("x", maxBody) + `"}`
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     api.Code
	}{
		{"unknown path", "GET", "/v2/nothing", "", nil, 404, api.CodeNotFound},
		{"unknown project", "GET", "/v2/projects/blog", "", nil, 404, api.CodeNotFound},
		{"hosts of an unknown project", "GET", "/v2/projects/blog/hosts", "", nil, 404, api.CodeNotFound},
		{"events of an unknown project", "GET", "/v2/projects/blog/events", "", nil, 404, api.CodeNotFound},
		{"config of an unknown project", "GET", "/v2/projects/blog/config", "", nil, 404, api.CodeNotFound},
		{"unknown component", "GET", "/v2/projects/shop/components/x", "", nil, 404, api.CodeNotFound},
		{"releases of an unknown component", "GET", "/v2/projects/shop/components/x/releases", "", nil, 404, api.CodeNotFound},
		{"rollout of nothing", "GET", "/v2/projects/shop/components/web/rollout", "", nil, 404, api.CodeNotFound},
		{"word about an unknown component", "POST", "/v2/projects/shop/components/x/rollout/pause", "{}", nil, 404, api.CodeNotFound},
		{"rollback of an unknown component", "POST", "/v2/projects/shop/components/x/rollback", "{}", nil, 404, api.CodeNotFound},
		{"update of an unknown component", "POST", "/v2/projects/shop/rollouts", `{"components":["x"]}`, nil, 404, api.CodeNotFound},
		{"word about no rollout", "POST", "/v2/projects/shop/components/web/rollout/pause", "{}", nil, 409, api.CodeConflict},
		{"rollback to nothing", "POST", "/v2/projects/shop/components/web/rollback", "{}", nil, 404, api.CodeNotFound},
		{"unknown word", "POST", "/v2/projects/shop/components/web/rollout/explode", "{}", nil, 422, api.CodeInvalid},
		{"wrong method", "DELETE", "/v2/projects/shop/components", "", nil, 405, api.CodeMethod},
		{"control characters in a name", "GET", "/v2/projects/a%0d%0ab", "", nil, 422, api.CodeInvalid},
		{"slash in a name", "GET", "/v2/projects/a%2fb", "", nil, 422, api.CodeInvalid},
		{"long name", "GET", "/v2/projects/" + strings.Repeat("x", 300), "", nil, 422, api.CodeInvalid},
		{"unknown parameter", "GET", "/v2/projects?x=1", "", nil, 422, api.CodeInvalid},
		{"bad event ID", "GET", "/v2/projects/shop/events", "", []string{"Last-Event-ID", "x"}, 400, api.CodeInvalid},
		{"events that are not kept", "GET", "/v2/projects/shop/events", "", []string{"Last-Event-ID", "999999999"}, 410, api.CodeGone},
		{"no component named", "POST", "/v2/projects/shop/rollouts", "{}", nil, 422, api.CodeInvalid},
		{"no body", "POST", "/v2/projects/shop/rollouts", "", nil, 400, api.CodeInvalid},
		{"bad JSON", "POST", "/v2/projects/shop/rollouts", "{", nil, 400, api.CodeInvalid},
		{"unknown field", "POST", "/v2/projects/shop/rollouts", `{"components":["web"],"x":1}`, nil, 422, api.CodeInvalid},
		{"wrong type", "POST", "/v2/projects/shop/rollouts", `{"components":"web"}`, nil, 422, api.CodeInvalid},
		{"bad policy", "POST", "/v2/projects/shop/rollouts", `{"components":["web"],"policy":["rollout.maxParallel=x"]}`, nil, 422, api.CodeInvalid},
		{"policy about something else", "POST", "/v2/projects/shop/rollouts", `{"components":["web"],"policy":["privileged=true"]}`, nil, 422, api.CodeInvalid},
		{"another content type", "POST", "/v2/projects/shop/rollouts", `{"all":true}`, []string{"Content-Type", "text/plain"}, 415, api.CodeMediaType},
		{"large body", "PUT", "/v2/projects/shop/config", large, nil, 413, api.CodeTooLarge},
		{"config without a condition", "PUT", "/v2/projects/shop/config", "{}", nil, 428, api.CodePreconditionRequired},
		{"config in place of another", "PUT", "/v2/projects/shop/config", strings.ReplaceAll(shop, "s3cret", "other"), []string{"If-Match", `"1"`}, 412, api.CodePreconditionFailed},
		{"config in place of none", "PUT", "/v2/projects/shop/config", `{"components":[]}`, []string{"If-None-Match", "*"}, 412, api.CodePreconditionFailed},
		{"config in place of any, of a project without", "PUT", "/v2/projects/blog/config", `{"components":[]}`, []string{"If-Match", "*"}, 412, api.CodePreconditionFailed},
		{"another site", "POST", "/v2/projects/shop/rollouts", `{"components":["web"]}`, []string{"Sec-Fetch-Site", "cross-site"}, 403, api.CodeForbidden},
		{"another origin", "POST", "/v2/projects/shop/rollouts", `{"components":["web"]}`, []string{"Origin", "https://example.com"}, 403, api.CodeForbidden},
		{"config that is not valid", "PUT", "/v2/projects/shop/config", `{"components":[{"name":"web"}],"x":1}`, []string{"If-Match", `"1"`}, 422, api.CodeInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := r.do(tt.method, tt.path, tt.body, tt.header...)
			if a.status != tt.status || a.code != tt.code {
				t.Errorf("%d %s, want %d %s: %s", a.status, a.code, tt.status, tt.code, a.body)
			}
			if strings.ContainsAny(a.body, "\r") || strings.Contains(a.body, "s3cret") {
				t.Errorf("answer %q", a.body)
			}
		})
	}
	after, _ := r.etcd.Project(t.Context(), "shop")
	if before.Cluster.Revision != after.Cluster.Revision {
		t.Error("bad requests changed what is stored")
	}
}

func TestRequestIDs(t *testing.T) {
	r := newRig(t, nil)
	if a := r.do("GET", "/v2/projects", "", "X-Request-ID", "from-ci.42"); a.header.Get("X-Request-ID") != "from-ci.42" {
		t.Errorf("a good ID became %q", a.header.Get("X-Request-ID"))
	}
	if a := r.do("GET", "/v2/projects", "", "X-Request-ID", `a"b c`); strings.Contains(a.header.Get("X-Request-ID"), " ") || a.header.Get("X-Request-ID") == "" {
		t.Errorf("a bad ID became %q", a.header.Get("X-Request-ID"))
	}
	r.await("the access log has it", func() bool { return strings.Contains(r.access.String(), `"request":"from-ci.42"`) })
}

// TestSlowHead leaves the head of a request unfinished: the server closes the connection.
func TestSlowHead(t *testing.T) {
	r := newRig(t, func(_ *Options, s *Server) {
		if s != nil {
			s.head = 50 * time.Millisecond
		}
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection was not closed: %v", err)
	}
}

func TestNoCredentialsNoAPI(t *testing.T) {
	r := newRig(t, nil)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := New(Options{Addr: "127.0.0.1:0", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), r.etcd, images); !errors.Is(err, ErrNoCredentials) || s.addr.Load() != nil {
		t.Errorf("run = %v, want ErrNoCredentials", err)
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop = %v", err)
	}
	// Who is patient begins with the first token.
	r.server.o.Basic, r.server.o.Patient = nil, true
	r.server.addr.Store(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.server.Run(ctx, r.etcd, images) }()
	r.await("the tokens are known", r.server.tokens.ready)
	if r.server.addr.Load() != nil {
		t.Error("it serves without credentials")
	}
	_, text := r.token(etcdstate.Token{Name: "first", Role: "viewer"})
	r.await("it serves", func() bool { return r.server.addr.Load() != nil })
	r.url = "http://" + r.server.addr.Load().String()
	if a := r.do("GET", "/v2/projects", "", "Authorization", "Bearer "+text); a.status != http.StatusOK {
		t.Errorf("first request = %d", a.status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("end = %v", err)
	}
}

func TestOptions(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, o := range map[string]Options{
		"no port":             {Addr: "localhost", Log: log},
		"a key only":          {Addr: ":0", Key: "x", Log: log},
		"no such certificate": {Addr: ":0", Cert: "/nowhere", Key: "/nowhere", Log: log},
		"an empty password":   {Addr: ":0", Basic: &Basic{Username: "root", Role: Admin}, Log: log},
		"an unknown role":     {Addr: ":0", Basic: &Basic{Username: "root", Password: "x", Role: "x"}, Log: log},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestAddressInUse is what an upgrade of the daemon looks like: the next process waits for the address.
func TestAddressInUse(t *testing.T) {
	addr := porttest.Addr(t)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.server.o.Addr = addr
	if err := r.server.Run(t.Context(), r.etcd, images); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("run = %v", err)
	}
	r.server.o.Patient = true
	r.server.addr.Store(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.server.Run(ctx, r.etcd, images) }()
	r.await("the tokens are known", r.server.tokens.ready)
	l.Close()
	r.await("it serves", func() bool { return r.server.addr.Load() != nil })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("end = %v", err)
	}
}

// TestTLS serves HTTP/1.1 and 2, and the next certificate once the files have it.
func TestTLS(t *testing.T) {
	first, second := newPair(t), newPair(t)
	cert, key := first.files(t)
	r := newRig(t, func(o *Options, _ *Server) { o.Cert, o.Key = cert, key })
	for _, h2 := range []bool{false, true} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: first.pool()}, Protocols: protocols, DisableKeepAlives: true}
		req, _ := http.NewRequestWithContext(t.Context(), "GET", r.url+"/v2/projects", nil)
		req.SetBasicAuth("root", "pässword")
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		tr.CloseIdleConnections()
		if resp.StatusCode != http.StatusOK || (resp.ProtoMajor == 2) != h2 {
			t.Errorf("%s %d, want HTTP/2 %v", resp.Proto, resp.StatusCode, h2)
		}
	}
	second.write(t, cert, key)
	r.await("the new certificate is served", func() bool {
		c, err := tls.Dial("tcp", strings.TrimPrefix(r.url, "https://"), &tls.Config{RootCAs: second.pool()})
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}
