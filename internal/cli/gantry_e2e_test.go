package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/agent"
	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
)

// A machine is a state directory with a config file of one component, web, and what runs of it.
type machine struct {
	t         *testing.T
	dir, file string
	port      int
	v1, v2    string // tags
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), port: porttest.Free(t, 1)[0]}
	dockertest.RemoveLater(t, agentProject(m.dir))
	ref, _ := dockertest.App(t, "v1")
	_, m.v1, _ = strings.Cut(ref, ":")
	ref, _ = dockertest.App(t, "v2")
	_, m.v2, _ = strings.Cut(ref, ":")
	m.file = filepath.Join(t.TempDir(), "gantryd.json")
	m.write("")
	t.Cleanup(m.endAgent)
	return m
}

// write makes the config file; more are further fields of the component.
func (m *machine) write(more string) {
	m.t.Helper()
	text := fmt.Sprintf(`{"components": [{"name": "web", "repo": %q, "tag": %q, "ports": [{"external": %d, "container": 8080}],
		"readyChecks": [{"kind": "http", "port": 8080, "path": "/ready"}]%s}]}`, dockertest.Repo, m.v1, m.port, more)
	if err := os.WriteFile(m.file, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) command(args ...string) *exec.Cmd {
	m.t.Helper()
	return command(m.t, "gantry", []string{"GANTRY_STATE_DIR=" + m.dir, "GANTRY_BIND=127.0.0.1", "USER=test"}, args...)
}

// gantry runs a command on the component web to its end.
func (m *machine) gantry(action string, more ...string) outcome {
	m.t.Helper()
	return m.run(append([]string{m.file, action, "web"}, more...)...)
}

func (m *machine) run(args ...string) outcome {
	m.t.Helper()
	cmd := m.command(args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// must runs a command that has to succeed.
func (m *machine) must(action string, more ...string) string {
	m.t.Helper()
	o := m.gantry(action, more...)
	if o.code != exitOK {
		m.t.Fatalf("gantry %s: exit code %d\n%s%s", action, o.code, o.out, o.err)
	}
	return o.out
}

func (m *machine) client() *agent.Client {
	m.t.Helper()
	socket, err := agent.Socket(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	return agent.NewClient(socket)
}

// agentPID is the process ID of the agent, 0 when none answers.
func (m *machine) agentPID() int {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.t.Context()), 5*time.Second)
	defer cancel()
	info, err := m.client().Ping(ctx)
	if err != nil {
		return 0
	}
	return info.PID
}

func (m *machine) endAgent() {
	pid := m.agentPID()
	if pid == 0 {
		return
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		m.t.Error(err)
	}
	within(m.t, time.Minute, "the agent ends", func() bool { return syscall.Kill(pid, 0) != nil || zombie(pid) })
	if m.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(m.dir, "agent.log"))
		m.t.Logf("log of the agent:\n%s", log)
	}
}

// zombie reports whether the process is over and only its parent does not know yet.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}

func (m *machine) status() component.HostStatus {
	m.t.Helper()
	var st component.HostStatus
	out := m.must("list", "-o", "json")
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		m.t.Fatal(err)
	}
	return st
}

// get asks the component through its proxy.
func (m *machine) get(path string) (string, error) {
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d%s", m.port, path))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// serves asserts the version that answers.
func (m *machine) serves(version string) {
	m.t.Helper()
	got, err := m.get("/")
	if err != nil || !strings.HasPrefix(got, version+" ") {
		m.t.Errorf("GET / = %q, %v; want version %s", got, err, version)
	}
}

// hold opens a connection that stays open until the returned function is called.
func (m *machine) hold() (release func()) {
	m.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /stream?seconds=500 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		m.t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 64)); err != nil {
		m.t.Fatal(err)
	}
	release = sync.OnceFunc(func() { _ = c.Close() })
	m.t.Cleanup(release)
	return release
}

// story is a transcript without what differs from run to run, such as how often a container is asked until it is
// ready.
func story(out string) []string {
	out = regexp.MustCompile(`(?m)^Sleeping \d+ second\(s\)\.\.\.\nRunning health check: .*\nChecking HTTP address .*\n`).ReplaceAllString(out, "")
	out = regexp.MustCompile(`\b[0-9a-f]{12}\b`).ReplaceAllString(out, "<12>")
	out = regexp.MustCompile(`http://[0-9.]+:`).ReplaceAllString(out, "http://<ip>:")
	var lines []string
	for l := range strings.Lines(out) {
		l = strings.TrimSuffix(l, "\n")
		early := strings.HasPrefix(l, "Health check failed: ") // the container was not up yet
		late := strings.HasPrefix(l, "Container removed: ")    // after the end, as a rule
		if !early && !late {
			lines = append(lines, l)
		}
	}
	return lines
}

