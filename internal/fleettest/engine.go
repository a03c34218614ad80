package fleettest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/skiptest"
)

// An Engine is a Docker Engine of one test, in a network namespace of its own.
type Engine struct {
	*Process
	Host   string // as DOCKER_HOST has it
	IP     string // of the namespace, as the test reaches it
	Docker *dockertest.Inspector

	dir       string
	namespace string
	outer     string // the interface of the test's namespace that leads there
}

// EngineOptions are settings of an Engine.
type EngineOptions struct {
	LiveRestore bool // containers outlive the Engine
}

// StartEngine runs an Engine until the test ends. Without root, network namespaces or dockerd the
// test is skipped, or fails when GANTRYD_REQUIRE lists fleet.
func StartEngine(t testing.TB, o EngineOptions) *Engine {
	t.Helper()
	shared := dockertest.Inspect(t, "") // tells that containers work here at all, and on which storage
	if why := impossible(); why != "" {
		skiptest.Missing(t, "fleet", "no Engine of its own: %s", why)
	}
	dir, err := os.MkdirTemp("", "gfl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// With live-restore the Engine leaves its data mounted onto itself.
		_ = exec.Command("umount", "--lazy", filepath.Join(dir, "data")).Run() // there may be no mount
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the Engine's data: %v", err)
		}
	})
	e := &Engine{dir: dir, Host: "unix://" + filepath.Join(dir, "docker.sock")}
	e.addNamespace(t)
	e.configure(t, map[string]any{
		"live-restore": o.LiveRestore, "storage-driver": shared.Storage(t), "insecure-registries": []string{testNetworks},
	})
	e.Process = newProcess(t, "dockerd", append(e.inside(), "dockerd", "--host", e.Host, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "--config-file", filepath.Join(dir, "daemon.json"),
		"--iptables=false", "--ip-masq=false"), nil, "API listen on")
	e.Docker = dockertest.Inspect(t, e.Host)
	t.Cleanup(func() { // before the Engine stops: with live-restore they would outlive it
		for _, c := range e.Docker.Containers(t) {
			e.Docker.Remove(t, c.ID)
		}
	})
	e.Start(t)
	return e
}

// impossible says why this machine cannot run an Engine for a test, or nothing.
func impossible() string {
	if runtime.GOOS != "linux" {
		return "it needs Linux"
	}
	if os.Geteuid() != 0 {
		return "it needs root"
	}
	for _, tool := range []string{"dockerd", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err.Error()
		}
	}
	if out, err := exec.Command("ip", "netns", "list").CombinedOutput(); err != nil {
		return fmt.Sprintf("no network namespaces: %v: %s", err, out)
	}
	return ""
}

// testNetworks is the range for tests between networks.
const testNetworks = "198.18.0.0/15"

// addNamespace makes the network namespace and joins it to the test's by a pair of interfaces, through which it
// reaches what has an address there.
func (e *Engine) addNamespace(t testing.TB) {
	t.Helper()
	n := rand.N(1 << 13)
	e.namespace = fmt.Sprintf("gfl%d", n)
	net := fmt.Sprintf("198.18.%d.", n>>6)
	here, there := fmt.Sprint(net, 4*(n&63)+1), fmt.Sprint(net, 4*(n&63)+2)
	outer, inner := e.namespace+"a", e.namespace+"b"
	e.IP, e.outer = there, outer
	run := func(argv ...string) {
		t.Helper()
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", argv, err, out)
		}
	}
	run("ip", "netns", "add", e.namespace)
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", e.namespace).CombinedOutput(); err != nil {
			t.Errorf("delete network namespace: %v: %s", err, out)
		}
	})
	run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", e.namespace)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", outer).Run() }) // it goes with the namespace, too
	run("ip", "address", "add", here+"/30", "dev", outer)
	run("ip", "link", "set", outer, "up")
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", there + "/30", "dev", inner},
		{"link", "set", inner, "up"},
		{"route", "add", "default", "via", here},
	} {
		run(slices.Concat(e.inside(), []string{"ip"}, args)...)
	}
}

func (e *Engine) configure(t testing.TB, settings map[string]any) {
	t.Helper()
	b, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(e.dir, "daemon.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Inside begins the command line of what runs in the Engine's network.
func (e *Engine) Inside() []string { return e.inside() }

// inside begins the command line of what runs in the Engine's network. Unlike "ip netns exec" it
// leaves /sys as it is, where the Engine finds its cgroups.
func (e *Engine) inside() []string { return []string{"nsenter", "--net=/run/netns/" + e.namespace} }

// Start starts the Engine and waits until it answers.
func (e *Engine) Start(t testing.TB) {
	t.Helper()
	// A killed Engine leaves these, and the next one would wait for the process that has the ID now.
	for _, name := range []string{"pid", "exec/containerd/containerd.pid"} {
		if err := os.Remove(filepath.Join(e.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	e.Process.Start(t)
	Await(t, Finally, "the Engine answers", func() error {
		if !e.Docker.Alive(t) {
			return errors.New("it does not")
		}
		return nil
	})
}
