package control

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryd/gantryd/pkg/localstate"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("CONTROL_TEST_DIR"); dir != "" {
		os.Exit(stranger(dir))
	}
	goleak.VerifyTestMain(m)
}

// serving answers in dir until the test ends.
func serving(t *testing.T, dir string, handlers map[string]Handler) {
	t.Helper()
	l, err := Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	wg.Go(func() {
		if err := Serve(ctx, l, handlers, slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

func echo(_ context.Context, args json.RawMessage) (any, error) { return args, nil }

func TestCall(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), strings.Repeat("long", 40))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		serving(t, dir, map[string]Handler{
			"echo": echo,
			"fail": func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("no reason") },
		})
		var got []int
		if err := Call(t.Context(), dir, Request{Command: "echo", Args: []byte("[1,2]")}, &got); err != nil || len(got) != 2 {
			t.Errorf("echo = %v, %v", got, err)
		}
		var failed *FailedError
		if err := Call(t.Context(), dir, Request{Command: "fail"}, &got); !errors.As(err, &failed) || failed.Reason != "no reason" {
			t.Errorf("fail = %v", err)
		}
		if err := Call(t.Context(), dir, Request{Command: "dance"}, &got); !errors.As(err, &failed) || !strings.Contains(failed.Reason, "older") {
			t.Errorf("unknown command = %v", err)
		}
		if info, err := os.Stat(filepath.Join(dir, Name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v; want mode 0600", info, err)
		}
	}
}

func TestCallOfNobody(t *testing.T) {
	dir := t.TempDir()
	if err := Call(t.Context(), dir, Request{Command: "echo"}, nil); !errors.Is(err, ErrNobody) {
		t.Errorf("no socket: %v", err)
	}
	l, err := Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Call(t.Context(), dir, Request{Command: "echo"}, nil); !errors.Is(err, ErrNobody) {
		t.Errorf("left-over socket: %v", err)
	}
}

// TestCallWaitsForADaemonThatStarts: it has the lock, and opens the socket a little later.
func TestCallWaitsForADaemonThatStarts(t *testing.T) {
	dir := t.TempDir()
	lock, err := localstate.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	left, err := Listen(t.Context(), dir) // of the process before, which is gone
	if err != nil {
		t.Fatal(err)
	}
	left.Close()
	answered := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { answered <- Call(t.Context(), dir, Request{Command: "echo", Args: []byte("1")}, new(int)) })
	select {
	case err := <-answered:
		t.Errorf("Call = %v before there is a socket", err)
	case <-time.After(10 * reachEvery):
		serving(t, dir, map[string]Handler{"echo": echo})
		if err := <-answered; err != nil {
			t.Errorf("Call = %v", err)
		}
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// TestCallDoesNotWaitForADaemonThatEnds before it has opened its socket.
func TestCallDoesNotWaitForADaemonThatEnds(t *testing.T) {
	dir := t.TempDir()
	lock, err := localstate.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { answered <- Call(t.Context(), dir, Request{Command: "echo"}, nil) })
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-answered:
		if !errors.Is(err, ErrNobody) {
			t.Errorf("Call = %v, want ErrNobody", err)
		}
	case <-time.After(reachWithin - 5*time.Second):
		t.Error("Call waits for a daemon that is gone")
	}
}

func TestCallHasADeadline(t *testing.T) {
	dir := t.TempDir()
	release := make(chan struct{})
	serving(t, dir, map[string]Handler{"hang": func(context.Context, json.RawMessage) (any, error) { <-release; return nil, nil }})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Call(ctx, dir, Request{Command: "hang"}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Call = %v", err)
	}
	close(release)
}

// TestCallEndsWhileItAsks: the daemon takes no byte of a request that is longer than what the kernel keeps.
func TestCallEndsWhileItAsks(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	args, err := json.Marshal(strings.Repeat("x", 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	because := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, because)
	defer cancel()
	if err := Call(ctx, dir, Request{Command: "echo", Args: args}, nil); !errors.Is(err, because) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Call = %v, want why it was given up", err)
	}
}

// TestSocketIsNeverMissing replaces the socket again and again, as upgrades do.
func TestSocketIsNeverMissing(t *testing.T) {
	dir := t.TempDir()
	serving(t, dir, map[string]Handler{"echo": echo})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := Dial(t.Context(), "unix", dir, Name)
			if err != nil {
				t.Errorf("Dial = %v", err)
				return
			}
			c.Close()
		}
	})
	for range 50 {
		serving(t, dir, map[string]Handler{"echo": echo})
	}
	close(stop)
	wg.Wait()
}

// stranger commands the daemon of dir and exits with 0 when that was refused.
func stranger(dir string) int {
	err := Call(context.Background(), dir, Request{Command: "echo", Args: []byte("1")}, new(int))
	var failed *FailedError
	if errors.As(err, &failed) && strings.Contains(failed.Reason, "may not command") {
		return 0
	}
	_, _ = os.Stderr.WriteString(err.Error())
	return 1
}

func TestStrangersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it needs root to be somebody else")
	}
	dir, err := os.MkdirTemp("", "control-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	serving(t, dir, map[string]Handler{"echo": echo})
	exe := filepath.Join(dir, "stranger")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, Name), exe} { // as a mistake of the operator's, and whatever the umask
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "CONTROL_TEST_DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("another user: %v\n%s", err, out)
	}
}
