package fleettest_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// refuses waits until the host's port takes nobody any more.
func refuses(t *testing.T, addr string) {
	t.Helper()
	fleettest.Await(t, 10*time.Second, addr+" refuses connections", func() error {
		err := knock(addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		return fmt.Errorf("a new connection: %w", err)
	})
}

// refused runs a command that has to be refused with the code, saying so.
func refused(t *testing.T, f *fleettest.Fleet, code int, says string, args ...string) {
	t.Helper()
	if r := f.Gantryd(t, args...); r.Code != code || !strings.Contains(r.Err, says) {
		t.Errorf("gantryd %s: %v; want code %d and %q", strings.Join(args, " "), r, code, says)
	}
}

// A host goes out of service and comes back: nobody on other hosts notices, and who was on it leaves in their own time.
// Its link traffic moves, a rollout goes on without it, and a daemon that is killed stays out of service.
func TestDrainedHostIsLeftInPeace(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	h1, h2, h3 := f.Daemon(t, "h1"), f.Daemon(t, "h2"), f.Daemon(t, "h3", "-c", "web")
	for _, d := range []*fleettest.Daemon{h1, h2, h3} {
		d.Start(t)
	}
	web, db := linked(f)
	both(&web)
	f.Configure(t, web, db)
	f.Release(t, "web", version("v1"))
	f.Release(t, "db", version("d1"))
	f.Update(t, "db", "web")
	over := func(host string) func() error { // the link of h3 goes to the exporter of the host
		want := f.Running(t, host, "db")[0].ID
		return func() error {
			if _, id, err := overLink(t, f, h3); err != nil || id == "" || !strings.HasPrefix(want, id) {
				return fmt.Errorf("%q answers over the link, %w; want %s", id, err, want[:12])
			}
			return nil
		}
	}
	fleettest.Await(t, 10*time.Second, "the link goes to the first host", over("h1"))
	loads := []*fleettest.Load{
		fleettest.StartLoad(t, fleettest.LoadOptions{URL: h2.URL(f.Port, "/"), Short: 1, KeepAlive: 1, Streams: 1, StreamFor: 3 * time.Second}),
		fleettest.StartLoad(t, fleettest.LoadOptions{URL: h3.URL(f.Port, "/fetch?env=DB_CLINK&path=/"), Short: 2}),
	}
	stays := visit(t, echoAddr(f, h1))
	before := onlyServing(t, f, "h1", "web", 0)

	refused(t, f, 3, "Unknown host", "host", "drain", f.Project, "h9")
	refused(t, f, 4, "h1 is not drained", "host", "undrain", f.Project, "h1")
	f.Must(t, "host", "drain", f.Project, "h1", "--reason", "new kernel")
	refused(t, f, 4, "new kernel already", "host", "drain", f.Project, "h1")
	refused(t, f, 4, "nobody else serves db", "host", "drain", f.Project, "h2")
	refuses(t, echoAddr(f, h1))
	fleettest.Await(t, 10*time.Second, "the link goes to the other host", over("h2"))
	refused(t, f, 1, "1 connection left", "host", "drain", f.Project, "h1", "--wait", "--timeout", "3s")

	f.Release(t, "web", version("v2"))
	if r := f.Update(t, "web"); !strings.Contains(r.Out, "host h1: skipped, drained by") {
		t.Errorf("update --wait: %v", r)
	}
	if now := onlyServing(t, f, "h1", "web", 0); now.ID != before.ID {
		t.Errorf("the drained host went from %s to %s", before.Name, now.Name)
	}
	if err := stays.ask(); err != nil {
		t.Errorf("who was there before the drain: %v", err)
	}
	stays.Close()
	if r := f.Must(t, "host", "drain", f.Project, "h1", "--wait", "--timeout", "30s"); !strings.Contains(r.Out, "no connection is left") {
		t.Errorf("drain --wait: %v", r)
	}

	h1.Kill(t)
	h1.Start(t)
	if err := knock(echoAddr(f, h1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after a restart of the daemon, a new connection: %v", err)
	}
	if out := f.Must(t, "hosts", f.Project).Out; !strings.Contains(out, "Host h1 is out of service, drained by") {
		t.Errorf("hosts says:\n%s", out)
	}
	f.Must(t, "host", "undrain", f.Project, "h1")
	fleettest.Await(t, 20*time.Second, "the host comes to the release", func() error { return serves(t, f, "h1", 1) })
	answeredBy(t, h1.URL(f.Port, "/"), "v2")
	for _, l := range loads {
		l.Stop().NoFailures(t, fleettest.Short)
	}
	if st := f.State(t); st.Components["web"].Record().Status != component.RolloutDone || len(st.Drained) != 0 {
		t.Errorf("rollout %+v, drained %v", st.Components["web"].Record(), st.Drained)
	}
}

// knock opens a connection, and closes it.
func knock(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
