package fleettest_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/internal/holder"
	"github.com/gantryd/gantryd/pkg/component"
)

// withEcho gives the component a second port, which echoes TCP.
func withEcho(s *component.Spec) {
	s.Ports = append(s.Ports, component.Port{External: s.Ports[0].External + 1, Container: 9000})
}

// everything is traffic of all kinds for the component of serving with withEcho.
func everything(f *fleettest.Fleet, d *fleettest.Daemon) fleettest.LoadOptions {
	o := fleettest.Mixed(d.URL(f.Port, "/"))
	o.StreamFor = 2 * time.Second
	o.EchoAddr, o.Echoes = net.JoinHostPort(d.IP, strconv.Itoa(f.Port+1)), 8
	return o
}

// build is gantryd or gantry with this version.
func build(t *testing.T, name, version string) string {
	t.Helper()
	dir := t.TempDir()
	if err := fleettest.Build(dir, "-X github.com/gantryd/gantryd/internal/version.stamped="+version, name); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

func TestUpgradeToTheNextVersionAndBack(t *testing.T) {
	next := build(t, "gantryd", "v99.0.0") // before there is a daemon, which needs its share of the processor
	f, d := serving(t, withEcho)
	before := f.Containers(t, "h1", "web")
	load := fleettest.StartLoad(t, everything(f, d))
	fleettest.Pass(t, 500*time.Millisecond)
	for i := range count(10) {
		binary, want := next, "v99.0.0"
		if i%2 == 1 {
			binary, want = fleettest.Binary(t, "gantryd"), "devel"
		}
		r := d.Upgrade(t, f, binary)
		if r.Code != 0 || !strings.Contains(r.Out, want) {
			t.Fatalf("upgrade %d to %s: %v", i, want, r)
		}
		fleettest.Await(t, fleettest.Soon, "the host says its version", func() error {
			if m := f.State(t).Machines["h1"]; !strings.Contains(m.Version, want) {
				return fmt.Errorf("%+v", m)
			}
			return nil
		})
	}
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream, fleettest.Echo)
	if diff := cmp.Diff(before, f.Containers(t, "h1", "web")); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
	if strings.Count(d.Log(), "host registered") != 1 {
		t.Error("the host was registered more than once: the lease was not handed over")
	}
	f.Release(t, "web", version("v2"))
	f.Update(t, "web")
	answeredBy(t, d.URL(f.Port, "/"), "v2")
}

func TestUpgradeThatFailsChangesNothing(t *testing.T) {
	f, d := serving(t, withEcho)
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("not a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	self := fleettest.Binary(t, "gantryd")
	tests := []struct{ name, binary, want string }{
		{"ends at once", script("exit", "exit 3"), "ended before"},
		{"is no program", script("exec", "exec "+plain), "ended before"},
		{"other flags", script("flags", "exec "+self+" run --no-such-flag"), "ended before"},
		{"another data directory that cannot be", script("dir", "exec "+self+` run `+f.Project+` --host h1 --endpoints `+f.Endpoint()+` --data-dir /proc/nowhere`), "/proc/nowhere"},
		{"no etcd", script("etcd", "exec "+self+` run `+f.Project+` --host h1 --endpoints 127.0.0.1:1 --command-timeout 500ms --data-dir `+d.DataDir), "127.0.0.1:1"},
		{"no engine", script("engine", "DOCKER_HOST=unix:///nowhere.sock exec "+self+` run `+f.Project+` --host h1 --endpoints `+f.Endpoint()+` --data-dir `+d.DataDir), "/nowhere.sock"},
		{"a host name that is taken away from it", script("none", "exec "+self+` run other --host h1 --bind 300.1.2.3`), "ended before"},
	}
	before, pid := f.Containers(t, "h1", "web"), d.PID()
	load := fleettest.StartLoad(t, everything(f, d))
	for _, tt := range tests {
		r := d.Upgrade(t, f, tt.binary)
		if r.Code != 1 || !strings.Contains(r.Err, tt.want) {
			t.Errorf("%s: %v\nwant code 1 and %q", tt.name, r, tt.want)
		}
		if !d.Running() || d.PID() != pid {
			t.Fatalf("%s: the daemon is another one", tt.name)
		}
	}
	if r := d.Upgrade(t, f, plain); r.Code != 2 {
		t.Errorf("upgrade to a file that is not executable: %v, want code 2", r)
	}
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Echo)
	if diff := cmp.Diff(before, f.Containers(t, "h1", "web")); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
	f.Release(t, "web", version("v2"))
	f.Update(t, "web")
	if r := d.Upgrade(t, f, ""); r.Code != 0 {
		t.Errorf("upgrade after those that failed: %v", r)
	}
}

