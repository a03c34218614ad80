package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
)

func setEnv(name, value string) func(*component.Spec) {
	return func(s *component.Spec) {
		s.EnvironmentVariables = append(s.EnvironmentVariables, component.EnvVar{Name: name, Value: value})
	}
}

func TestExitReasons(t *testing.T) {
	tests := []struct {
		name string
		spec func(*component.Spec)
		want string
	}{
		{"its own exit code", func(s *component.Spec) { s.Command = []string{"exit", "3"} }, "exit code 3"},
		{"memory limit", func(s *component.Spec) {
			s.Resources.Memory = "24m"
			setEnv("ALLOC_MB", "200")(s)
		}, "out of memory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := realEngine(t)
			id := start(t, e, appRequest(t, tt.spec))
			exited(t, e, id)
			if got, err := e.ExitReason(t.Context(), id); err != nil || got != tt.want {
				t.Errorf("ExitReason = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	t.Run("killed", func(t *testing.T) {
		e := realEngine(t)
		id := start(t, e, appRequest(t, nil))
		if got, err := e.ExitReason(t.Context(), id); err != nil || got != "still running" {
			t.Errorf("ExitReason = %q, %v; want still running", got, err)
		}
		if err := e.Kill(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := e.Kill(t.Context(), id); err != nil {
			t.Errorf("Kill again: %v", err)
		}
		exited(t, e, id)
		if got, err := e.ExitReason(t.Context(), id); err != nil || got != "exit code 137 (SIGKILL)" {
			t.Errorf("ExitReason = %q, %v; want exit code 137 (SIGKILL)", got, err)
		}
	})
}

func TestExitReasonOfStates(t *testing.T) {
	tests := []struct {
		name  string
		state container.State
		want  string
	}{
		{"created", container.State{Status: "created"}, "never started"},
		{"could not start", container.State{Status: "created", ExitCode: 127, Error: "no such\nfile"}, `exit code 127: no such\x0afile`},
		{"a child ran out of memory", container.State{Status: "exited", ExitCode: 1, OOMKilled: true}, "exit code 1, after a process ran out of memory"},
		{"crash", container.State{Status: "exited", ExitCode: 139}, "exit code 139 (SIGSEGV)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := exitReason(&tt.state); got != tt.want {
				t.Errorf("exitReason(%+v) = %q, want %q", tt.state, got, tt.want)
			}
		})
	}
}

func TestStopWaitsAndThenKills(t *testing.T) {
	e := realEngine(t)
	id := start(t, e, appRequest(t, setEnv("IGNORE_TERM", "1")))
	get(t, find(t, e, id), "/ready")
	began := time.Now()
	if err := e.Stop(t.Context(), id, 900*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("Stop took %s, want the grace time", took)
	}
	if got, err := e.ExitReason(t.Context(), id); err != nil || got != "exit code 137 (SIGKILL)" {
		t.Errorf("ExitReason = %q, %v; want a kill", got, err)
	}
}

func TestPausedContainer(t *testing.T) {
	e := realEngine(t)
	cli := dockertest.Engine(t)
	for _, tt := range []struct {
		name string
		end  func(id string) error
	}{
		{"stop", func(id string) error { return e.Stop(t.Context(), id, time.Second) }},
		{"kill", func(id string) error { return e.Kill(t.Context(), id) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := start(t, e, appRequest(t, nil))
			if err := cli.ContainerPause(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if c := find(t, e, id); c.State != component.RunRunning || c.Addr == "" {
				t.Errorf("paused container is %s at %q, want running with an address", c.State, c.Addr)
			}
			if err := tt.end(id); err != nil {
				t.Fatal(err)
			}
			exited(t, e, id)
		})
	}
}

func TestRemoveRefuses(t *testing.T) {
	e := realEngine(t)
	id := start(t, e, appRequest(t, nil))
	if err := e.Remove(t.Context(), id); err == nil || !strings.Contains(err.Error(), "running container") {
		t.Errorf("Remove of a running container = %v, want the Engine's refusal", err)
	}
	if err := e.Kill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	foreign := newEngine(t, "somebody-else", nil)
	if err := foreign.Remove(t.Context(), id); err == nil || !strings.Contains(err.Error(), "not one of project") {
		t.Errorf("Remove of a foreign container = %v, want a refusal", err)
	}
}

func TestLogs(t *testing.T) {
	e := realEngine(t)
	id := start(t, e, appRequest(t, func(s *component.Spec) {
		setEnv("PRINT", "first\nred \x1b[31m\a text\n"+strings.Repeat("x", 5000))(s)
		setEnv("CRASH_AFTER", "0s")(s)
	}))
	exited(t, e, id)
	got, err := e.Logs(t.Context(), id, 50)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"first", `red \x1b[31m\x07 text`, strings.Repeat("x", maxLine) + "…",
		"version v1 starting, 0 bytes hoarded", "crashing with 1",
	}
	// The program writes to two streams; the Engine reads them one apart from the other, so only the
	// order within each is sure.
	errLines, outLines := got[:0:0], got[:0:0]
	for _, l := range got {
		if slices.Contains(want[:3], l) {
			errLines = append(errLines, l)
		} else {
			outLines = append(outLines, l)
		}
	}
	if !slices.Equal(errLines, want[:3]) || !slices.Equal(outLines, want[3:]) {
		t.Errorf("Logs = %q, want %q", got, want)
	}
	if got, err := e.Logs(t.Context(), id, 2); err != nil || len(got) != 2 {
		t.Errorf("Logs of 2 lines = %q, %v", got, err)
	}
	if got, err := e.Logs(t.Context(), id, 0); err != nil || got != nil {
		t.Errorf("Logs of 0 lines = %q, %v", got, err)
	}
}

func TestExec(t *testing.T) {
	e := realEngine(t)
	id := start(t, e, appRequest(t, nil))
	tests := []struct {
		name string
		argv []string
		code int
		out  string
	}{
		{"output and argv", []string{"/app", "print", "a b", "c"}, 0, `["a b","c"]`},
		{"exit code", []string{"/app", "exit", "3"}, 3, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, err := e.Exec(t.Context(), id, tt.argv)
			if err != nil || code != tt.code || out != tt.out {
				t.Errorf("Exec(%q) = %d, %q, %v; want %d, %q", tt.argv, code, out, err, tt.code, tt.out)
			}
		})
	}
	t.Run("no such program", func(t *testing.T) {
		code, out, err := e.Exec(t.Context(), id, []string{"/nope"})
		if err == nil && (code == 0 || !strings.Contains(out, "/nope")) {
			t.Errorf("Exec = %d, %q, %v; want a failure that names the program", code, out, err)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, _, err := e.Exec(ctx, id, []string{"/app", "serve"}) // the ports are taken, unless given others
		if took := time.Since(began); took > 50*time.Second {   // the command never ends
			t.Errorf("Exec took %s, %v", took, err)
		}
	})
	t.Run("hanging command", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, _, err := e.Exec(ctx, id, []string{"/app", "check", "http://127.0.0.1:8080/slow?seconds=60"})
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 50*time.Second {
			t.Errorf("Exec took %s and ended with %v, want the context's deadline", took, err)
		}
	})
	if err := e.Kill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Exec(t.Context(), id, []string{"/app"}); err == nil {
		t.Error("Exec in a dead container worked")
	}
}

