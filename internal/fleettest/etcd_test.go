package fleettest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/fleettest"
)

func TestEtcdKilledInTheMiddleOfAnUpdate(t *testing.T) {
	f, ds := three(t)
	var loads []*fleettest.Load
	for _, d := range ds {
		loads = append(loads, fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 1, KeepAlive: 1, Streams: 1, StreamFor: 10 * time.Second}))
	}
	// Shorter than the lease, and longer: then all turns are lost.
	for i, gone := range []time.Duration{time.Second, fleettest.LeaseTTL + 2*time.Second} {
		v := version(fmt.Sprintf("v%d", i+2))
		v.Env = []string{"READY_AFTER=1s"}
		f.Release(t, "web", v)
		f.Must(t, "update", f.Project, "-c", "web")
		fleettest.Await(t, fleettest.Soon, "the second host has its turn", func() error {
			if n := len(f.Containers(t, "", "web")); n < 5 {
				return fmt.Errorf("%d containers", n)
			}
			return nil
		})
		f.Etcd.Kill(t)
		fleettest.Pass(t, gone)
		f.Etcd.Start(t)
		back := time.Now()
		for _, d := range ds {
			fleettest.Await(t, fleettest.Finally, d.Host+" serves "+v.Version, func() error { return serves(t, f, d.Host, 1) })
			answeredBy(t, d.URL(f.Port, "/"), v.Version)
		}
		t.Logf("etcd was gone for %v; all hosts were done %v after it came back", gone, time.Since(back).Round(10*time.Millisecond))
	}
	for _, l := range loads {
		l.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream)
	}
}

func TestDaemonRestartedWithoutEtcdServesFromMemory(t *testing.T) {
	f, d := serving(t)
	before := f.Containers(t, "h1", "web")
	f.Etcd.Kill(t)
	begin := time.Now()
	r := f.Gantryd(t, "list", f.Project)
	if r.Code != 5 || !strings.Contains(r.Err, f.Endpoint()) {
		t.Errorf("list without etcd: %v", r)
	}
	t.Logf("a command without etcd ended after %v", time.Since(begin).Round(10*time.Millisecond))
	d.Kill(t)
	d.Start(t)
	answeredBy(t, d.URL(f.Port, "/"), "v1")
	if diff := cmp.Diff(before, f.Containers(t, "h1", "web")); diff != "" {
		t.Errorf("containers after a restart without etcd (-before +after):\n%s", diff)
	}
	// What breaks is repaired, and costs held requests time only.
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 1, Think: 50 * time.Millisecond})
	f.Docker.Remove(t, before[0].ID)
	fleettest.Await(t, fleettest.Soon, "another container runs", func() error {
		if cs := f.Running(t, "h1", "web"); len(cs) != 1 || cs[0].ID == before[0].ID {
			return fmt.Errorf("%d run", len(cs))
		}
		return nil
	})
	fleettest.Pass(t, time.Second)
	tally := load.Stop()
	t.Log(tally)
	if len(tally.Failures) > 1 { // the one under way when the container was removed
		t.Errorf("%d requests failed, want at most the one under way: %v", len(tally.Failures), tally.Failures)
	}
	f.Etcd.Start(t)
	fleettest.Await(t, fleettest.Soon, "the host is back", func() error { return serves(t, f, "h1", 1) })
	f.Release(t, "web", version("v2"))
	f.Update(t, "web")
	answeredBy(t, d.URL(f.Port, "/"), "v2")
}

func TestEmptyEtcdStopsNothingUntilAdopted(t *testing.T) {
	f, d := serving(t)
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 1, KeepAlive: 1, Streams: 1, StreamFor: 5 * time.Second})
	before := f.Containers(t, "h1", "web")
	f.Etcd.Kill(t)
	f.WipeEtcd(t)
	f.Etcd.Start(t)
	fleettest.Await(t, fleettest.Finally, "the daemon says that it does not trust etcd", func() error {
		if !strings.Contains(d.Log(), "store not trusted") {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	// Not even an order is followed: it may be another project's.
	f.Configure(t, f.Web())
	f.Release(t, "web", version("v2"))
	f.Must(t, "update", f.Project, "-c", "web")
	fleettest.Pass(t, 3*time.Second)
	same := func(when string) {
		t.Helper()
		if diff := cmp.Diff(before, f.Containers(t, "h1", "web")); diff != "" {
			t.Errorf("containers %s (-before +after):\n%s", when, diff)
		}
	}
	same("with an empty etcd")
	if r := f.Gantryd(t, "adopt", f.Project); r.Code != 2 {
		t.Errorf("adopt without --confirm: %v", r)
	}
	same("after adopt without --confirm")
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream)
	d.Stop(t)
	d.Start(t)
	same("after a restart of the daemon")
	answeredBy(t, d.URL(f.Port, "/"), "v1")

	f.Must(t, "adopt", f.Project, "--confirm")
	fleettest.Await(t, fleettest.Soon, "the update goes on", func() error { return serves(t, f, "h1", 1) })
	answeredBy(t, d.URL(f.Port, "/"), "v2")
}
