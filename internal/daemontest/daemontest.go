package daemontest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Longest waits of the helpers.
const (
	buildWithin = 15 * time.Minute // all of Go and etcd, when the cache is cold
	readyWithin = 2 * time.Minute
	stopWithin  = time.Minute
)

// Host is the name of the host that a daemon is started as.
const Host = "h1"

// Options say how a daemon is started.
type Options struct {
	Project  string
	Endpoint string   // host:port of etcd; empty: the daemon starts its own
	DataDir  string   // a new one when empty
	Env      []string // NAME=value, on top of this process's own
	// Alone gives the daemon a network of its own, with nothing but a loopback interface, so that
	// no port of the machine is in its way. It needs root.
	Alone bool
	// Inside begins the command line, such as nsenter and its flags.
	Inside []string
}

// A Daemon is a running gantryd.
type Daemon struct {
	Began   time.Time // just before its process was started
	DataDir string
	cmd     *exec.Cmd
	out     *output
	exited  chan struct{} // closed when the process has ended
	once    sync.Once
}

// Build builds gantryd as it ships and returns its path. It is quick when Go's cache has it.
func Build(tb testing.TB) string {
	tb.Helper()
	bin := filepath.Join(tb.TempDir(), "gantryd")
	ctx, cancel := context.WithTimeout(tb.Context(), buildWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", bin,
		"github.com/gantryd/gantryd/cmd/gantryd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build gantryd: %v\n%s", err, out)
	}
	return bin
}

// Start starts the daemon bin; the end of the test stops it.
func Start(tb testing.TB, bin string, o Options) *Daemon {
	tb.Helper()
	if o.DataDir == "" {
		o.DataDir = tb.TempDir()
	}
	args := []string{bin, "run", o.Project, "--host", Host, "--bind", "127.0.0.1", "--data-dir", o.DataDir}
	if o.Endpoint != "" {
		args = append(args, "--endpoints", o.Endpoint)
	}
	if o.Alone {
		args = append([]string{"unshare", "--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}, args...)
	}
	args = slices.Concat(o.Inside, args)
	d := &Daemon{DataDir: o.DataDir, out: &output{}, exited: make(chan struct{})}
	d.cmd = exec.Command(args[0], args[1:]...)
	d.cmd.Env = append(os.Environ(), o.Env...)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	d.Began = time.Now()
	if err := d.cmd.Start(); err != nil {
		tb.Fatalf("start gantryd: %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(d.exited)
		_ = d.cmd.Wait() // the log tells more than the exit code
	})
	tb.Cleanup(func() {
		d.Stop(tb)
		wg.Wait()
		if tb.Failed() {
			tb.Logf("the daemon's words:\n%s", d.out.tail())
		}
	})
	return d
}

// PID is the process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Ready waits until the daemon serves all that it remembers, and returns how long that took since
// its process was started.
func (d *Daemon) Ready(tb testing.TB) time.Duration {
	tb.Helper()
	Await(tb, readyWithin, "the daemon to be ready", func() bool {
		select {
		case <-d.exited:
			tb.Fatalf("gantryd ended:\n%s", d.out.tail())
		default:
		}
		return strings.Contains(d.out.tail(), "Gantryd running")
	})
	return time.Since(d.Began)
}

// Stop ends the daemon as a service manager does; containers stay.
func (d *Daemon) Stop(tb testing.TB) {
	d.once.Do(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
		select {
		case <-d.exited:
		case <-time.After(stopWithin):
			tb.Errorf("gantryd did not stop within %v", stopWithin)
			_ = d.cmd.Process.Kill()
			<-d.exited
		}
	})
}

// Await looks every millisecond until ok says yes.
func Await(tb testing.TB, within time.Duration, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-tb.Context().Done():
			tb.Fatalf("wait for %s: the test ended", what)
		case <-deadline:
			tb.Fatalf("wait for %s: not within %v", what, within)
		}
	}
}

// output keeps the end of what the daemon wrote.
type output struct {
	mu  sync.Mutex
	all []byte
}

const keepOutput = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, p...)
	if over := len(o.all) - keepOutput; over > 0 {
		o.all = o.all[over:]
	}
	return len(p), nil
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.all)
}
