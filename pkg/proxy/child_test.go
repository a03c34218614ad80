package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary be a proxy of its own, so that what it uses can be measured:
// kind, target, the most connections and the most descriptors.
const childEnv = "GANTRYD_TEST_PROXY"

// child runs a proxy until stdin ends. It says where it listens, and then how much CPU it used.
func child() int {
	var (
		l           = tcp("A", "")
		o           = Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
		descriptors uint64
	)
	l.HoldTimeout = time.Minute
	if _, err := fmt.Sscan(os.Getenv(childEnv), &l.Kind, &l.Target, &o.MaxConns, &descriptors); err != nil {
		return 1
	}
	limit := syscall.Rlimit{Cur: descriptors, Max: descriptors}
	if descriptors > 0 && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1
	}
	p := New(context.Background(), o)
	if err := p.Apply("test", []Listener{l}); err != nil {
		return 1
	}
	_, _ = fmt.Fprintln(os.Stdout, p.Addr("a:1")[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	_ = p.Close()
	_, _ = fmt.Fprintln(os.Stdout, time.Duration(used.Utime.Nano()+used.Stime.Nano()))
	return 0
}

// A proc is a proxy in a process of its own.
type proc struct {
	addr   string
	pid    int
	stop   func() (cpu time.Duration)
	logged *lockedBuffer // complete after stop
}

func startChild(t testing.TB, kind, target string, maxConns, descriptors int) proc {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d", childEnv, kind, target, maxConns, descriptors))
	logged := &lockedBuffer{}
	cmd.Stderr = logged
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := proc{pid: cmd.Process.Pid, logged: logged}
	var stopped bool
	c.stop = func() time.Duration {
		if stopped {
			return 0
		}
		stopped = true
		defer cancel()
		_ = stdin.Close()
		var used string
		_, _ = fmt.Fscanln(stdout, &used)
		if err := cmd.Wait(); err != nil {
			t.Errorf("proxy: %v\n%s", err, logged)
		}
		cpu, err := time.ParseDuration(used)
		if err != nil {
			t.Error(err)
		}
		return cpu
	}
	t.Cleanup(func() { c.stop() })
	if _, err := fmt.Fscanln(stdout, &c.addr); err != nil {
		t.Fatal(err)
	}
	return c
}

// rss is the memory the proxy has, in bytes.
func (c proc) rss(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		t.Skip("cannot measure memory:", err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	var kb int
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

func (c proc) descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.pid))
	if err != nil {
		t.Skip("cannot count descriptors:", err)
	}
	return len(entries)
}
