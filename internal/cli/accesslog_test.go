package cli

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAccessLogIsMadeAgainWhenMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	w, err := openAccessLog(Env{}, path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	write := func(s string) {
		t.Helper()
		w.(*logFile).looked = time.Time{} // a second is over
		if _, err := w.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(path, text string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s holds %q, %v, want %q", filepath.Base(path), got, err, text)
		}
	}
	write("one\n")
	write("two\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("three\n")
	want(path+".1", "one\ntwo\n")
	want(path, "three\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("four\n")
	want(path, "four\n")
}

func TestAccessLogGoesOnWhereItCannotBeMadeAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	w, err := openAccessLog(Env{}, filepath.Join(dir, "access.log"), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.(*logFile).looked = time.Time{}
		if _, err := w.Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir+".old", "access.log")); err != nil || string(got) != "x\nx\nx\n" {
		t.Errorf("the old file holds %q, %v", got, err)
	}
	if n := strings.Count(log.String(), "cannot be made again"); n != 1 {
		t.Errorf("said %d times, want once: %s", n, &log)
	}
}

func TestAccessLogRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "no", "access.log"): "no such file", dir: "is a directory", pipe: "no such device",
	} {
		if w, err := openAccessLog(Env{}, path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("open %s = %v, %v, want %q", path, w, err, want)
		}
	}
	if w, err := openAccessLog(Env{}, "", nil); w != nil || err != nil {
		t.Errorf("none asked for: %v, %v", w, err)
	}
}

// TestAccessLogOnStandardOutput: lines stay whole, and a pipe that nobody reads does not keep the daemon.
func TestAccessLogOnStandardOutput(t *testing.T) {
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer out.Close()
	_ = out.Fd() // as standard output is: not of the runtime's poller
	w, err := openAccessLog(Env{Out: out}, "-", nil)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 999) + "\n"
	if n, err := w.Write([]byte(strings.Repeat(line, 10))); n != 10*len(line) || err != nil {
		t.Errorf("write = %d, %v", n, err)
	}
	var n int
	var wg sync.WaitGroup
	wg.Go(func() { n, err = w.Write([]byte(strings.Repeat(line, 1000))) })
	within(t, 30*time.Second, "the pipe takes no more", func() bool { return full(t, out) })
	_ = w.SetWriteDeadline(time.Now())
	wg.Wait()
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n%len(line) != 0 {
		t.Errorf("write that nobody reads = %d, %v, want whole lines and the deadline", n, err)
	}
	if n, err := (&logStream{w: &bytes.Buffer{}}).Write([]byte(line)); n != len(line) || err != nil {
		t.Errorf("write to a buffer = %d, %v", n, err)
	}
}

// full reports whether a pipe takes nothing at the moment.
func full(t *testing.T, out *os.File) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(out.Fd()), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	if err != nil && !errors.Is(err, unix.EINTR) {
		t.Fatal(err)
	}
	return err == nil && n == 0
}

// TestAccessLogOfAnAgent: the real binary writes a line for each request, also after the file was moved away.
func TestAccessLogOfAnAgent(t *testing.T) {
	m := newMachine(t)
	path := filepath.Join(t.TempDir(), "access.log")
	cmd := m.command("agent", "--access-log", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	within(t, 30*time.Second, "an agent answers", func() bool { return m.agentPID() != 0 })
	m.must("start", "--setconfig", fmt.Sprintf("ports.%d.kind=http", m.port))
	logged := func(part string) bool {
		text, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(text), part)
	}
	if _, err := m.get("/ready?token=secret"); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "a line of the request", func() bool { return logged(`"path":"/ready"`) })
	if !logged(`"status":200`) || !logged(`"target_id":"`) || logged("secret") {
		text, _ := os.ReadFile(path)
		t.Errorf("log: %s", text)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "a line in a new file", func() bool {
		_, err := m.get("/ready?again")
		return err == nil && logged(`"path":"/ready"`)
	})
}