func TestOneUpgradeAtATime(t *testing.T) {
	t.Parallel()
	f, d := serving(t)
	slow := filepath.Join(t.TempDir(), "slow")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\nexec sleep 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var first fleettest.Result
	var wg sync.WaitGroup
	wg.Go(func() { first = f.Gantryd(t, "upgrade", f.Project, "--data-dir", d.DataDir, "--binary", slow) })
	fleettest.Await(t, fleettest.Soon, "the first upgrade begins", func() error {
		if !strings.Contains(d.Log(), "upgrade begins") {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	second := f.Gantryd(t, "upgrade", f.Project, "--data-dir", d.DataDir)
	if second.Code != 1 || !strings.Contains(second.Err, "another upgrade is under way") {
		t.Errorf("second upgrade: %v", second)
	}
	wg.Wait()
	if first.Code != 1 {
		t.Errorf("first upgrade, to a program that sleeps: %v", first)
	}
}

// TestDrainKnowsConnectionsOfTheProcessBefore holds a request across an upgrade and a rollout: the old container
// must not be stopped before it is answered.
func TestDrainKnowsConnectionsOfTheProcessBefore(t *testing.T) {
	t.Parallel()
	f, d := serving(t)
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Streams: 2, StreamFor: 30 * time.Second})
	fleettest.Await(t, fleettest.Soon, "streams are open", func() error {
		if n := load.Tally().Open; n < 2 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	if r := d.Upgrade(t, f, ""); r.Code != 0 {
		t.Fatal(r)
	}
	f.Release(t, "web", version("v2"))
	f.Update(t, "web")
	if n := len(d.Earlier()); n != 1 {
		t.Errorf("%d processes finish connections, want 1", n)
	}
	load.Stop().NoFailures(t, fleettest.Stream)
	onlyServing(t, f, "h1", "web", 0)
	fleettest.Await(t, fleettest.Soon, "the process before has ended", func() error {
		if n := len(d.Earlier()); n != 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
}

func TestKilledDaemonRefusesNobody(t *testing.T) {
	f, d := serving(t, withEcho)
	o := everything(f, d)
	o.Streams, o.KeepAlive, o.Echoes = 0, 0, 0 // what is established ends with the process
	var slowest time.Duration
	var refused sync.Map
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond): // the socket's queue holds all who come while a daemon starts
				}
				c, err := net.DialTimeout("tcp", o.EchoAddr, fleettest.Soon)
				if err != nil {
					refused.Store(err.Error(), true)
					continue
				}
				c.Close()
			}
		})
	}
	for range count(10) {
		d.Kill(t)
		killed := time.Now()
		// A client that comes while no daemon lives waits, and is served.
		c, err := net.DialTimeout("tcp", o.EchoAddr, fleettest.Soon)
		if err != nil {
			t.Fatalf("connect while no daemon lives: %v", err)
		}
		d.Start(t)
		if err := echoed(c); err != nil {
			t.Errorf("a client that came while no daemon lived: %v", err)
		}
		slowest = max(slowest, time.Since(killed))
		c.Close()
	}
	close(stop)
	wg.Wait()
	refused.Range(func(text, _ any) bool { t.Errorf("connect: %v", text); return true })
	t.Logf("the slowest was served %v after the kill", slowest.Round(time.Millisecond))
	d.Stop(t)
	if c, err := net.DialTimeout("tcp", o.EchoAddr, time.Second); err == nil {
		c.Close()
		t.Error("a daemon that ended well left its port open")
	}
}

// TestSocketsOfAnotherSettingAreTaken kills a daemon whose sockets are kept, and starts one that keeps none: its ports
// must not stay with a process that nobody accepts from.
func TestSocketsOfAnotherSettingAreTaken(t *testing.T) {
	f, d := serving(t, withEcho)
	addr := net.JoinHostPort(d.IP, strconv.Itoa(f.Port+1))
	d.Kill(t)
	c, err := net.DialTimeout("tcp", addr, fleettest.Soon)
	if err != nil {
		t.Fatalf("connect while no daemon lives: %v", err)
	}
	defer c.Close()
	without := f.Daemon(t, "h1", "--data-dir", d.DataDir, "--bind", d.IP, "--hold-sockets", "0")
	without.Start(t)
	if err := echoed(c); err != nil {
		t.Errorf("a client that came while no daemon lived: %v", err)
	}
	answeredBy(t, d.URL(f.Port, "/"), "v1")
	fleettest.Await(t, fleettest.Soon, "nobody keeps sockets", func() error {
		if h, err := net.Dial("unixpacket", filepath.Join(d.DataDir, holder.Name)); err == nil {
			h.Close()
			return errors.New("the holder lives")
		}
		return nil
	})
	without.Kill(t)
	if c, err := net.DialTimeout("tcp", addr, fleettest.Soon); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect after a kill: %v, %v, want that it is refused", c, err)
	}
	d.Start(t)
	answeredBy(t, d.URL(f.Port, "/"), "v1")
}

func echoed(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(fleettest.Soon)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	b := make([]byte, 5)
	if _, err := c.Read(b); err != nil || string(b) != "hello" {
		return fmt.Errorf("%q, %w", b, err)
	}
	return nil
}
