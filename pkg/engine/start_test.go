package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
)

func TestStartListStopRemove(t *testing.T) {
	e := realEngine(t)
	r := appRequest(t, nil)
	before := time.Now()
	id := start(t, e, r)
	t.Logf("create + start: %s", time.Since(before))

	got := find(t, e, id)
	if got.Addr == "" || got.Name == "" || !strings.HasPrefix(got.Status, "Up") || got.Created.Before(before) {
		t.Errorf("listed container = %+v, want an address, a name, a status and when it was created", got)
	}
	want := component.EngineContainer{
		ID: id, Name: got.Name, Component: "web", Release: r.Release, Hash: r.Hash, State: component.RunRunning,
		Status: got.Status, ImageID: r.Release.ImageID, ImageName: r.Release.Image.Ref, Addr: got.Addr, Created: got.Created,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("listed container (-want +got):\n%s", d)
	}
	if body := get(t, got, "/"); body != "v1 "+component.Short(id)+"\n" {
		t.Errorf("GET / = %q, want version and host name", body)
	}

	before = time.Now()
	if err := e.Stop(t.Context(), id, soon); err != nil {
		t.Fatal(err)
	}
	t.Logf("stop: %s", time.Since(before))
	got = find(t, e, id)
	if got.State != component.RunExited || got.Addr != "" {
		t.Errorf("after Stop the container is %s with address %q, want exited without", got.State, got.Addr)
	}
	if reason, err := e.ExitReason(t.Context(), id); err != nil || reason != "exit code 0" {
		t.Errorf("ExitReason = %q, %v; want exit code 0", reason, err)
	}
	for range 2 { // the second time nothing is left to do
		if err := e.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := e.Stop(t.Context(), id, time.Second); err != nil {
			t.Errorf("Stop of a container that is gone: %v", err)
		}
		if err := e.Kill(t.Context(), id); err != nil {
			t.Errorf("Kill of a container that is gone: %v", err)
		}
	}
	if list, err := e.Containers(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("Containers = %v, %v; want none", list, err)
	}
}

func TestListIsOldestFirstAndFast(t *testing.T) {
	e := realEngine(t)
	r := appRequest(t, nil)
	var want []string
	for range 5 {
		want = append(want, start(t, e, r))
	}
	best := time.Hour
	for range 20 {
		began := time.Now()
		list, err := e.Containers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
		var got []string
		for _, c := range list {
			got = append(got, c.ID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("order = %v, want %v", got, want)
		}
	}
	t.Logf("list of 5: %s at best", best)
}

func TestCommandStaysArgv(t *testing.T) {
	e := realEngine(t)
	id := start(t, e, appRequest(t, func(s *component.Spec) { s.Command = []string{"sh", "-c", "echo hi there"} }))
	c, err := e.inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"sh", "-c", "echo hi there"}; !slices.Equal(c.Config.Cmd, want) {
		t.Errorf("Cmd = %q, want %q", c.Config.Cmd, want)
	}
	if got, want := look(t, find(t, e, id)).Args, []string{"/app", "sh", "-c", "echo hi there"}; !slices.Equal(got, want) {
		t.Errorf("arguments inside = %q, want %q", got, want)
	}
}

func TestSettingsReachTheProcess(t *testing.T) {
	e := realEngine(t)
	r := appRequest(t, func(s *component.Spec) {
		s.User, s.WorkingDir, s.Hostname = "1000:1000", "/tmp", "box"
		s.EnvironmentVariables = []component.EnvVar{{Name: "A", Value: "own"}, {Name: "B", Value: "own=1"}, {Name: "VERSION", Value: "mine"}}
		s.Labels = map[string]string{"team": "shop"}
		s.Resources = component.Resources{Memory: "64m", CPUs: 0.5, Pids: 50}
		s.CapDrop, s.CapAdd = []string{"ALL"}, []string{"NET_BIND_SERVICE"}
		s.ReadOnly, s.Tmpfs = true, map[string]string{"/scratch": "size=1m"}
		s.Ulimits = []component.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}
		s.Logging = component.Logging{Driver: "json-file", Options: map[string]string{"max-size": "1m"}}
		s.DNS = []string{"192.0.2.53"}
		s.StopTimeout = component.Duration(1500 * time.Millisecond)
	})
	r.Env = []string{"A=link"}
	id := start(t, e, r)
	in := look(t, find(t, e, id))
	for _, want := range []string{"A=link", "B=own=1", "VERSION=mine"} {
		if !slices.Contains(in.Env, want) {
			t.Errorf("environment inside = %q, want %q in it", in.Env, want)
		}
	}
	if slices.Contains(in.Env, "A=own") {
		t.Errorf("environment inside = %q, want the request's A only", in.Env)
	}
	if in.UID != 1000 || in.Dir != "/tmp" || in.Hostname != "box" {
		t.Errorf("inside = uid %d, dir %q, host name %q; want 1000, /tmp, box", in.UID, in.Dir, in.Hostname)
	}
	c, err := e.inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	h := c.HostConfig
	pids := int64(50)
	got := []any{
		c.Config.Labels["team"], h.Memory, h.NanoCPUs, *h.PidsLimit, []string(h.CapDrop), []string(h.CapAdd), h.ReadonlyRootfs,
		h.Tmpfs["/scratch"], *h.Ulimits[0], h.LogConfig.Type, h.LogConfig.Config["max-size"], h.DNS, h.RestartPolicy.Name, *c.Config.StopTimeout,
	}
	want := []any{
		"shop", int64(64 << 20), int64(5e8), pids,
		[]string{"ALL"},
		[]string{"CAP_NET_BIND_SERVICE"},
		true,
		"size=1m",
		container.Ulimit{Name: "nofile", Soft: 100, Hard: 200},
		"json-file", "1m",
		[]string{"192.0.2.53"},
		container.RestartPolicyDisabled, 2,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
}

