package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/app"
	"github.com/gantryd/gantryd/internal/control"
	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/proxy"
)

// askUpgrade asks the daemon of dir to be replaced by binary, as a command does.
func askUpgrade(ctx context.Context, dir, binary string) error {
	raw, err := json.Marshal(app.UpgradeArgs{Binary: binary})
	if err != nil {
		return err
	}
	var s app.Successor
	return control.Call(ctx, dir, control.Request{Command: app.CommandUpgrade, Args: raw}, &s)
}

// awaitFile waits until there is a file at path.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	awaitThat(t, "there is a file "+path, func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// awaitThat waits until is says so.
func awaitThat(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

// TestEndWhileANewProcessStarts stops a daemon while a command waits for a new process that hangs.
func TestEndWhileANewProcessStarts(t *testing.T) {
	o := options(t, noEngine(t))
	o.Argv = []string{"replaced by the command"}
	started, binary := filepath.Join(t.TempDir(), "started"), filepath.Join(t.TempDir(), "hangs")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\ntouch "+started+"\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := app.NewLocal(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended, asked := make(chan error, 1), make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- d.Run(ctx) })
	wg.Go(func() { asked <- askUpgrade(t.Context(), o.DataDir, binary) })
	awaitFile(t, started)
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run = %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the daemon does not end")
	}
	if err := <-asked; err == nil || !strings.Contains(err.Error(), "this daemon is ending") {
		t.Errorf("upgrade = %v, want that the daemon is ending", err)
	}
	wg.Wait()
}

// asHeir in the environment says what a new process does: the step at which it hangs and the file that it makes
// then; empty: it takes everything over and ends.
const asHeir = "APP_TEST_HEIR"

// Steps at which a new process hangs.
const (
	hangPreparing = "preparing"
	hangServing   = "serving" // and ends well when it is asked to, which it says by another file
	hangMoving    = "moving"  // has the first connections, and says nothing of them; ends as hangServing
)

// What else a new process may do with the first connections that move.
const (
	diesMoving    = "dies"     // reads of them, and is killed
	refusesMoving = "refuses"  // says that it does not take them, before it has read all
	silentMoving  = "is-older" // gives them up without a word
)

// newProcess takes the place of a daemon of these tests.
func newProcess(how string) int {
	step, file, _ := strings.Cut(how, " ")
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	past, err := handover.Inherit(ctx, os.Getenv, "v2")
	if err != nil {
		return 1
	}
	if _, _, err := past.Estate(ctx); err != nil {
		return 2
	}
	if step == hangPreparing {
		return hang(file, ctx.Done())
	}
	_, err = past.Take(ctx, func(c *net.UnixConn) error {
		_, err := proxy.Receive(ctx, c)
		return err
	})
	if err != nil {
		return 3
	}
	switch step {
	case hangServing:
		return hangWell(file, terminated)
	case hangMoving, diesMoving, refusesMoving, silentMoving:
		_ = past.Serving(ctx, func(c *net.UnixConn) error { return moveHow(ctx, step, file, c, terminated) })
		past.Link(nil).Follow(ctx, func(string) {}) // it serves, until the old process has finished
		return 0
	}
	return 4
}

// hangWell hangs until it is asked to end, and says that it does.
func hangWell(file string, terminated <-chan os.Signal) int {
	hang(file, terminated)
	if os.WriteFile(file+".terminated", nil, 0o600) != nil {
		return 6
	}
	return 0
}

// moveHow is what a new process does with the first connections that move.
func moveHow(ctx context.Context, how, file string, c *net.UnixConn, terminated <-chan os.Signal) error {
	if how == refusesMoving || how == silentMoving { // with most of what came unread, as when it makes no sense
		if _, err := io.ReadFull(c, make([]byte, 8)); err != nil || how == silentMoving {
			return err
		}
		_, err := c.Write([]byte{0})
		return err
	}
	s, err := proxy.Receive(ctx, c)
	if err != nil {
		return err
	}
	if how == hangMoving {
		os.Exit(hangWell(file, terminated))
	}
	p := proxy.New(ctx, proxy.Options{})
	if err := p.Adopt(s); err != nil {
		return err
	}
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// hang makes a file and waits.
func hang[T any](file string, until <-chan T) int {
	if os.WriteFile(file, nil, 0o600) != nil {
		return 5
	}
	<-until
	return 0
}

// TestEndInTheMiddleOfAHandOver is the end of a daemon that has closed its state for a new process: it ends as at any
// other time, and no other host has to wait for its lease.
func TestEndInTheMiddleOfAHandOver(t *testing.T) {
	for _, step := range []string{hangPreparing, hangServing} {
		t.Run(step, func(t *testing.T) {
			m := etcdtest.Start(t)
			o := options(t, noEngine(t))
			o.Argv = []string{os.Args[0]}
			file := filepath.Join(t.TempDir(), "hangs")
			t.Setenv(asHeir, step+" "+file)
			d, err := app.New(t.Context(), o, app.Fleet{Etcd: etcdstate.Config{Endpoints: []string{m.Endpoint()}}, LeaseTTL: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ended, asked := make(chan error, 1), make(chan error, 1)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() { ended <- d.Run(ctx) })
			machine := "/gantryd/projects/" + o.Project + "/machines/h1/state"
			awaitThat(t, "the host is registered", func() bool { return len(m.All(t, machine)) == 1 })
			wg.Go(func() { asked <- askUpgrade(t.Context(), o.DataDir, "") })
			awaitFile(t, file)
			stop()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("Run = %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the daemon does not end")
			}
			if err := <-asked; err == nil {
				t.Error("upgrade = nil")
			}
			if step == hangServing {
				awaitFile(t, file+".terminated") // the new process has the host's place, and gives it up
				return
			}
			if left := m.All(t, "/gantryd/projects/"+o.Project+"/machines/"); len(left) != 0 {
				t.Errorf("the host is still registered: %v", left)
			}
			again, err := app.NewLocal(t.Context(), o)
			if err != nil {
				t.Fatalf("the next daemon: %v", err)
			}
			ends(t, again.Run)
		})
	}
}

// TestNewProcessThatEndsAfterItTookOver has nobody who serves: the old process must not stay in the way of the
// daemon that the service manager starts.
func TestNewProcessThatEndsAfterItTookOver(t *testing.T) {
	o := options(t, noEngine(t))
	o.Argv = []string{os.Args[0]}
	d, err := app.NewLocal(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- d.Run(t.Context()) })
	if err := askUpgrade(t.Context(), o.DataDir, ""); err == nil || !strings.Contains(err.Error(), "took over and ended") {
		t.Errorf("upgrade = %v, want that the new process ended", err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, handover.ErrGone) {
			t.Errorf("Run = %v, want ErrGone: the service manager must see a failure", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the old process goes on, and nobody serves")
	}
	wg.Wait()
	again, err := app.NewLocal(t.Context(), o)
	if err != nil {
		t.Fatalf("the next daemon: %v", err)
	}
	ends(t, again.Run)
}