func same(t *testing.T, what, out string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, story(out)); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestGantryTranscripts(t *testing.T) {
	m := newMachine(t)
	same(t, "start", m.must("start"),
		"Component web is not running; starting", "Starting container <12>", "Waiting for health checks...",
		"Running health check: http", "Checking HTTP address in container <12>: http://<ip>:8080/ready",
		"Redirecting traffic to new container", "Checking container statuses...", "Updating proxy...",
		"Update completed for component web")
	m.serves("v1")

	again := m.gantry("start")
	if again.code != exitRefused || !strings.Contains(again.err, "Component web is already running") {
		t.Errorf("second start = %+v", again)
	}

	release := m.hold()
	out := m.must("update", "--setconfig", "tag="+m.v2)
	same(t, "update", strings.Split(out, "Waiting for 1 termination checks")[0],
		"Detected pushed update for component web", "Starting container <12>", "Waiting for health checks...",
		"Running health check: http", "Checking HTTP address in container <12>: http://<ip>:8080/ready",
		"Redirecting traffic to new container", "Checking container statuses...", "Updating proxy...",
		"Update completed for component web", "Draining container <12>", "Starting monitoring...", "Monitor check started")
	m.serves("v2")

	lines := strings.Split(strings.TrimSpace(m.must("list")), "\n")
	if len(lines) != 3 {
		t.Fatalf("list = %q, want a header and two rows", lines)
	}
	if want := fmt.Sprintf("%-20s %-20s %-20s %-20s", "CONTAINER ID", "UPTIME", "IMAGE ID", "STATUS"); lines[0] != strings.TrimRight(want, " ") && lines[0] != want {
		t.Errorf("header = %q, want %q", lines[0], want)
	}
	for i, want := range []string{`^[0-9a-f]{12}         Up .* ` + dockertest.Repo + ":" + m.v2 + ` +running`, `^[0-9a-f]{12}         Up .* ` + dockertest.Repo + ":" + m.v1 + ` +draining`} {
		if !regexp.MustCompile(want).MatchString(lines[i+1]) {
			t.Errorf("row = %q, want %s", lines[i+1], want)
		}
	}
	release()
	within(t, 30*time.Second, "the old container is gone", func() bool { return len(m.status().Containers) == 1 })

	same(t, "stop", m.must("stop"),
		"Component web is marked as stopped", "Draining all containers...", "Checking container statuses...",
		"Updating proxy...", "Starting monitoring...", "Monitor check started", "Waiting for 1 termination checks",
		"Running termination check: connection", "Container has no remaining connections: <12>", "Monitor check finished",
		"Shutting down container: <12>", "Proxy updated")
	if _, err := m.get("/"); err == nil {
		t.Error("the port answers after a stop")
	}

	m.must("start")
	same(t, "kill", m.must("kill"),
		"Component web is marked as killed", "Draining all containers...", "Killing container <12>",
		"Checking container statuses...", "Shutting down proxy...")
	for _, action := range []string{"stop", "kill", "list"} {
		o := m.gantry(action)
		if o.code != exitRefused || !strings.Contains(o.err, "Component web is not running") {
			t.Errorf("%s of what does not run = %+v", action, o)
		}
	}
	if o := m.run(m.file, "start", "nobody"); o.code != exitNotFound || o.err != "gantry: Unknown component: nobody\n" {
		t.Errorf("unknown component = %+v", o)
	}
	if fi, err := os.Stat(filepath.Join(m.dir, "agent.sock")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket = %v, %v; want mode 0600", fi, err)
	}
}

func TestGantryFailedUpdateKeepsTheOldOne(t *testing.T) {
	m := newMachine(t)
	m.must("start")
	bad := []string{"--setconfig", "tag=" + m.v2, "--setconfig", "environmentVariables.NEVER_READY=1", "--setconfig", "readyTimeout=8000"}
	o := m.gantry("update", bad...)
	if o.code != exitFailed {
		t.Errorf("exit code = %d, want %d", o.code, exitFailed)
	}
	for _, want := range []string{
		"gantry: Could not update component web: not ready after 8s", "503 Service Unavailable",
		"last log lines of the container:\n", "version v2 starting",
	} {
		if !strings.Contains(o.err, want) {
			t.Errorf("stderr lacks %q:\n%s", want, o.err)
		}
	}
	if !strings.Contains(o.out, "Timed out waiting for health checks. Stopping container...") || strings.Contains(o.out, "Could not update") {
		t.Errorf("stdout = %s", o.out)
	}
	m.serves("v1")
	if out := m.must("list"); strings.Contains(out, "starting") {
		t.Errorf("the failed container is still there:\n%s", out)
	}
	m.must("update", "--setconfig", "tag="+m.v2)
	m.serves("v2")
}

