package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
)

func TestEvents(t *testing.T) {
	e := realEngine(t)
	names := run(t, e)
	expect(t, names, "", soon)
	id := start(t, e, appRequest(t, nil))
	expect(t, names, "web", soon)
	for range 5 { // commands in containers are many and change nothing
		if _, _, err := e.Exec(t.Context(), id, []string{"/app", "exit", "0"}); err != nil {
			t.Fatal(err)
		}
	}
	mark(t, e, names, "a command run in a container")
	if err := dockertest.Engine(t).ContainerKill(t.Context(), id, "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	expect(t, names, "web", soon)
	exited(t, e, id)
	drain(names)
	if err := e.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	expect(t, names, "web", soon)
}

func TestEventsOfAnotherHostAreNotOurs(t *testing.T) {
	e := realEngine(t)
	names := run(t, e)
	expect(t, names, "", soon)
	other, err := New(Options{Project: e.project, Host: "h2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	start(t, other, appRequest(t, nil))
	mark(t, e, names, "a container of another host")
}

func TestEngineLostAndFound(t *testing.T) {
	l := newLine(t)
	e := newEngine(t, dockertest.Project(t), l.env())
	e.limits.retryMax = 200 * time.Millisecond
	names := run(t, e)
	expect(t, names, "", soon)
	id := start(t, e, appRequest(t, nil))
	for range 3 {
		l.down()
		// Until the end of the event stream is noticed, the last answer counts, for believeFor at most.
		eventually(t, believeFor+20*time.Second, func() string { // and a busy machine
			if list, err := e.Containers(t.Context()); !errors.Is(err, ErrUnreachable) || list != nil {
				return fmt.Sprintf("Containers of an Engine that is gone = %d, %v; want ErrUnreachable", len(list), err)
			}
			return ""
		})
		drain(names)
		l.up()
		expect(t, names, "", soon)
		find(t, e, id)
	}
}

// TestEngineHangs puts an Engine that takes connections and says nothing behind every call.
func TestEngineHangs(t *testing.T) {
	l := newLine(t)
	e := newEngine(t, dockertest.Project(t), l.env())
	e.limits.retryMax = 100 * time.Millisecond
	id := start(t, e, appRequest(t, nil))
	short := func(d time.Duration) {
		e.limits.ping, e.limits.query, e.limits.info, e.limits.change = d, d, d, d
		e.limits.stopExtra, e.limits.logs, e.limits.exec, e.limits.pullIdle = d, d, d, d
	}
	short(300 * time.Millisecond) // less than what is not bounded by its own limit: that takes a minute, or never ends
	const most = 40 * time.Second
	r := appRequest(t, nil)
	l.hang(true)
	ref, imageID := "gantryd-test/hang:1", "sha256:"+strings.Repeat("0", 64)
	calls := map[string]func() error{
		"Containers":   func() error { _, err := e.Containers(t.Context()); return err },
		"ImagePresent": func() error { _, err := e.ImagePresent(t.Context(), imageID); return err },
		"Pull":         func() error { return e.Pull(t.Context(), component.Image{Ref: ref}, "", nil) },
		"Resolve":      func() error { _, _, err := e.Resolve(t.Context(), ref, PullMissing, nil); return err },
		"Start":        func() error { _, err := e.Start(t.Context(), r); return err },
		"Stop":         func() error { return e.Stop(t.Context(), id, 0) },
		"Kill":         func() error { return e.Kill(t.Context(), id) },
		"Remove":       func() error { return e.Remove(t.Context(), id) },
		"Logs":         func() error { _, err := e.Logs(t.Context(), id, 5); return err },
		"ExitReason":   func() error { _, err := e.ExitReason(t.Context(), id); return err },
		"RemoveImage":  func() error { return e.RemoveImage(t.Context(), imageID) },
		"Gateway":      func() error { _, err := e.Gateway(t.Context(), ""); return err },
		"DockerHealth": func() error { _, _, err := e.DockerHealth(t.Context(), id); return err },
		"Exec":         func() error { _, _, err := e.Exec(t.Context(), id, []string{"/app"}); return err },
		"Info":         func() error { _, err := e.Info(t.Context()); return err },
	}
	for _, connected := range []string{"connected before", "not connected"} {
		for name, call := range calls {
			if connected == "not connected" && name != "Containers" && name != "Start" && name != "Exec" {
				continue // they all begin the same way
			}
			t.Run(name+" "+connected, func(t *testing.T) {
				if connected == "connected before" {
					l.hang(false)
					eventually(t, soon, func() string {
						if _, err := e.Containers(t.Context()); err != nil {
							return err.Error()
						}
						return ""
					})
					l.hang(true)
				}
				began := time.Now()
				err := call()
				if took := time.Since(began); took > most {
					t.Errorf("took %s", took)
				}
				if err == nil {
					t.Error("no error")
				} else if name != "Exec" && name != "Pull" && !errors.Is(err, ErrUnreachable) {
					t.Errorf("error = %v, want ErrUnreachable", err)
				}
			})
		}
	}
	l.hang(false)
	eventually(t, soon, func() string {
		if _, err := e.Containers(t.Context()); err != nil {
			return err.Error()
		}
		return ""
	})
}

// TestHungEventStream notices an Engine that keeps its stream open and says nothing.
func TestHungEventStream(t *testing.T) {
	l := newLine(t)
	e := newEngine(t, dockertest.Project(t), l.env())
	e.limits.heartbeat, e.limits.ping, e.limits.query = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	e.limits.retryMax = 200 * time.Millisecond
	names := run(t, e)
	expect(t, names, "", soon)
	l.hang(true)
	eventually(t, soon, func() string {
		if cli, err := e.current(); cli != nil || err != nil {
			return "the client is still in use"
		}
		return ""
	})
	drain(names)
	l.hang(false)
	expect(t, names, "", soon)
}

func TestInterruptedStartLeavesNothingBehind(t *testing.T) {
	l := newLine(t)
	project := dockertest.Project(t)
	e := newEngine(t, project, l.env())
	r := appRequest(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Start(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("Start = %v, want canceled", err)
	}
	// The caller gives up while the Engine works.
	done := 0
	for _, after := range []time.Duration{2, 5, 10, 20, 40, 80, 120, 160, 240} {
		ctx, cancel := context.WithTimeout(t.Context(), after*time.Millisecond)
		if _, err := e.Start(ctx, r); err == nil {
			done++
		}
		cancel()
	}
	eventually(t, soon, func() string {
		list, err := newEngine(t, project, nil).Containers(t.Context())
		if err != nil || len(list) != done {
			return fmt.Sprintf("%d containers, %v; want %d", len(list), err, done)
		}
		return ""
	})
	// Wherever the line breaks, only a container with our labels may be left.
	for _, after := range []time.Duration{5, 40, 160} {
		timer := time.AfterFunc(after*time.Millisecond, l.down)
		if _, err := e.Start(t.Context(), r); err != nil && !errors.Is(err, ErrUnreachable) {
			t.Errorf("Start = %v, want ErrUnreachable", err)
		}
		timer.Stop()
		l.down()
		l.up()
	}
	settle(t, newEngine(t, project, nil))
}

// settle waits until the Engine makes no more containers, so that the test can remove them all.
func settle(t *testing.T, e *Engine) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for last, same := -1, 0; same < 10; {
		<-tick.C
		list, err := e.Containers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if same++; len(list) != last {
			last, same = len(list), 0
		}
	}
}

// fakeEngine answers as a Docker Engine of some API version, on a unix socket.
func fakeEngine(t *testing.T, h http.Handler) map[string]string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	t.Cleanup(srv.Close)
	return map[string]string{"DOCKER_HOST": "unix://" + ln.Addr().String()}
}

func TestAPIVersions(t *testing.T) {
	refusal := func(w http.ResponseWriter, why string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"message":%q}`, why)
	}
	t.Run("that of the Engine here", func(t *testing.T) {
		info, err := realEngine(t).Info(t.Context())
		if err != nil || info.APIVersion == "" || info.ID == "" || info.Version == "" {
			t.Errorf("Info = %+v, %v", info, err)
		}
		t.Logf("%+v", info)
	})
	for _, version := range []string{"1.41", "1.44", "1.60"} {
		t.Run(version, func(t *testing.T) {
			var path string
			e := newEngine(t, "p", fakeEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Api-Version", version)
				if !strings.HasSuffix(r.URL.Path, "/_ping") {
					path = r.URL.Path
					fmt.Fprint(w, "[]")
				}
			})))
			if list, err := e.Containers(t.Context()); err != nil || list == nil || len(list) != 0 {
				t.Fatalf("Containers = %v, %v", list, err)
			}
			want := version
			if want == "1.60" { // newer than this client
				want = api.DefaultVersion
			}
			if path != "/v"+want+"/containers/json" {
				t.Errorf("asked for %s, want version %s", path, want)
			}
		})
	}
	t.Run("another Engine came in between", func(t *testing.T) {
		var version atomic.Value
		version.Store("1.47")
		e := newEngine(t, "p", fakeEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v := version.Load().(string)
			w.Header().Set("Api-Version", v)
			switch {
			case strings.HasSuffix(r.URL.Path, "/_ping"):
			case !strings.HasPrefix(r.URL.Path, "/v"+v+"/"):
				refusal(w, "client version 1.47 is too new. Maximum supported API version is "+v)
			default:
				fmt.Fprint(w, "[]")
			}
		})))
		for _, v := range []string{"1.47", "1.41"} {
			version.Store(v)
			if _, err := e.Containers(t.Context()); err != nil {
				t.Errorf("Containers at version %s: %v", v, err)
			}
		}
	})
	t.Run("refuses all", func(t *testing.T) {
		var asked atomic.Int64
		e := newEngine(t, "p", fakeEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			if !strings.HasSuffix(r.URL.Path, "/_ping") {
				asked.Add(1)
				refusal(w, "client version 1.41 is too old. Minimum supported API version is 1.44")
			}
		})))
		_, err := e.Containers(t.Context())
		if err == nil || !strings.Contains(err.Error(), "too old") || errors.Is(err, ErrUnreachable) || asked.Load() != 2 {
			t.Errorf("Containers = %v after %d requests, want the refusal after two", err, asked.Load())
		}
	})
	t.Run("the first ping failed", func(t *testing.T) {
		var sick atomic.Bool
		sick.Store(true)
		e := newEngine(t, "p", fakeEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			switch {
			case sick.Load():
				w.WriteHeader(http.StatusServiceUnavailable)
			case strings.HasSuffix(r.URL.Path, "/_ping"):
			case !strings.HasPrefix(r.URL.Path, "/v1.41/"):
				refusal(w, "client version is too new")
			default:
				fmt.Fprint(w, "[]")
			}
		})))
		if list, err := e.Containers(t.Context()); err == nil || list != nil {
			t.Errorf("Containers = %v, %v; want an error", list, err)
		}
		sick.Store(false)
		if _, err := e.Containers(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("answers that make no sense", func(t *testing.T) {
		e := newEngine(t, "p", fakeEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			if !strings.HasSuffix(r.URL.Path, "/_ping") {
				fmt.Fprint(w, "<html>")
			}
		})))
		if list, err := e.Containers(t.Context()); err == nil || list != nil {
			t.Errorf("Containers = %v, %v; want an error", list, err)
		}
	})
}

func TestWarnsOfMissingLiveRestore(t *testing.T) {
	var log syncBuffer
	ctx, cancel := context.WithCancel(t.Context())
	set := fakeEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-ctx.Done():
			}
		case strings.HasSuffix(r.URL.Path, "/info"):
			_ = json.NewEncoder(w).Encode(map[string]any{"ID": "x", "ServerVersion": "20.10", "LiveRestoreEnabled": false})
		}
	}))
	e, err := New(Options{Project: "p", Host: "h", Log: slog.New(slog.NewTextHandler(&log, nil)), Getenv: env(set)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.Run(ctx, func(string) {}) })
	eventually(t, soon, func() string {
		if s := log.String(); !strings.Contains(s, "live-restore") {
			return "log is " + s
		}
		return ""
	})
	cancel()
	wg.Wait()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestClosed(t *testing.T) {
	e := realEngine(t)
	if _, err := e.Containers(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := e.Containers(t.Context()); err == nil {
		t.Error("a closed Engine answered")
	}
}

func TestNewRefusesMistakes(t *testing.T) {
	tests := []struct {
		name string
		set  map[string]string
		want string
	}{
		{"no scheme", map[string]string{"DOCKER_HOST": "nonsense"}, "DOCKER_HOST"},
		{"ssh", map[string]string{"DOCKER_HOST": "ssh://h"}, "neither unix:// nor tcp://"},
		{"no certificates", map[string]string{"DOCKER_HOST": "tcp://192.0.2.1:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"}, "certificates"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(Options{Project: "p", Host: "h", Getenv: env(tt.set)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New = %v, want %q in it", err, tt.want)
			}
		})
	}
	if _, err := New(Options{Host: "h"}); err == nil {
		t.Error("New without a project worked")
	}
}
