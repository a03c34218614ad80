package apiserver

import (
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// A call is a request and the role that it needs.
type call struct {
	method, path, body string
	need               Role
}

// calls is one request for each route, with the role that it needs. They change nothing that matters here.
var calls = []call{
	{"GET", "/v2/projects", "", Viewer},
	{"GET", "/v2/projects/shop", "", Viewer},
	{"GET", "/v2/projects/shop/hosts", "", Viewer},
	{"GET", "/v2/projects/shop/config", "", Admin},
	{"PUT", "/v2/projects/shop/config", "{}", Admin},
	{"POST", "/v2/projects/shop/config/validate", "{}", Viewer},
	{"POST", "/v2/projects/shop/config/plan", "{}", Admin},
	{"GET", "/v2/projects/shop/components", "", Viewer},
	{"GET", "/v2/projects/shop/components/web", "", Viewer},
	{"GET", "/v2/projects/shop/components/web/releases", "", Viewer},
	{"GET", "/v2/projects/shop/components/web/rollout", "", Viewer},
	{"POST", "/v2/projects/shop/components/web/rollout/pause", "{}", Deployer},
	{"POST", "/v2/projects/shop/components/web/rollback", "{}", Deployer},
	{"POST", "/v2/projects/shop/rollouts", "{}", Deployer},
	{"POST", "/v2/projects/shop/rollouts/plan", "{}", Deployer},
	{"GET", "/v2/projects/shop/events", "", Viewer},
}

// TestAuthorization sends every route with every role and every kind of credential.
func TestAuthorization(t *testing.T) {
	r := newRig(t, func(_ *Options, s *Server) {
		if s != nil {
			s.limiter.burst = 100_000
		}
	})
	listed := map[string]bool{}
	for path, item := range r.server.document.Paths {
		path = strings.NewReplacer("{project}", "shop", "{component}", "web", "{word}", "pause").Replace(path)
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "PUT": item.Put, "POST": item.Post, "DELETE": item.Delete} {
			if op != nil {
				listed[method+" "+path] = true
			}
		}
	}
	for _, c := range calls {
		delete(listed, c.method+" "+c.path)
	}
	if len(listed) > 0 {
		t.Errorf("routes that are not in the table: %v", listed)
	}
	for _, role := range roles {
		_, all := r.token(etcdstate.Token{Name: "all", Role: string(role)})
		_, here := r.token(etcdstate.Token{Name: "here", Role: string(role), Projects: []string{"blog", "shop"}})
		_, elsewhere := r.token(etcdstate.Token{Name: "elsewhere", Role: string(role), Projects: []string{"blog"}})
		for _, c := range calls {
			for _, credential := range []struct {
				kind, header string
				in           bool
			}{
				{"all projects", "Bearer " + all, true},
				{"this project", "Bearer " + here, true},
				{"another project", "Bearer " + elsewhere, !strings.Contains(c.path, "shop")},
				{"as a password", "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+all)), true},
			} {
				path := c.path
				if strings.HasSuffix(path, "/events") {
					path += "?nonsense=1" // past the roles, and refused then
				}
				a := r.do(c.method, path, c.body, "Authorization", credential.header)
				want := credential.in && role.includes(c.need)
				if got := a.status != http.StatusForbidden && a.status != http.StatusUnauthorized; got != want {
					t.Errorf("%s of %s: %s %s = %d %s, want let in %v", role, credential.kind, c.method, c.path, a.status, a.body, want)
				}
			}
		}
	}
	for _, c := range calls {
		for _, header := range []string{"", "Bearer", "Bearer x", "Basic x", "Basic " + base64.StdEncoding.EncodeToString([]byte("root:wrong")), "Digest x"} {
			a := r.do(c.method, c.path, c.body, "Authorization", header)
			if a.status != http.StatusUnauthorized || a.code != api.CodeUnauthorized || len(a.header.Values("WWW-Authenticate")) != 2 {
				t.Errorf("%q: %s %s = %d %s %v", header, c.method, c.path, a.status, a.body, a.header)
			}
		}
	}
	for _, path := range []string{"/", "/v2/openapi.json", "/v2/openapi.yaml", "/nothing"} {
		if a := r.do("GET", path, "", "Authorization", ""); a.status != http.StatusUnauthorized {
			t.Errorf("GET %s without a credential = %d", path, a.status)
		}
	}
	if log := r.access.String(); strings.Contains(log, prefix) || strings.Contains(log, "pässword") || !strings.Contains(log, `"who":"token:here"`) {
		t.Error("the access log tells a secret, or not whose credential it was")
	}
}

func TestProjectsAreThoseOfTheToken(t *testing.T) {
	r := newRig(t, nil)
	if _, err := r.etcd.ReplaceConfig(t.Context(), "blog", []byte(shop), 0); err != nil {
		t.Fatal(err)
	}
	_, text := r.token(etcdstate.Token{Name: "one", Role: "viewer", Projects: []string{"blog"}})
	if a := r.do("GET", "/v2/projects", "", "Authorization", "Bearer "+text); a.body != `{"items":["blog"]}`+"\n" {
		t.Errorf("projects = %s", a.body)
	}
	if a := r.do("GET", "/v2/projects", ""); a.body != `{"items":["blog","shop"]}`+"\n" {
		t.Errorf("projects of root = %s", a.body)
	}
}

func TestTokensThatDoNotCount(t *testing.T) {
	r := newRig(t, nil)
	id, text := r.token(etcdstate.Token{Name: "ci", Role: "viewer"})
	_, old := r.token(etcdstate.Token{Name: "old", Role: "admin", Expires: time.Now().Add(-time.Second)})
	_, strange := r.token(etcdstate.Token{Name: "new", Role: "emperor"})
	status := func(text string) int {
		return r.do("GET", "/v2/projects", "", "Authorization", "Bearer "+text).status
	}
	if got := status(text); got != http.StatusOK {
		t.Errorf("a good token: %d", got)
	}
	for name, text := range map[string]string{
		"expired": old, "of an unknown role": strange, "unknown": prefix + "aaaaaaaaaa_" + strings.Repeat("0", 64),
		"with another secret": prefix + id + "_" + strings.Repeat("0", 64), "without a secret": prefix + id + "_", "without the prefix": strings.TrimPrefix(text, prefix),
	} {
		if got := status(text); got != http.StatusUnauthorized {
			t.Errorf("a token %s: %d", name, got)
		}
	}
	if _, err := r.etcd.DeleteToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	r.await("the server knows that the token is revoked", func() bool { _, ok := r.server.tokens.get(id); return !ok })
	if got := status(text); got != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", got)
	}
}

