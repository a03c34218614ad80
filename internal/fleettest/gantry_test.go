package fleettest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
)

// TestGantryUpgradesItsAgent: a command of a newer version does, one of an older version does not.
func TestGantryUpgradesItsAgent(t *testing.T) {
	older, newer := build(t, "gantry", "v98.0.0"), build(t, "gantry", "v99.0.0")
	docker := dockertest.Inspect(t, "")
	ref, _ := docker.Image(t, version("v1"))
	repo, tag, _ := strings.Cut(ref, ":")
	dir, err := os.MkdirTemp("", "gantry-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := porttest.Free(t, 1)[0]
	file := filepath.Join(dir, "gantryd.json")
	b, err := json.Marshal(component.Project{Components: []component.Spec{{
		Name: "web", Repo: repo, Tag: tag, Ports: []component.Port{{External: port, Container: 8080, Kind: component.KindHTTP}},
		ReadyChecks: []component.Check{{Kind: component.CheckHTTP, Port: 8080, Path: "/ready"}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(binary string, env []string, args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"--state-dir", dir}, args...)...)
		cmd.Env = append(append(os.Environ(), "GANTRY_BIND=127.0.0.1"), env...)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		if out, err := cmd.Output(); err != nil {
			t.Fatalf("gantry %q: %v\n%s%s", args, err, out, errOut.String())
		}
		return errOut.String()
	}
	agent := func() int {
		b, _ := os.ReadFile(filepath.Join(dir, "lock"))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return pid
	}
	sum := sha256.Sum256([]byte(dir))
	mine := fmt.Sprintf("%s=gantry-%x", dockertest.LabelProject, sum[:4]) // as the agent names its project
	t.Cleanup(func() {
		if pid := agent(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
		for _, c := range docker.Containers(t, mine) {
			docker.Remove(t, c.ID)
		}
	})
	run(older, nil, file, "start", "web")
	before, containers := agent(), docker.Containers(t, mine)
	if len(containers) != 1 {
		t.Fatalf("%d containers with label %s", len(containers), mine)
	}
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: fmt.Sprintf("http://127.0.0.1:%d/", port), Short: 2, KeepAlive: 2})

	if said := run(newer, []string{"GANTRY_KEEP_AGENT=1"}, file, "list", "web"); said != "" || agent() != before {
		t.Errorf("a command that was told to keep the agent replaced it: %q", said)
	}
	if said := run(newer, nil, file, "list", "web"); !strings.Contains(said, "upgraded from v98.0.0") || agent() == before {
		t.Errorf("a newer command: %q, agent %d was %d", said, agent(), before)
	}
	upgraded := agent()
	if said := run(older, nil, file, "list", "web"); said != "" || agent() != upgraded {
		t.Errorf("an older command: %q, agent %d was %d", said, agent(), upgraded)
	}
	run(older, nil, "upgrade", "--binary", older) // back, when it is asked for
	if agent() == upgraded {
		t.Error("upgrade --binary changed nothing")
	}
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive)
	if diff := cmp.Diff(containers, docker.Containers(t, mine)); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}

	// An update goes on through an upgrade of the agent.
	var said string
	var wg sync.WaitGroup
	wg.Go(func() { said = run(older, nil, file, "update", "web") })
	fleettest.Pass(t, 100*time.Millisecond)
	run(older, nil, "upgrade", "--binary", newer)
	wg.Wait()
	if said != "" && !strings.Contains(said, "upgraded") {
		t.Errorf("update through an upgrade: %q", said)
	}
}