func TestNoCommandAnywhere(t *testing.T) {
	e := realEngine(t)
	ref, id := dockertest.Image(t, dockertest.Variant{Version: "nocommand", NoCommand: true})
	repo, tag := splitRef(t, ref)
	r := component.StartRequest{Component: "c", Release: component.Release{ImageID: id, Spec: component.Spec{Name: "c", Repo: repo, Tag: tag}}}
	_, err := e.Start(t.Context(), r)
	if want := "No command defined in either gantry config or docker image for component c"; err == nil || err.Error() != want {
		t.Errorf("Start = %v, want %q", err, want)
	}
	r.Release.Spec.Entrypoint = []string{"/app"}
	start(t, e, r)
}

func TestFailedStartLeavesNothing(t *testing.T) {
	e := realEngine(t)
	dir := t.TempDir()
	id, err := e.Start(t.Context(), appRequest(t, func(s *component.Spec) {
		s.Entrypoint = []string{"/no/such/program"}
		s.Bindings = []component.Binding{{External: dir + "/{container_id}", Volume: "/data"}}
	}))
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("Start = %q, %v; want the Engine's reason", id, err)
	}
	if list, err := e.Containers(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("Containers = %v, %v; want none", list, err)
	}
	if left, _ := filepath.Glob(dir + "/" + linkPrefix + "*"); len(left) != 0 {
		t.Errorf("links left: %v", left)
	}
}

func TestStartNeedsTheImage(t *testing.T) {
	e := realEngine(t)
	_, err := e.Start(t.Context(), component.StartRequest{Component: "c", Release: component.Release{
		ImageID: "sha256:" + strings.Repeat("0", 64), Spec: component.Spec{Name: "c", Repo: "nobody/has-this"},
	}})
	if err == nil || !strings.Contains(err.Error(), "is not on this host") {
		t.Errorf("Start = %v, want that the image is not on this host", err)
	}
}

func TestStartRunsTheContentNotTheName(t *testing.T) {
	e := realEngine(t)
	_, v2 := dockertest.App(t, "v2")
	r := appRequest(t, nil) // its reference is v1
	r.Release.ImageID = v2
	got := find(t, e, start(t, e, r))
	if got.ImageID != v2 || !strings.HasPrefix(get(t, got, "/"), "v2 ") {
		t.Errorf("image = %s, want that of v2, %s", got.ImageID, v2)
	}
}