func TestWrongCredentialsAreLimited(t *testing.T) {
	r := newRig(t, func(_ *Options, s *Server) {
		if s != nil {
			s.limiter.every = time.Hour // however slow the test is
		}
	})
	for i := range failuresAtOnce {
		if a := r.do("GET", "/v2/projects", "", "Authorization", "Bearer wrong"); a.status != http.StatusUnauthorized {
			t.Fatalf("failure %d: %d", i, a.status)
		}
	}
	_, text := r.token(etcdstate.Token{Name: "ci", Role: "viewer"})
	if a := r.do("GET", "/v2/projects", "", "Authorization", "Bearer "+text); a.status != http.StatusOK {
		t.Errorf("a token that counts, from the same address: %d", a.status)
	}
	for _, header := range []string{"Bearer wrong", "", "Basic " + base64.StdEncoding.EncodeToString([]byte("root:pässword"))} {
		a := r.do("GET", "/v2/projects", "", "Authorization", header)
		if a.status != http.StatusTooManyRequests || a.code != api.CodeTooMany || a.header.Get("Retry-After") == "" {
			t.Errorf("%q after all failures: %d %v", header, a.status, a.header)
		}
	}
}

// TestPasswordsAreLimitedWithoutTokens guesses the password while nobody knows the tokens.
func TestPasswordsAreLimitedWithoutTokens(t *testing.T) {
	o := Options{Addr: "127.0.0.1:0", Basic: &Basic{Username: "root", Password: "right", Role: Admin}, Log: slog.New(slog.DiscardHandler)}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.limiter.every = time.Hour
	status := func(user, password string) int {
		req := httptest.NewRequest("GET", "/v2/projects", nil)
		req.SetBasicAuth(user, password)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, req)
		return w.Code
	}
	for range failuresAtOnce {
		if got := status("root", "wrong"); got != http.StatusUnauthorized {
			t.Fatalf("a wrong password: %d", got)
		}
	}
	if got := status("root", "right"); got != http.StatusTooManyRequests {
		t.Errorf("a password after all failures: %d", got)
	}
	if got := status("x", prefix+"aaaaaaaaaa_0"); got != http.StatusServiceUnavailable {
		t.Errorf("a token: %d", got)
	}
}

func TestLimiter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	l := newLimiter()
	for range failuresAtOnce {
		if w := l.wait(a, now); w != 0 {
			t.Fatalf("wait %v too early", w)
		}
		l.failed(a, now)
	}
	if w := l.wait(a, now); w != failureEvery {
		t.Errorf("wait = %v, want %v", w, failureEvery)
	}
	if w := l.wait(b, now); w != 0 {
		t.Errorf("another address waits %v", w)
	}
	if w := l.wait(a, now.Add(failureEvery)); w != 0 {
		t.Errorf("wait = %v, want one more try", w)
	}
	l.failed(a, now.Add(failureEvery))
	if w := l.wait(a, now.Add(failureEvery)); w != failureEvery {
		t.Errorf("wait = %v after one more failure", w)
	}
	for range 100 * failuresAtOnce {
		l.failed(b, now)
	}
	if w := l.wait(b, now); w > 2*failuresAtOnce*failureEvery {
		t.Errorf("wait = %v after many failures at once", w)
	}
	x, y := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:2")
	for range failuresAtOnce {
		l.failed(x, now)
	}
	if l.wait(y, now) == 0 {
		t.Error("another address of the same /64 need not wait")
	}
	for i := range maxClients + 10 {
		l.failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if n := len(l.clients); n > maxClients {
		t.Errorf("%d addresses are remembered", n)
	}
}