func TestGantryFirstStartThatFailsCanBeTriedAgain(t *testing.T) {
	m := newMachine(t)
	if o := m.gantry("start", "--setconfig", "environmentVariables.NEVER_READY=1", "--setconfig", "readyTimeout=500"); o.code != exitFailed {
		t.Fatalf("start = %+v, want a failure", o)
	}
	m.must("start")
	m.serves("v1")
}

func TestGantryReplacesADeadAgent(t *testing.T) {
	m := newMachine(t)
	m.must("start")
	before := m.status()
	pid := m.agentPID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	after := m.status()
	if len(after.Containers) != 1 || after.Containers[0].ID != before.Containers[0].ID {
		t.Errorf("containers = %+v, want %+v", after.Containers, before.Containers)
	}
	if got := m.agentPID(); got == 0 || got == pid {
		t.Errorf("agent has process ID %d, before %d", got, pid)
	}
	m.serves("v1")
}

func TestGantryCommandsAtOnceStartOneAgent(t *testing.T) {
	m := newMachine(t)
	var wg sync.WaitGroup
	outcomes := make([]outcome, 6)
	for i := range outcomes {
		wg.Go(func() { outcomes[i] = m.gantry("list", "-o", "json") })
	}
	wg.Wait()
	for _, o := range outcomes {
		if o.code != exitOK {
			t.Errorf("outcome = %+v", o)
		}
	}
	log, err := os.ReadFile(filepath.Join(m.dir, "agent.log"))
	if err != nil || strings.Count(string(log), "gantry agent running") != 1 {
		t.Errorf("log of the agents, %v:\n%s", err, log)
	}
}

func TestGantryKillEndsAStopThatDrains(t *testing.T) {
	m := newMachine(t)
	m.must("start")
	m.hold()
	stop := m.command(m.file, "stop", "web")
	var errOut bytes.Buffer
	stop.Stderr = &errOut
	if err := stop.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the drain begins", func() bool { return strings.Contains(m.must("list"), "draining") })
	m.must("kill")
	if err := stop.Wait(); stop.ProcessState.ExitCode() != exitRefused || !strings.Contains(errOut.String(), "another command came in between") {
		t.Errorf("stop = %v: %s", err, errOut.String())
	}
}

func TestGantryInterruptedCommandLeavesTheActionToTheAgent(t *testing.T) {
	m := newMachine(t)
	m.must("start")
	update := m.command(m.file, "update", "web", "--setconfig", "tag="+m.v2, "--setconfig", "environmentVariables.READY_AFTER=1s")
	out, err := update.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := update.Start(); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	buf := make([]byte, 1024)
	for !strings.Contains(seen.String(), "Starting container") {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		seen.Write(buf[:n])
	}
	if err := update.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = update.Wait() // killed by the signal
	within(t, 30*time.Second, "the new container serves alone", func() bool {
		st := m.status()
		return len(st.Containers) == 1 && strings.HasSuffix(st.Containers[0].Image, m.v2)
	})
	m.serves("v2")
}

func TestGantryMonitor(t *testing.T) {
	m := newMachine(t)
	m.write(`, "healthChecks": [{"kind": "http", "port": 8080, "path": "/healthz", "interval": "200ms"}], "rollout": {"bake": "100ms"}`)
	cmd := m.command(m.file, "start", "web", "-m")
	var out syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "monitoring begins", func() bool {
		return strings.Contains(out.String(), "Starting monitoring of component: web\n")
	})
	first := m.status().Containers[0].ID
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Post(fmt.Sprintf("http://127.0.0.1:%d/unhealthy", m.port), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	within(t, 30*time.Second, "it is replaced", func() bool {
		st := m.status()
		return strings.Contains(out.String(), "Component web is not healthy. Killing and restarting") &&
			len(st.Containers) > 0 && st.Containers[len(st.Containers)-1].ID != first && st.Containers[len(st.Containers)-1].Primary
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.HasSuffix(out.String(), "Terminating monitoring of component: web\n") {
		t.Errorf("end = %v:\n%s", err, out.String())
	}
	m.serves("v1")
}

// A syncBuffer is a buffer that a process writes to while the test reads.
type syncBuffer struct {
	mu sync.Mutex // guards b
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

func TestGantryWithoutDocker(t *testing.T) {
	dockertest.Engine(t)
	m := newMachine(t)
	cmd := m.command(m.file, "start", "web")
	cmd.Env = append(cmd.Env, "DOCKER_HOST=unix://"+filepath.Join(t.TempDir(), "none.sock"))
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	_ = cmd.Run()
	if cmd.ProcessState.ExitCode() != exitUnreachable || !strings.Contains(errOut.String(), "none.sock") {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), errOut.String())
	}
}
