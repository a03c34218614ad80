package fleettest_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/faulttest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// slowly is a version that takes a while to get ready, so that there is a middle of its rollout.
func slowly(n int) string { return fmt.Sprintf("v%d", n) }

// turns is how long a turn of roll takes at least: the test does to its host what it wants meanwhile.
const turns = 4 * time.Second

// roll asks for a slow release and waits until a host is in its turn for it.
func roll(t *testing.T, f *fleettest.Fleet, n int) (holder string) {
	t.Helper()
	return rollSlowly(t, f, n, turns)
}

func rollSlowly(t *testing.T, f *fleettest.Fleet, n int, ready time.Duration) (holder string) {
	t.Helper()
	v := version(slowly(n))
	v.Env = []string{"READY_AFTER=" + ready.String()}
	f.Release(t, "web", v)
	f.Must(t, "update", f.Project, "-c", "web")
	return inItsTurn(t, f)
}

// inItsTurn waits until a host has begun its turn, and returns it.
func inItsTurn(t *testing.T, f *fleettest.Fleet) (holder string) {
	t.Helper()
	fleettest.Await(t, fleettest.Finally, "a host begins", func() error {
		if hs := f.State(t).Components["web"].Turn.Holders; len(hs) == 1 && len(f.Running(t, hs[0], "web")) == 2 {
			holder = hs[0]
			return nil
		}
		return errors.New("none does")
	})
	return holder
}

// traffic is steady load on every host; the function ends it and fails the test when any of it was lost.
func traffic(t *testing.T, f *fleettest.Fleet, ds []*fleettest.Daemon) (end func()) {
	t.Helper()
	var loads []*fleettest.Load
	for _, d := range ds {
		loads = append(loads, fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 1, KeepAlive: 1, Streams: 1, StreamFor: 5 * time.Second}))
	}
	return func() {
		for _, l := range loads {
			l.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream)
		}
	}
}

// allServe waits until every host serves the release and nothing else, and the rollout is done.
func allServe(t *testing.T, f *fleettest.Fleet, ds []*fleettest.Daemon, n int) {
	t.Helper()
	for _, d := range ds {
		fleettest.Await(t, fleettest.Finally, d.Host+" serves "+slowly(n), func() error { return serves(t, f, d.Host, 1) })
		answeredBy(t, d.URL(f.Port, "/"), slowly(n))
	}
	fleettest.Await(t, fleettest.Finally, "the rollout is done", func() error { return doneWith(t, f) })
}

// outage is how long etcd has no majority: longer than the leases.
func outage() time.Duration {
	if os.Getenv(allFailpoints) != "" {
		return 2 * time.Minute
	}
	return fleettest.LeaseTTL + 3*time.Second
}

func TestFleetLosesEtcdsLeaderAndThenItsMajority(t *testing.T) {
	f, ds := threeWith(t, []fleettest.Option{fleettest.Members(3)})
	end := traffic(t, f, ds)
	roll(t, f, 2)
	leader := f.Members[etcdtest.Leader(t, strings.Split(f.Endpoint(), ","))]
	leader.Kill(t)
	killed := time.Now()
	allServe(t, f, ds, 2)
	t.Logf("all hosts were done %v after the leader's death", time.Since(killed).Round(10*time.Millisecond))
	leader.Start(t)

	roll(t, f, 3)
	for _, m := range f.Members[:2] {
		m.Kill(t)
	}
	fleettest.Pass(t, outage())
	for _, d := range ds {
		if n := len(f.Running(t, d.Host, "web")); n == 0 {
			t.Errorf("host %s runs nothing", d.Host)
		}
	}
	for _, m := range f.Members[:2] {
		m.Launch(t)
	}
	back := time.Now()
	allServe(t, f, ds, 3)
	t.Logf("etcd had no majority for %v; all hosts were done %v after it was back", outage(), time.Since(back).Round(10*time.Millisecond))
	end()
}

// threeThrough is a fleet of three hosts that serve v1, each with a line to etcd of its own.
func threeThrough(t *testing.T) (*fleettest.Fleet, []*fleettest.Daemon, map[string]*faulttest.Proxy) {
	t.Helper()
	f, ds := three(t)
	lines := map[string]*faulttest.Proxy{}
	for _, d := range ds {
		lines[d.Host] = faulttest.Start(t, f.Endpoint())
		d.Stop(t)
		d.Through(lines[d.Host].Addr())
		d.Start(t)
	}
	fleettest.Await(t, fleettest.Finally, "the fleet is whole", func() error { return doneWith(t, f) })
	return f, ds, lines
}

