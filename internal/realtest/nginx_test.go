package realtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/debiantest"
	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
)

const nginxConf = `daemon off;
user root root;
worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr;
events { worker_connections 1024; }
http {
	access_log off;
	server {
		listen 80;
		root /www;
	}
}
`

func nginxRelease(t *testing.T, tr debiantest.Tree, version string) release {
	t.Helper()
	files := append(tr.Program(t, "/usr/sbin/nginx"),
		dockertest.File{Path: "/etc/passwd", Mode: 0o644, Body: []byte("root:x:0:0:root:/:/\n")},
		dockertest.File{Path: "/etc/group", Mode: 0o644, Body: []byte("root:x:0:\n")},
		dockertest.File{Path: "/etc/nginx/nginx.conf", Mode: 0o644, Body: []byte(nginxConf)},
		dockertest.File{Path: "/www/index.html", Mode: 0o644, Body: []byte(version + "\n")},
		dockertest.File{Path: "/tmp/", Mode: 0o777},
		dockertest.File{Path: "/var/lib/nginx/", Mode: 0o755},
		dockertest.File{Path: "/var/log/nginx/", Mode: 0o755},
		dockertest.File{Path: "/usr/share/nginx/", Mode: 0o755})
	ref, id := dockertest.Files(t, "nginx", files, "nginx")
	return release{ref, id}
}

func nginxSpec(r release, kind string) component.Spec {
	repo, tag, _ := strings.Cut(r.ref, ":")
	return component.Spec{
		Name: "nginx", Repo: repo, Tag: tag, Ports: []component.Port{{Container: 80, Kind: kind}},
		ReadyChecks: []component.Check{{Kind: component.CheckHTTP, Port: 80, Path: "/"}},
	}
}

// Nginx is replaced several times under wrk, whose connections stay for all of it: no request fails.
func TestNginxUnderWrk(t *testing.T) {
	tr := debian(t)
	var rs []release
	for _, v := range []string{"v1", "v2", "v3", "v4"} {
		rs = append(rs, nginxRelease(t, tr, v))
	}
	s := newSite(t, nginxSpec(rs[0], component.KindHTTP), rs[0])
	wrk := start(t, tr.Command(t.Context(), t, "/usr/bin/wrk", "-t1", "-c20", "-d1h", "--timeout", "1m", s.url()))
	visits := s.visit(t, false)
	for _, r := range rs[1:] {
		visits.more(t, 50)
		s.update(t, r)
		if !wrk.running() {
			t.Fatalf("wrk has ended: %s", wrk.wait(t))
		}
	}
	wrk.interrupt(t) // however long the updates took
	out := wrk.wait(t)
	if m := regexp.MustCompile(`Socket errors:.*|Non-2xx or 3xx responses:.*`).FindAllString(out, -1); m != nil {
		t.Errorf("wrk counts errors: %s\n%s", m, out)
	}
	if m := regexp.MustCompile(`(\d+) requests in .*`).FindString(out); m == "" {
		t.Errorf("wrk does not say what it did: %s", out)
	} else {
		t.Logf("%d updates under %s", len(rs)-1, m)
	}
	visits.more(t, 10)
	visits.done(t, "v1", "v2", "v3", "v4")
	s.containers(t, 1)
}

// The same with a connection for each request, forwarded as bytes.
func TestNginxShortConnections(t *testing.T) {
	tr := debian(t)
	var rs []release
	for _, v := range []string{"v1", "v2", "v3"} {
		rs = append(rs, nginxRelease(t, tr, v))
	}
	s := newSite(t, nginxSpec(rs[0], component.KindTCP), rs[0])
	visits := s.visit(t, true)
	for _, r := range rs[1:] {
		visits.more(t, 100)
		s.update(t, r)
	}
	visits.more(t, 100)
	visits.done(t, "v1", "v2", "v3")
	s.containers(t, 1)
}

func (s *site) url() string { return "http://127.0.0.1:" + strconv.Itoa(s.port) + "/" }

// Visits are steady requests, one after another, and what they brought.
type visits struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	count    int
	versions []string // in order of appearance
	failed   []string
}

// visitEvery bounds how many connections a test makes.
const visitEvery = 5 * time.Millisecond

// visit asks again and again, with a connection for each request or with one that stays.
func (s *site) visit(t *testing.T, short bool) *visits {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	v := &visits{cancel: cancel}
	transport := &http.Transport{DisableKeepAlives: short}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	v.wg.Go(func() {
		defer transport.CloseIdleConnections()
		tick := time.NewTicker(visitEvery)
		defer tick.Stop()
		for {
			body, err := fetchPage(ctx, client, s.url())
			if ctx.Err() != nil {
				return
			}
			v.note(body, err)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); v.wg.Wait() })
	return v
}

func fetchPage(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return strings.TrimSpace(string(body)), err
}

func (v *visits) note(body string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count++
	if err != nil {
		v.failed = append(v.failed, err.Error())
		return
	}
	if n := len(v.versions); n == 0 || v.versions[n-1] != body {
		v.versions = append(v.versions, body)
	}
}

// more waits for n requests more.
func (v *visits) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.count
	}
	goal := count() + n
	until(t, "requests", func() bool { return count() >= goal })
}

// done ends the requests: none has failed, and the versions came one after another, never back.
func (v *visits) done(t *testing.T, versions ...string) {
	t.Helper()
	v.cancel()
	v.wg.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.failed) > 0 {
		t.Errorf("%d of %d requests failed, the first: %s", len(v.failed), v.count, v.failed[0])
	}
	if got, want := strings.Join(v.versions, " "), strings.Join(versions, " "); got != want {
		t.Errorf("versions answered in the order %s, want %s", got, want)
	}
	t.Logf("%d requests", v.count)
}
