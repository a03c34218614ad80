package fleettest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
)

// A slowEngine is a way to the Docker Engine that lets nobody through before it is told to.
type slowEngine struct {
	asked   chan struct{} // one place: somebody waits
	release func()
	host    string
}

func newSlowEngine(t *testing.T) *slowEngine {
	t.Helper()
	engine := strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	if engine == "" {
		engine = "/var/run/docker.sock"
	}
	path := filepath.Join(t.TempDir(), "engine.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	open := make(chan struct{})
	s := &slowEngine{asked: make(chan struct{}, 1), release: sync.OnceFunc(func() { close(open) }), host: "unix://" + path}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case s.asked <- struct{}{}:
			default:
			}
			wg.Go(func() { through(ctx, c, open, engine) })
		}
	})
	return s
}

// through joins a client with the engine once it is open.
func through(ctx context.Context, c net.Conn, open <-chan struct{}, engine string) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	select {
	case <-open:
	case <-ctx.Done():
		return
	}
	to, err := (&net.Dialer{}).DialContext(ctx, "unix", engine)
	if err != nil {
		return
	}
	defer to.Close()
	defer context.AfterFunc(ctx, func() { to.Close() })()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(to, c)
		_ = to.(*net.UnixConn).CloseWrite()
	})
	_, _ = io.Copy(c, to)
	_ = c.Close()
	wg.Wait()
}

// locked is the process that the lock of the daemon's data directory names.
func locked(t *testing.T, d *fleettest.Daemon) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.DataDir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// TestSignalsWhileANewProcessStarts: the daemon is the old one until the new one has taken over, and says so.
func TestSignalsWhileANewProcessStarts(t *testing.T) {
	f, d := serving(t, withEcho)
	load := fleettest.StartLoad(t, everything(f, d))
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		engine, old := newSlowEngine(t), d.PID()
		dir := t.TempDir()
		binary := filepath.Join(dir, "next")
		text := fmt.Sprintf("#!/bin/sh\necho $$ > %s/pid\nDOCKER_HOST=%s exec %s \"$@\"\n", dir, engine.host, fleettest.Binary(t, "gantryd"))
		if err := os.WriteFile(binary, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		done := make(chan fleettest.Result, 1)
		var wg sync.WaitGroup
		wg.Go(func() { done <- f.Gantryd(t, "upgrade", f.Project, "--data-dir", d.DataDir, "--binary", binary) })
		select {
		case <-engine.asked:
		case <-time.After(fleettest.Soon):
			t.Fatal("the new process does not ask the engine")
		}
		b, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err != nil {
			t.Fatal(err)
		}
		next, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		if pid := locked(t, d); pid != old {
			t.Errorf("the lock names process %d, the daemon is %d still", pid, old)
		}
		if err := syscall.Kill(next, sig); err != nil {
			t.Fatalf("signal the new process: %v", err)
		}
		if sig == syscall.SIGHUP {
			engine.release()
		}
		r := <-done
		wg.Wait()
		if sig == syscall.SIGTERM {
			if r.Code != 1 || !d.Running() || locked(t, d) != old {
				t.Errorf("upgrade to a process that was told to end: %v", r)
			}
			continue
		}
		if r.Code != 0 {
			t.Fatalf("upgrade to a process that got %v: %v", sig, r)
		}
		d.Replaced(t, next)
		third := 0
		fleettest.Await(t, fleettest.Finally, "the upgrade that was asked for meanwhile follows", func() error {
			if third = locked(t, d); third == 0 || third == next || !strings.Contains(d.Log(), fmt.Sprintf("msg=\"took over\" pid=%d", next)) {
				return fmt.Errorf("process %d is the daemon", third)
			}
			return nil
		})
		d.Replaced(t, third)
	}
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Echo)
}
