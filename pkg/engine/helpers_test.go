package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

var _ supervisor.Engine = (*Engine)(nil)

const testHost = "h1"

// env is os.Getenv with some variables replaced.
func env(set map[string]string) func(string) string {
	return func(name string) string {
		if v, ok := set[name]; ok {
			return v
		}
		return os.Getenv(name)
	}
}

// newEngine is an Engine for the project, closed when the test ends.
func newEngine(t testing.TB, project string, set map[string]string) *Engine {
	t.Helper()
	e, err := New(Options{Project: project, Host: testHost, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)), Getenv: env(set)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	// What the Engine of a busy machine takes for an answer says nothing of ours.
	e.limits.dial, e.limits.ping, e.limits.query, e.limits.info = time.Minute, time.Minute, time.Minute, time.Minute
	return e
}

// testLog writes to the test's log.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// realEngine is an Engine for a new project on the real Docker Engine.
func realEngine(t testing.TB) *Engine {
	t.Helper()
	return newEngine(t, dockertest.Project(t), nil)
}

func splitRef(t testing.TB, ref string) (repo, tag string) {
	t.Helper()
	i := strings.LastIndexByte(ref, ':')
	if i < 0 {
		t.Fatalf("no tag in %q", ref)
	}
	return ref[:i], ref[i+1:]
}

// appRequest is a request to start the test program as component web, changed by f.
func appRequest(t testing.TB, f func(*component.Spec)) component.StartRequest {
	t.Helper()
	ref, id := dockertest.App(t, "v1")
	repo, tag := splitRef(t, ref)
	s := component.Spec{Name: "web", Repo: repo, Tag: tag}
	if f != nil {
		f(&s)
	}
	rel := component.Release{Generation: 7, ImageID: id, Image: component.Image{Ref: ref}, Spec: s}
	return component.StartRequest{Component: s.Name, Release: rel, Hash: rel.Hash()}
}

func start(t testing.TB, e *Engine, r component.StartRequest) string {
	t.Helper()
	id, err := e.Start(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// find is the listed container with this ID.
func find(t testing.TB, e *Engine, id string) component.EngineContainer {
	t.Helper()
	list, err := e.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("container %s is not in %+v", component.Short(id), list)
	return component.EngineContainer{}
}

// soon is how long a test waits for what must come.
const soon = 30 * time.Second

// eventually polls until f returns "", and fails with its last answer.
func eventually(t testing.TB, within time.Duration, f func() string) {
	t.Helper()
	end := time.After(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		problem := f()
		if problem == "" {
			return
		}
		select {
		case <-end:
			t.Fatalf("not within %s: %s", within, problem)
		case <-tick.C:
		}
	}
}

func exited(t testing.TB, e *Engine, id string) {
	t.Helper()
	eventually(t, soon, func() string {
		if c := find(t, e, id); c.State != component.RunExited {
			return fmt.Sprintf("state is %s", c.State)
		}
		return ""
	})
}

// get asks the test program in the container.
func get(t testing.TB, c component.EngineContainer, path string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var body string
	eventually(t, soon, func() string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+net.JoinHostPort(c.Addr, "8080")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return err.Error()
		}
		body = string(b)
		return ""
	})
	return body
}

// put writes a file through the test program in the container.
func put(t testing.TB, c component.EngineContainer, path, text string) {
	t.Helper()
	tell(t, c, http.MethodPut, "/file?path="+path, text)
}

// tell sends a request to the test program in the container, which is there.
func tell(t testing.TB, c component.EngineContainer, method, path, text string) {
	t.Helper()
	client := http.Client{Timeout: soon, Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + net.JoinHostPort(c.Addr, "8080") + path
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %q %v", method, path, resp.Status, b, err)
	}
}

// inside is what the test program says about its process.
type inside struct {
	Args     []string `json:"args"`
	Env      []string `json:"env"`
	UID      int      `json:"uid"`
	Dir      string   `json:"dir"`
	Hostname string   `json:"hostname"`
}

func look(t testing.TB, c component.EngineContainer) inside {
	t.Helper()
	var out inside
	if err := json.Unmarshal([]byte(get(t, c, "/env")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// run starts e.Run and returns the names it calls changed with. It ends with the test.
func run(t testing.TB, e *Engine) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	names := make(chan string, 1000) // never full in a test
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Run(ctx, func(name string) { names <- name }); err == nil || ctx.Err() == nil {
			t.Errorf("Run ended by itself: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return names
}

// expect waits until the name comes, skipping others.
func expect(t testing.TB, names <-chan string, want string, within time.Duration) {
	t.Helper()
	end := time.After(within)
	for {
		select {
		case got := <-names:
			if got == want {
				return
			}
		case <-end:
			t.Fatalf("changed(%q) did not come within %s", want, within)
		}
	}
}

// mark starts a container of component mark and expects its event before any other: the Engine tells events in
// the order in which they were.
func mark(t testing.TB, e *Engine, names <-chan string, after string) {
	t.Helper()
	start(t, e, appRequest(t, func(s *component.Spec) { s.Name = "mark" }))
	select {
	case got := <-names:
		if got != "mark" {
			t.Errorf("changed(%q) for %s", got, after)
		}
	case <-time.After(soon):
		t.Fatalf("no event within %s", soon)
	}
}

func drain(names <-chan string) {
	for {
		select {
		case <-names:
		default:
			return
		}
	}
}

// A line is a unix socket before the real Engine's, which can hang and go away.
type line struct {
	t    testing.TB
	path string

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]bool
	hung  bool
	wg    sync.WaitGroup
}

func newLine(t testing.TB) *line {
	t.Helper()
	dockertest.Engine(t)
	if h := os.Getenv("DOCKER_HOST"); h != "" && !strings.HasPrefix(h, "unix://") {
		t.Skip("needs an Engine on a unix socket")
	}
	dir, err := os.MkdirTemp("", "line") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	l := &line{t: t, path: filepath.Join(dir, "s"), conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		l.down()
		l.wg.Wait()
		os.RemoveAll(dir)
	})
	l.up()
	return l
}

func (l *line) env() map[string]string { return map[string]string{"DOCKER_HOST": "unix://" + l.path} }

func (l *line) up() {
	ln, err := net.Listen("unix", l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.ln = ln
	l.mu.Unlock()
	l.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.serve(c) })
		}
	})
}

// down closes the socket and every connection.
func (l *line) down() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ln != nil {
		l.ln.Close()
		l.ln = nil
	}
	for c := range l.conns {
		c.Close()
	}
	clear(l.conns)
}

// refuse closes the socket; the connections there are go on.
func (l *line) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ln.Close()
	l.ln = nil
}

// hang stops all bytes, or lets them go on.
func (l *line) hang(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hung = on
}

func (l *line) hanging() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hung
}

func (l *line) serve(c net.Conn) {
	socket := strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	if socket == "" {
		socket = "/var/run/docker.sock"
	}
	up, err := net.Dial("unix", socket)
	if err != nil {
		c.Close()
		return
	}
	l.mu.Lock()
	if l.ln == nil {
		l.mu.Unlock()
		c.Close()
		up.Close()
		return
	}
	l.conns[c], l.conns[up] = true, true
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.copy(up, c) })
	both.Go(func() { l.copy(c, up) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, c)
	delete(l.conns, up)
	l.mu.Unlock()
}

func (l *line) copy(dst, src net.Conn) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 32<<10)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := src.Read(buf)
		for l.hanging() {
			<-tick.C
			if !l.alive(src) {
				return
			}
		}
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *line) alive(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[c]
}
