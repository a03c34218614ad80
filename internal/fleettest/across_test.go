package fleettest_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// TestFleetOfTwoMachines has hosts that share nothing: each has an Engine and a network of its own.
func TestFleetOfTwoMachines(t *testing.T) {
	if os.Getenv(allFailpoints) == "" {
		t.Skip("it takes long to start two Engines: make fleet runs it")
	}
	es := []*fleettest.Engine{fleettest.StartEngine(t, fleettest.EngineOptions{}), fleettest.StartEngine(t, fleettest.EngineOptions{})}
	f := fleettest.New(t, fleettest.Across(es...))
	ds := []*fleettest.Daemon{f.Daemon(t, "h1"), f.Daemon(t, "h2")}
	for _, d := range ds {
		d.Start(t)
	}
	f.Configure(t, f.Web())
	f.Release(t, "web", version("v1"))
	f.Update(t, "web")
	t.Run("power lost in a turn", func(t *testing.T) { losePower(t, f, es, ds) })
	if !t.Failed() {
		t.Run("registry down after the first pull", func(t *testing.T) { loseRegistry(t, f, es, ds) })
	}
}

// A machine that loses its power in its turn takes its Engine, its containers and its daemon with it. The others
// serve and wait; when it is back, it serves what it served, and then goes on with its turn.
func losePower(t *testing.T, f *fleettest.Fleet, es []*fleettest.Engine, ds []*fleettest.Daemon) {
	clients := startClients(t, []string{ds[0].URL(f.Port, "/"), ds[1].URL(f.Port, "/")})
	since := f.State(t).Cluster.Revision
	holder := roll(t, f, 2)
	i := 0
	if holder == ds[1].Host {
		i = 1
	}
	other := ds[1-i]
	es[i].PowerOff(t, ds[i])
	off := time.Now()
	fleettest.Await(t, fleettest.Finally, "it is lost in its turn", func() error {
		if v := f.State(t).Components["web"]; len(v.Turn.Holders) > 0 || len(v.Lost("")) != 1 {
			return fmt.Errorf("turns of %v, lost %v", v.Turn.Holders, v.Lost(""))
		}
		return nil
	})
	t.Logf("its turn ended %v after it was off", time.Since(off).Round(10*time.Millisecond))
	answeredBy(t, other.URL(f.Port, "/"), "v1")

	on := time.Now()
	es[i].PowerOn(t)
	ds[i].Start(t)
	for _, d := range ds {
		fleettest.Await(t, fleettest.Finally, d.Host+" serves v2", func() error { return serves(t, f, d.Host, 1) })
		answeredBy(t, d.URL(f.Port, "/"), "v2")
	}
	fleettest.Await(t, fleettest.Finally, "the rollout is done", func() error { return doneWith(t, f) })
	t.Logf("all was right %v after it was on again", time.Since(on).Round(10*time.Millisecond))
	changes(t, f, since+1) // never two turns at once
	served, failed := clients.stop()
	if served == 0 || len(failed) > 0 {
		t.Errorf("of %d requests %d failed: %v", served, len(failed), errors.Join(failed...))
	}
}

// A registry that goes down after the first host has the image halts the rollout, with host, image and reason;
// when it is back, a retry completes what was asked for, which nobody has changed.
func loseRegistry(t *testing.T, f *fleettest.Fleet, es []*fleettest.Engine, ds []*fleettest.Daemon) {
	end := traffic(t, f, ds)
	reg := dockertest.StartRegistryAt(t, f.Outside())
	ref, _ := reg.Push(t, "shop/web:v3", dockertest.AppImage(t, "pulled"))
	spec := f.Web()
	spec.Repo, spec.Tag = strings.TrimSuffix(ref, ":v3"), "v3"
	f.Configure(t, spec)

	// The command pulls it on the first host's Engine. The registry goes down while the second one is at it.
	first, second := ds[0], ds[1]
	reg.SetFault(dockertest.Fault{Hold: true, Spares: es[0].IP})
	f.Must(t, "update", f.Project, "-c", "web")
	asked := f.State(t).Components["web"].Desired
	fleettest.Await(t, fleettest.Finally, "the first host is done", func() error { return serves(t, f, first.Host, 1) })
	reg.SetFault(dockertest.Fault{Down: true})
	fleettest.Await(t, fleettest.Finally, "the rollout halts", func() error {
		if r := f.State(t).Components["web"].Rollout; r.Status != component.RolloutHalted {
			return fmt.Errorf("it is %+v", r)
		}
		return nil
	})
	r := f.State(t).Components["web"].Rollout
	if r.Kind != component.PullFail || r.Host != second.Host || !strings.Contains(r.Reason, strings.TrimSuffix(ref, ":v3")) {
		t.Errorf("it halted as %s of host %s: %s; want a failed pull of %s by %s", r.Kind, r.Host, r.Reason, ref, second.Host)
	}
	t.Logf("halted: %s", r.Reason)
	answeredBy(t, first.URL(f.Port, "/"), "pulled")
	answeredBy(t, second.URL(f.Port, "/"), slowly(2))

	reg.SetFault(dockertest.Fault{})
	f.Must(t, "retry", f.Project, "-c", "web")
	for _, d := range ds {
		fleettest.Await(t, fleettest.Finally, d.Host+" serves what it pulled", func() error { return serves(t, f, d.Host, 1) })
		answeredBy(t, d.URL(f.Port, "/"), "pulled")
	}
	fleettest.Await(t, fleettest.Finally, "the rollout is done", func() error { return doneWith(t, f) })
	if now := f.State(t).Components["web"].Desired; now.Generation != asked.Generation || now.ImageID != asked.ImageID {
		t.Errorf("generation %d of image %s is asked for, want %d of %s still", now.Generation, now.ImageID, asked.Generation, asked.ImageID)
	}
	end()
}