func TestBindings(t *testing.T) {
	dockertest.Engine(t)
	e := realEngine(t)
	dir := t.TempDir()
	id := start(t, e, appRequest(t, func(s *component.Spec) {
		s.User = "0"
		s.Bindings = []component.Binding{
			{External: dir + "/plain", Volume: "/plain"},
			{External: dir + "/logs/{container_id}/web", Volume: "/logs"},
			{External: dir + "/{other}/x-{container_id}", Volume: "/odd:ro"},
		}
	}))
	short := component.Short(id)
	c := find(t, e, id)
	for _, path := range []string{"/plain/f", "/logs/f"} {
		if code, out, err := e.Exec(t.Context(), id, []string{"/app", "check", "http://127.0.0.1:8080/"}); err != nil || code != 0 {
			t.Fatalf("Exec = %d, %q, %v", code, out, err)
		}
		put(t, c, path, "hello")
	}
	for _, path := range []string{dir + "/plain/f", dir + "/logs/" + short + "/web/f"} {
		if b, err := os.ReadFile(path); err != nil || string(b) != "hello" {
			t.Errorf("%s = %q, %v; want what the container wrote", path, b, err)
		}
	}
	if _, err := os.Stat(dir + "/{other}/x-" + short); err != nil {
		t.Errorf("braces that are no placeholder: %v", err)
	}

	// A container that is started again by hand finds the same directory.
	if err := e.Stop(t.Context(), id, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := dockertest.Engine(t).ContainerStart(t.Context(), id, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, find(t, e, id), "/file?path=/logs/f"); got != "hello" {
		t.Errorf("after a start by hand /logs/f = %q, want hello", got)
	}

	// Another container mounts its volumes.
	other := start(t, e, appRequest(t, func(s *component.Spec) { s.Name, s.VolumesFrom = "reader", []string{c.Name} }))
	if got := get(t, find(t, e, other), "/file?path=/logs/f"); got != "hello" {
		t.Errorf("by volumesFrom /logs/f = %q, want hello", got)
	}

	links, _ := filepath.Glob(dir + "/*/" + linkPrefix + "*")
	if len(links) != 2 {
		t.Errorf("links = %v, want two", links)
	}
	for _, id := range []string{other, id} {
		if err := e.Kill(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := e.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := filepath.Glob(dir + "/*/" + linkPrefix + "*"); len(left) != 0 {
		t.Errorf("links left after Remove: %v", left)
	}
	if b, err := os.ReadFile(dir + "/logs/" + short + "/web/f"); err != nil || string(b) != "hello" {
		t.Errorf("after Remove the file is %q, %v; want it kept", b, err)
	}
}

func TestBindingWithPlaceholderNeedsALocalEngine(t *testing.T) {
	e := newEngine(t, "p", map[string]string{"DOCKER_HOST": "tcp://192.0.2.1:2375"})
	_, err := e.plan(component.StartRequest{Component: "c", Release: component.Release{Spec: component.Spec{
		Bindings: []component.Binding{{External: "/x/{container_id}", Volume: "/x"}},
	}}}, "sha256:1")
	if err == nil || !strings.Contains(err.Error(), "needs Docker Engine on this machine") {
		t.Errorf("plan = %v, want a refusal", err)
	}
}

func TestNetworks(t *testing.T) {
	e := realEngine(t)
	cli := dockertest.Engine(t)
	var names []string
	for range 2 {
		name := e.project + "-" + string(rune('a'+len(names)))
		if _, err := cli.NetworkCreate(t.Context(), name, network.CreateOptions{Driver: "bridge"}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := cli.NetworkRemove(context.WithoutCancel(t.Context()), name); err != nil {
				t.Error(err)
			}
		})
		names = append(names, name)
	}
	id := start(t, e, appRequest(t, func(s *component.Spec) { s.Networks = names }))
	host := start(t, e, appRequest(t, func(s *component.Spec) {
		s.Name, s.Networks = "onhost", []string{"host"}
		s.EnvironmentVariables = []component.EnvVar{{Name: "PORT", Value: "0"}, {Name: "TCP_PORT", Value: "0"}}
	}))
	got := find(t, e, id)
	c, err := e.inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.NetworkSettings.Networks) != 2 || got.Addr != c.NetworkSettings.Networks[names[0]].IPAddress {
		t.Errorf("address = %q, want that on %s of %v", got.Addr, names[0], c.NetworkSettings.Networks)
	}
	get(t, got, "/")
	gw, err := e.Gateway(t.Context(), names[0])
	if err != nil || gw != c.NetworkSettings.Networks[names[0]].Gateway {
		t.Errorf("Gateway(%q) = %q, %v; want what the container has, %q", names[0], gw, err, c.NetworkSettings.Networks[names[0]].Gateway)
	}
	if got := find(t, e, host); got.Addr != "127.0.0.1" {
		t.Errorf("address on the host network = %q, want 127.0.0.1", got.Addr)
	}
	if gw, err := e.Gateway(t.Context(), "host"); err != nil || gw != "127.0.0.1" {
		t.Errorf("Gateway(host) = %q, %v; want 127.0.0.1", gw, err)
	}
	if gw, err := e.Gateway(t.Context(), ""); err != nil || !strings.HasPrefix(gw, "172.") && gw == "" {
		t.Errorf("Gateway of the default network = %q, %v", gw, err)
	}
	if gw, err := e.Gateway(t.Context(), "none"); err == nil {
		t.Errorf("Gateway(none) = %q, want an error", gw)
	}
	for _, id := range []string{id, host} {
		if err := e.Kill(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := e.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}
