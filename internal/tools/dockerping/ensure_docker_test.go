package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machine is a PATH of commands that only write down that they were called, and of the few real
// ones that scripts/ensure-docker needs. The engine "answers" once the file up exists; who waits for it
// waits until then, or until the file dead says that it never will.
type machine struct {
	dir string // up, dead and calls are here
	bin string
}

const (
	record = "echo \"${0##*/} $*\" >>\"$MACHINE/calls\"\n"
	start  = record + "touch \"$MACHINE/up\"\n"
	fail   = record + "echo \"${0##*/} is broken\" >&2\nexit 1\n"
	die    = record + "echo \"${0##*/} is broken\" >&2\ntouch \"$MACHINE/dead\"\nexit 1\n"
	ping   = `case " $* " in
*" -wait 60s "*) until [ -e "$MACHINE/up" ] || [ -e "$MACHINE/dead" ]; do sleep 0.02; done ;;
esac
if [ ! -e "$MACHINE/up" ]; then
	echo 'dockerping: nobody listens' >&2
	echo 'exit status 1' >&2
	exit 1
fi
`
)

// newMachine has go, where dockerping finds the engine or not, and the named commands.
func newMachine(t *testing.T, uid string, commands map[string]string) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{dir: dir, bin: filepath.Join(dir, "bin")}
	if err := os.Mkdir(m.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "dirname", "sed", "tail", "touch", "sleep", "setsid", "cp"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("this machine has no %s", name)
		}
		if err := os.Symlink(path, filepath.Join(m.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	m.command(t, m.bin, "go", ping)
	m.command(t, m.bin, "id", "echo "+uid+"\n")
	for name, body := range commands {
		m.command(t, m.bin, name, body)
	}
	// what apt-get installs
	m.command(t, dir, "dockerd", start)
	return m
}

func (m *machine) command(t *testing.T, dir, name, body string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
}

// ensure runs the script and returns what it said, what it called and whether it succeeded.
func (m *machine) ensure(t *testing.T, env ...string) (said, calls string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join("..", "..", "..", "scripts", "ensure-docker"))
	cmd.Env = append([]string{"PATH=" + m.bin, "MACHINE=" + m.dir, "DOCKERD_LOG=" + filepath.Join(m.dir, "log")}, env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	made, readErr := os.ReadFile(filepath.Join(m.dir, "calls"))
	if readErr != nil && !os.IsNotExist(readErr) {
		t.Fatal(readErr)
	}
	return out.String(), string(made), err == nil
}

func TestEnsureDocker(t *testing.T) {
	const install = record + `if [ "$1" = install ]; then cp "$MACHINE/dockerd" "$MACHINE/bin/dockerd"; fi` + "\n"
	tests := []struct {
		name     string
		up       bool
		uid      string
		env      []string
		commands map[string]string
		ok       bool
		said     []string // each is contained; none means silence
		calls    string
	}{
		{
			name: "an engine that answers is left alone",
			up:   true, uid: "0", ok: true,
			commands: map[string]string{"apt-get": install, "service": start, "dockerd": start},
		},
		{
			name: "root on Debian installs it and starts the service",
			uid:  "0", ok: true,
			commands: map[string]string{"apt-get": install, "service": start},
			said:     []string{"installing docker.io", "starting the docker service"},
			calls:    "apt-get update\napt-get install -y docker.io\nservice docker start\n",
		},
		{
			name: "an installation that starts it is enough",
			uid:  "0", ok: true,
			commands: map[string]string{"apt-get": install + `if [ "$1" = install ]; then touch "$MACHINE/up"; fi` + "\n"},
			said:     []string{"installing docker.io"},
			calls:    "apt-get update\napt-get install -y docker.io\n",
		},
		{
			name: "without an init, dockerd runs in the background",
			uid:  "0", ok: true,
			commands: map[string]string{"apt-get": install},
			said:     []string{"installing docker.io", "starting dockerd in the background", "log"},
			calls:    "apt-get update\napt-get install -y docker.io\ndockerd \n",
		},
		{
			name: "a service that cannot start falls back to dockerd",
			uid:  "0", ok: true,
			commands: map[string]string{"service": fail, "dockerd": start},
			said:     []string{"service is broken", "starting dockerd in the background"},
			calls:    "service docker start\ndockerd \n",
		},
		{
			name: "an engine that is installed is not installed again",
			uid:  "0", ok: true,
			commands: map[string]string{"apt-get": fail, "service": start, "dockerd": start},
			said:     []string{"starting the docker service"},
			calls:    "service docker start\n",
		},
		{
			name:     "dockerd that dies shows its last words",
			uid:      "0",
			commands: map[string]string{"dockerd": die},
			said:     []string{"dockerd is broken", "dockerd does not answer; its log is"},
			calls:    "dockerd \n",
		},
		{
			name:     "apt-get without a network",
			uid:      "0",
			commands: map[string]string{"apt-get": fail},
			said:     []string{"apt-get update failed; install Docker Engine and try again."},
			calls:    "apt-get update\n",
		},
		{
			name: "root elsewhere is told to install one",
			uid:  "0",
			said: []string{"not Debian or Ubuntu; install one and try again."},
		},
		{
			name:     "who is not root is told what to do",
			uid:      "1000",
			commands: map[string]string{"apt-get": install, "service": start, "dockerd": start},
			said:     []string{"no Docker Engine answers here (nobody listens); start Docker, or join the group"},
		},
		{
			name:     "an engine elsewhere is not replaced by one here",
			uid:      "0",
			env:      []string{"DOCKER_HOST=tcp://192.0.2.1:2375"},
			commands: map[string]string{"apt-get": install, "service": start, "dockerd": start},
			said:     []string{"DOCKER_HOST=tcp://192.0.2.1:2375 (nobody listens); start it, or unset DOCKER_HOST"},
		},
		{
			name: "without Go it says that and nothing of Docker",
			uid:  "0",
			env:  []string{"GO=go1.99"},
			said: []string{"Go is not installed; install it and try again."},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, tt.uid, tt.commands)
			if tt.up {
				m.command(t, m.dir, "up", "")
			}
			said, calls, ok := m.ensure(t, tt.env...)
			if ok != tt.ok {
				t.Errorf("succeeded = %v, want %v; it said:\n%s", ok, tt.ok, said)
			}
			for _, want := range tt.said {
				if !strings.Contains(said, want) {
					t.Errorf("it said:\n%swant %q in it", said, want)
				}
			}
			if len(tt.said) == 0 && said != "" {
				t.Errorf("it said:\n%swant silence", said)
			}
			if diff := cmp.Diff(calls, tt.calls); diff != "" {
				t.Errorf("commands called (-got +want):\n%s", diff)
			}
		})
	}
}