func TestFleetWithAHostCutOffFromEtcdInItsTurn(t *testing.T) {
	lose := faulttest.Way{Lose: true}
	cuts := []struct {
		name   string
		faults faulttest.Faults
		lost   bool // else what it writes is done, although it does not know: its turn may end well
	}{
		{"both ways", faulttest.Faults{Up: lose, Down: lose}, true},
		{"what it asks", faulttest.Faults{Up: lose}, true},
		{"what it is answered", faulttest.Faults{Down: lose}, false},
	}
	f, ds, lines := threeThrough(t)
	end := traffic(t, f, ds)
	for i, cut := range cuts {
		since := f.State(t).Cluster.Revision
		holder := roll(t, f, i+2)
		lines[holder].Set(cut.faults)
		if cut.lost {
			staysAlone(t, f, holder)
		} else {
			fleettest.Pass(t, fleettest.LeaseTTL+2*time.Second)
		}
		lines[holder].Set(faulttest.Faults{})
		healed := time.Now()
		allServe(t, f, ds, i+2)
		t.Logf("%s: all hosts were done %v after it was healed", cut.name, time.Since(healed).Round(10*time.Millisecond))
		changes(t, f, since+1) // never two turns at once
	}
	end()
}

// staysAlone waits until the host is lost in its turn, and fails the test when another one begins.
func staysAlone(t *testing.T, f *fleettest.Fleet, lost string) {
	t.Helper()
	fleettest.Await(t, fleettest.Finally, "host "+lost+" is lost in its turn", func() error {
		if v := f.State(t).Components["web"]; len(v.Turn.Holders) > 0 || !slices.Contains(v.Lost(""), lost) {
			return fmt.Errorf("turns of %v, lost %v", v.Turn.Holders, v.Lost(""))
		}
		return nil
	})
	fleettest.Pass(t, 2*time.Second)
	generation := fmt.Sprint(f.State(t).Components["web"].Desired.Generation)
	for _, c := range f.Containers(t, "", "web") {
		if host := c.Labels["dev.gantryd.host"]; host != lost && c.Labels["dev.gantryd.generation"] == generation {
			t.Errorf("host %s began while %s was lost in its turn", host, lost)
		}
	}
}

func TestFleetWithAHostAwayWhileItsWatchIsCompacted(t *testing.T) {
	f, ds, lines := threeThrough(t)
	end := traffic(t, f, ds)
	away := ds[2]
	lines[away.Host].Set(faulttest.Faults{Up: faulttest.Way{Lose: true}, Down: faulttest.Way{Lose: true}})
	for i := range 3 { // the others follow, and history goes on
		f.Release(t, "web", version(slowly(i+2)))
		f.Must(t, "update", f.Project, "-c", "web")
		for _, d := range ds[:2] {
			fleettest.Await(t, fleettest.Finally, d.Host+" serves", func() error { return serves(t, f, d.Host, 1) })
		}
	}
	etcdtest.Compact(t, f.Endpoint())
	lines[away.Host].Set(faulttest.Faults{})
	allServe(t, f, ds, 4)
	end()
}

// A tag that moves while hosts follow it is another release, which nobody asked for.
func TestFleetWithATagMovedInTheMiddle(t *testing.T) {
	f, ds := three(t)
	end := traffic(t, f, ds)
	roll(t, f, 2)
	asked := f.State(t).Components["web"].Desired.ImageID
	if moved := f.Release(t, "web", version("moved")); moved == asked {
		t.Fatal("the tag did not move")
	}
	allServe(t, f, ds, 2)
	for _, c := range f.Running(t, "", "web") {
		if c.ImageID != asked {
			t.Errorf("container %s runs image %s, want %s", c.Name, c.ImageID, asked)
		}
	}
	end()
}

// A daemon that restarts in its turn goes on with it, without waiting for its own lease to end.
func TestFleetWithADaemonRestartedInItsTurn(t *testing.T) {
	const ttl = time.Minute
	f := fleettest.New(t)
	ds := hostsOf(t, f, 3, "--lease-ttl", ttl.String())
	serveFirst(t, f)
	holder := rollSlowly(t, f, 2, 12*time.Second) // its turn is not over when it is back
	i := slices.IndexFunc(ds, func(d *fleettest.Daemon) bool { return d.Host == holder })
	before := f.State(t).Machines[holder].Nonce
	ds[i].Kill(t)
	killed := time.Now()
	ds[i].Launch(t)
	fleettest.Await(t, fleettest.Finally, "it has its turn again", func() error {
		v := f.State(t).Components["web"]
		if m := v.Machines[holder]; slices.Contains(v.Turn.Holders, holder) && m.Nonce != "" && m.Nonce != before {
			return nil
		}
		return fmt.Errorf("turns of %v, machine %+v", v.Turn.Holders, v.Machines[holder])
	})
	took := time.Since(killed)
	t.Logf("from kill -9 and a restart of %s to its turn: %v", holder, took.Round(10*time.Millisecond))
	if limit := ttl / 2; took > limit { // it is to be under 2 s; a lease that has to end takes two thirds of it at least
		t.Errorf("it took %v, as if its old lease had to end first", took)
	}
	allServe(t, f, ds, 2)
	if v := f.State(t).Components["web"]; v.Rollout.Status != component.RolloutDone {
		t.Errorf("rollout is %+v", v.Rollout)
	}
}
