package cli

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// asBinary in the environment makes the test binary the command of that name.
const asBinary = "GANTRYD_TEST_AS"

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	commands := map[string]func(context.Context, []string, Env) int{"gantry": Gantry, "gantryd": Gantryd}
	if run := commands[os.Getenv(asBinary)]; run != nil {
		os.Exit(run(context.Background(), os.Args[1:], Env{
			In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Self: []string{os.Args[0]},
		}))
	}
	os.Exit(m.Run())
}

// An outcome is how a command ended.
type outcome struct {
	code     int
	out, err string
}

// inProcess runs a command of gantryd in this process. env are NAME=value.
func inProcess(t *testing.T, run func(context.Context, []string, Env) int, stdin string, env []string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errOut bytes.Buffer
	code := run(ctx, args, Env{
		In: strings.NewReader(stdin), Out: &out, Err: &errOut, Self: []string{"false"},
		Getenv: func(name string) string {
			for _, e := range env {
				if n, v, _ := strings.Cut(e, "="); n == name {
					return v
				}
			}
			return ""
		},
	})
	return outcome{code, out.String(), errOut.String()}
}

// command is the command as a process of its own.
func command(t *testing.T, binary string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(append(os.Environ(), asBinary+"="+binary), env...)
	return cmd
}

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

// within waits until f says yes.
func within(t *testing.T, d time.Duration, what string, f func() bool) {
	t.Helper()
	end := time.After(d)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}
