package app_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryd/gantryd/internal/app"
	"github.com/gantryd/gantryd/internal/control"
	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/engine"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/localstate"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(wholeHeir); text != "" {
		os.Exit(newDaemon(text))
	}
	if os.Getenv(handover.Variable) != "" {
		os.Exit(newProcess(os.Getenv(asHeir)))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

func options(t *testing.T, env ...string) app.Options {
	t.Helper()
	return app.Options{
		Project: "app-test", Host: "h1", Bind: "127.0.0.1", DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Getenv: func(name string) string {
			for _, e := range env {
				if n, v, _ := strings.Cut(e, "="); n == name {
					return v
				}
			}
			return ""
		},
	}
}

// noEngine is an environment without Docker Engine.
func noEngine(t *testing.T) string {
	t.Helper()
	return "DOCKER_HOST=unix://" + filepath.Join(t.TempDir(), "none.sock")
}

func TestDataDirectoryHasOneDaemon(t *testing.T) {
	o := options(t, noEngine(t))
	f := app.Fleet{Etcd: etcdstate.Config{Endpoints: []string{porttest.Addr(t)}}}
	first, err := app.New(t.Context(), o, f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.New(t.Context(), o, f); !errors.Is(err, localstate.ErrLocked) {
		t.Errorf("second daemon: %v, want ErrLocked", err)
	}
	ends(t, first.Run)
	again, err := app.New(t.Context(), o, f)
	if err != nil {
		t.Fatalf("after the first one ended: %v", err)
	}
	ends(t, again.Run)
}

// TestAPIBeginsAgain lets the API fail: the daemon goes on and begins it again, and ends it with itself.
func TestAPIBeginsAgain(t *testing.T) {
	o := options(t, noEngine(t))
	served, over := make(chan bool, 10), make(chan struct{})
	tries := 0
	o.API = func(ctx context.Context, c *etcdstate.Client, e *engine.Engine) error {
		served <- c != nil && e != nil
		if tries++; tries == 1 {
			return errors.New("it failed")
		}
		<-ctx.Done()
		close(over)
		return nil
	}
	d, err := app.New(t.Context(), o, app.Fleet{Etcd: etcdstate.Config{Endpoints: []string{porttest.Addr(t)}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	for range 2 {
		if !<-served {
			t.Error("it was given no client, or no engine")
		}
	}
	cancel()
	<-over
	if err := <-ended; err != nil {
		t.Errorf("run = %v", err)
	}
}

// TestAPIHasAClientOfItsOwn closes the API's client: the daemon still gives its place up in etcd. Watches of a client
// that both use would be in each other's way.
func TestAPIHasAClientOfItsOwn(t *testing.T) {
	m := etcdtest.Start(t)
	o := options(t, noEngine(t))
	closed := make(chan error, 1)
	o.API = func(ctx context.Context, c *etcdstate.Client, _ *engine.Engine) error {
		closed <- c.Close()
		<-ctx.Done()
		return nil
	}
	d, err := app.New(t.Context(), o, app.Fleet{Etcd: etcdstate.Config{Endpoints: []string{m.Endpoint()}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	machines := func() int64 {
		resp, err := m.Client(t).Get(t.Context(), "/gantryd/projects/app-test/machines/h1/state")
		if err != nil {
			t.Fatal(err)
		}
		return resp.Count
	}
	awaitThat(t, "the host is registered", func() bool { return machines() == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run = %v", err)
	}
	if machines() != 0 {
		t.Error("the host is registered still")
	}
}

// ends runs a daemon for a moment and asserts that it ends soon.
func ends(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := run(ctx); err != nil && !errors.Is(err, component.ErrUnreachable) {
		t.Errorf("Run = %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v to end", took)
	}
}

func TestFailedNewLeavesNothing(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*app.Options, *app.Fleet)
	}{
		{"TLS file missing", func(_ *app.Options, f *app.Fleet) { f.Etcd.CACert = "/nonexistent/ca.pem" }},
		{"engine's address makes no sense", func(o *app.Options, _ *app.Fleet) {
			o.Getenv = func(name string) string { return map[string]string{"DOCKER_HOST": "nonsense"}[name] }
		}},
		{"engine's address makes no sense, with an etcd inside", func(o *app.Options, f *app.Fleet) {
			o.Getenv = func(name string) string { return map[string]string{"DOCKER_HOST": "nonsense"}[name] }
			f.Embedded = porttest.Addr(t)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			good := options(t, noEngine(t))
			o, f := good, app.Fleet{Etcd: etcdstate.Config{Endpoints: []string{porttest.Addr(t)}}}
			tt.spoil(&o, &f)
			if _, err := app.New(t.Context(), o, f); err == nil {
				t.Fatal("New = nil")
			}
			if f.Embedded != "" {
				if c, err := net.Dial("tcp", f.Embedded); err == nil {
					c.Close()
					t.Error("the embedded etcd still listens")
				}
			}
			d, err := app.New(t.Context(), good, app.Fleet{Etcd: etcdstate.Config{Endpoints: []string{porttest.Addr(t)}}})
			if err != nil {
				t.Fatalf("New in the same directory: %v", err)
			}
			ends(t, d.Run)
		})
	}
}

// shelf is a keeper that notes what it is told.
type shelf struct{ told []string }

func (s *shelf) Opened(_ netip.AddrPort, f *os.File) {
	s.told = append(s.told, "opened")
	_ = f.Close()
}

func (s *shelf) Closed(netip.AddrPort) bool {
	s.told = append(s.told, "closed")
	return !slices.Contains(s.told, "detach")
}

func (s *shelf) Kept(context.Context) []*os.File { return nil }
func (s *shelf) Run(ctx context.Context)         { <-ctx.Done() }
func (s *shelf) Detach()                         { s.told = append(s.told, "detach") }
func (s *shelf) End(context.Context)             { s.told = append(s.told, "end") }

// TestFailedNewGivesUpNoSocket fails after the proxy is there: what was kept is for the next try.
func TestFailedNewGivesUpNoSocket(t *testing.T) {
	o := options(t, noEngine(t))
	keeper := &shelf{}
	o.Keeper = keeper
	if err := os.MkdirAll(filepath.Join(o.DataDir, control.Name+".new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := app.NewLocal(t.Context(), o); err == nil {
		t.Fatal("NewLocal = nil")
	}
	if len(keeper.told) == 0 || keeper.told[0] != "detach" {
		t.Errorf("the keeper was told %q, want that another process goes on", keeper.told)
	}
}

func TestDataDirectoryThatCannotBe(t *testing.T) {
	o := options(t, noEngine(t))
	o.DataDir = "/proc/nowhere"
	if _, err := app.New(t.Context(), o, app.Fleet{}); err == nil || !strings.Contains(err.Error(), "/proc/nowhere") {
		t.Errorf("New = %v, want an error that names the directory", err)
	}
	if _, err := app.NewLocal(t.Context(), o); err == nil || errors.Is(err, fs.ErrInvalid) {
		t.Errorf("NewLocal = %v, want an error", err)
	}
}

// TestEndLeavesContainers runs a component on Docker Engine and etcd, ends the daemon, and starts it
// again.
func TestEndLeavesContainers(t *testing.T) {
	o := options(t)
	o.Project = dockertest.Project(t)
	ref, id := dockertest.App(t, "v1")
	repo, tag, _ := strings.Cut(ref, ":")
	m := etcdtest.Start(t)
	f := app.Fleet{Etcd: etcdstate.Config{Endpoints: []string{m.Endpoint()}}, LeaseTTL: 5 * time.Second}
	c, err := etcdstate.Dial(t.Context(), f.Etcd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	spec := component.Spec{Name: "web", Repo: repo, Tag: tag}
	if _, err := c.SetDesired(t.Context(), o.Project, "web", component.Desired{Status: component.StatusReady, ImageID: id, Spec: &spec}); err != nil {
		t.Fatal(err)
	}
	var served []string
	for range 2 {
		d, err := app.New(t.Context(), o, f)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		served = append(served, primary(t, d))
		began := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %v to end", took)
		}
		for key := range m.All(t, "/gantryd/projects/"+o.Project+"/") {
			if strings.Contains(key, "/machines/") || strings.Contains(key, "/hosts/") {
				t.Errorf("key %s is left", key)
			}
		}
	}
	if served[0] != served[1] {
		t.Errorf("containers %v served, want the same one twice", served)
	}
}

// primary waits for the container that serves web.
func primary(t *testing.T, d *app.Daemon) string {
	t.Helper()
	end := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, c := range d.Supervisor().Status("web").Containers {
			if c.Primary {
				return c.ID
			}
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("no container serves")
		}
	}
}