func TestDockerHealth(t *testing.T) {
	e := realEngine(t)
	ref, imageID := dockertest.Image(t, dockertest.Variant{
		Version: "health", Healthcheck: []string{"CMD", "/app", "check", "http://127.0.0.1:8080/healthz"},
	})
	r := appRequest(t, nil)
	r.Release.ImageID, r.Release.Image.Ref = imageID, ref
	names := run(t, e)
	id := start(t, e, r)
	await := func(want, output string) {
		t.Helper()
		eventually(t, soon, func() string {
			status, out, err := e.DockerHealth(t.Context(), id)
			if err != nil || status != want || !strings.Contains(out, output) {
				return fmt.Sprintf("health is %q, %q, %v; want %q, %q", status, out, err, want, output)
			}
			return ""
		})
	}
	await(HealthHealthy, "200 OK")
	drain(names)
	tell(t, find(t, e, id), http.MethodPost, "/unhealthy", "")
	await(HealthUnhealthy, "503")
	expect(t, names, "web", soon) // the change is an event

	plain := start(t, e, appRequest(t, nil))
	if status, _, err := e.DockerHealth(t.Context(), plain); err != nil || status != HealthNone {
		t.Errorf("DockerHealth = %q, %v; want none", status, err)
	}
}

func TestAdoption(t *testing.T) {
	e := realEngine(t)
	r := appRequest(t, nil)
	id := start(t, e, r)

	again := newEngine(t, e.project, nil)
	if got := find(t, again, id); got.Release.Hash() != r.Hash || got.Hash != r.Hash || got.Component != "web" {
		t.Errorf("adopted container = %+v, want the release it was started with", got)
	}
	elsewhere, err := New(Options{Project: e.project, Host: "h2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { elsewhere.Close() })
	if list, err := elsewhere.Containers(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("another host sees %v, %v; want nothing", list, err)
	}
	other := newEngine(t, "other-project", nil)
	if list, err := other.Containers(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("another project sees %v, %v; want nothing", list, err)
	}

	// Neither a container without labels nor one with labels that make no sense counts.
	cli := dockertest.Engine(t)
	for _, labels := range []map[string]string{nil, {LabelProject: e.project, LabelHost: testHost, LabelComponent: "web", LabelRelease: "{"}} {
		c, err := cli.ContainerCreate(t.Context(), &container.Config{Image: r.Release.ImageID, Labels: labels}, nil, nil, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			err := cli.ContainerRemove(context.WithoutCancel(t.Context()), c.ID, container.RemoveOptions{Force: true})
			if err != nil {
				t.Error(err)
			}
		})
	}
	if list, err := again.Containers(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("Containers = %v, %v; want the one of ours", list, err)
	}
}

func TestReservedLabels(t *testing.T) {
	e := newEngine(t, "p", nil)
	_, err := e.labels(component.StartRequest{Release: component.Release{Spec: component.Spec{
		Labels: map[string]string{LabelPrefix + "project": "theirs"},
	}}}, nil, time.Now())
	if err == nil {
		t.Error("a label with our prefix was taken")
	}
}

func TestLabelsRoundTrip(t *testing.T) {
	e := newEngine(t, "p", nil)
	r := component.StartRequest{Component: "web", Hash: "abc", Release: component.Release{
		Generation: 812, ImageID: "sha256:1", Spec: component.Spec{Name: "web", Tag: "<&>"},
	}}
	now := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	labels, err := e.labels(r, []string{"/x/.gantryd-y"}, now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fromLabels(labels)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got.Release)
	b, _ := json.Marshal(r.Release)
	if string(a) != string(b) || !got.Created.Equal(now) || got.Hash != "abc" || !slices.Equal(links(labels), []string{"/x/.gantryd-y"}) {
		t.Errorf("labels = %v became %+v", labels, got)
	}
	labels[LabelGeneration] = "811"
	if _, err := fromLabels(labels); err == nil {
		t.Error("two generations in one container were taken")
	}
}
