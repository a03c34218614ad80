// Package examples_test runs the examples as their README says.
package examples_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
)

// image is what the examples run.
const image = "gantryd-demo/hello:latest"

func TestMain(m *testing.M) { os.Exit(fleettest.Main(m)) }

func TestLinkFindsTheOtherComponent(t *testing.T) {
	g := start(t)
	g.run(t, "link/gantryd.json", "start", "store")
	g.run(t, "link/gantryd.json", "start", "front")
	want(t, "http://127.0.0.1:8081/", "v1 ")
	want(t, "http://127.0.0.1:8081/fetch?env=BACKEND_CLINK", "v1 ")
	g.image(t, "v2")
	g.run(t, "link/gantryd.json", "update", "store")
	want(t, "http://127.0.0.1:8081/fetch?env=BACKEND_CLINK", "v2 ")
	g.run(t, "link/gantryd.json", "stop", "front")
	g.run(t, "link/gantryd.json", "stop", "store")
}

func TestRoutesShareAPort(t *testing.T) {
	g := start(t)
	const url, file = "http://127.0.0.1:8083", "routes/gantryd.json"
	g.run(t, file, "start", "site")
	want(t, url+"/shop", "site ") // nobody else is there yet
	g.run(t, file, "start", "shop")
	for _, tt := range []struct{ host, path, by string }{
		{"", "/", "site"},
		{"", "/shop", "shop"},
		{"", "/shop/cart", "shop"},
		{"", "/shopping", "site"},
		{"shop.example", "/", "shop"},
		{"www.SHOP.example", "/", "shop"},
		{"a.www.shop.example", "/", "site"},
		{"example", "/", "site"},
	} {
		wantOf(t, tt.host, url+tt.path, tt.by+" ")
	}
	g.run(t, file, "update", "shop") // the port stays open for both
	wantOf(t, "shop.example", url+"/", "shop ")
	g.run(t, file, "stop", "shop")
	want(t, url+"/shop", "site ")
	g.run(t, file, "stop", "site")
}

func TestYAMLRuns(t *testing.T) {
	g := start(t)
	g.run(t, "yaml/gantryd.yaml", "start", "api")
	g.run(t, "yaml/gantryd.yaml", "start", "worker")
	want(t, "http://127.0.0.1:8082/", "v1 ")
	g.run(t, "yaml/gantryd.yaml", "update", "worker") // exclusive: the old one ends first
	if out := g.run(t, "yaml/gantryd.yaml", "list", "worker"); strings.Count(out, "running") != 1 {
		t.Errorf("list worker = %s, want one running container", out)
	}
	g.run(t, "yaml/gantryd.yaml", "stop", "worker")
	g.run(t, "yaml/gantryd.yaml", "kill", "api")
}

// The original's file lacks the component that defines its link; complete.json has it.
func TestOriginalIsValidOnceItsLinkIsThere(t *testing.T) {
	out, err := command(t, "gantryd", "validate", "original/gantryd.json")
	if err == nil || !strings.Contains(out, "anotherserver") {
		t.Errorf("validate original/gantryd.json = %v, %s, want one mistake about the link anotherserver", err, out)
	}
	if out, err := command(t, "gantryd", "validate", "original/complete.json"); err != nil {
		t.Errorf("validate original/complete.json = %v, %s", err, out)
	}
}

// A gantry is an agent in a state directory of the test.
type gantry struct {
	dir    string
	engine *dockertest.Inspector
}

func start(t *testing.T) *gantry {
	t.Helper()
	g := &gantry{dir: t.TempDir(), engine: dockertest.Inspect(t, "")}
	g.image(t, "v1")
	agent := exec.CommandContext(context.WithoutCancel(t.Context()), fleettest.Binary(t, "gantry"), "agent", "--state-dir", g.dir, "--bind", "127.0.0.1")
	log, err := os.Create(g.dir + "/test.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	agent.Stdout, agent.Stderr = log, log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := agent.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := agent.Wait(); err != nil {
			said, _ := os.ReadFile(log.Name())
			t.Errorf("the agent ended with %v:\n%s", err, said)
		}
	})
	t.Cleanup(func() { // while the agent lives: what a failed test left behind
		for _, c := range [][2]string{{"link/gantryd.json", "front"}, {"link/gantryd.json", "store"}, {"routes/gantryd.json", "shop"}, {"routes/gantryd.json", "site"}, {"yaml/gantryd.yaml", "worker"}, {"yaml/gantryd.yaml", "api"}} {
			_, _ = command(t, "gantry", c[0], "kill", c[1], "--state-dir", g.dir) // mostly not running
		}
	})
	fleettest.Await(t, time.Minute, "the agent's socket", func() error {
		_, err := os.Stat(g.dir + "/agent.sock")
		return err
	})
	return g
}

// image makes a version of the image what the examples' name stands for.
func (g *gantry) image(t *testing.T, version string) {
	t.Helper()
	_, id := g.engine.Image(t, dockertest.Variant{Version: version})
	g.engine.Tag(t, id, image)
}

func (g *gantry) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t, "gantry", append(args, "--state-dir", g.dir)...)
	if err != nil {
		t.Fatalf("gantry %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func command(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, fleettest.Binary(t, name), args...).CombinedOutput()
	return string(out), err
}

// want asks url once: what a command returned from is in effect.
func want(t *testing.T, url, text string) {
	t.Helper()
	wantOf(t, "", url, text)
}

// wantOf is want by another name of the host, unless that is empty.
func wantOf(t *testing.T, host, url, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasPrefix(string(b), text) {
		t.Errorf("GET %s of host %q = %v, %q, want %q first", url, host, err, b, text)
	}
}
