package fleettest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// bystanders are containers that gantryd must not touch: one without labels, one of another project,
// one of this project on another host.
func bystanders(t *testing.T, f *fleettest.Fleet) func() {
	t.Helper()
	ref, _ := f.Docker.Image(t, version("v1"))
	// What makes each of them somebody else's is one label; all are found by this one.
	mine := "fleettest=" + f.Project
	run := func(project, host string) {
		labels := map[string]string{"fleettest": f.Project}
		if project != "" {
			labels[dockertest.LabelProject], labels["dev.gantryd.host"] = project, host
			labels["dev.gantryd.component"] = "web"
		}
		f.Docker.Run(t, ref, labels)
	}
	run("", "")
	run("not-"+f.Project, "h1")
	run(f.Project, "another-host")
	before := f.Docker.Containers(t, mine)
	return func() {
		t.Helper()
		if diff := cmp.Diff(before, f.Docker.Containers(t, mine)); diff != "" {
			t.Errorf("containers that are not ours changed (-before +after):\n%s", diff)
		}
	}
}

func TestDaemonKilledAtAnyPointOfAnUpdateEndsRight(t *testing.T) {
	f, d := serving(t, func(s *component.Spec) { s.Drain.Timeout = component.Duration(5 * time.Second) })
	unharmed := bystanders(t, f)
	var slowest time.Duration
	for i := range count(50) {
		image := f.Release(t, "web", version(fmt.Sprintf("v%d", 2-i%2)))
		f.Must(t, "update", f.Project, "-c", "web")
		delay := rand.N(600 * time.Millisecond)
		fleettest.Pass(t, delay)
		d.Kill(t)
		killed := time.Now()
		d.Start(t)
		fleettest.Await(t, fleettest.Finally, fmt.Sprintf("round %d, killed after %v, ends right", i, delay), func() error {
			return rightEnd(t, f, image)
		})
		slowest = max(slowest, time.Since(killed))
		answeredBy(t, d.URL(f.Port, "/"), fmt.Sprintf("v%d", 2-i%2))
		unharmed()
		if t.Failed() {
			t.Fatalf("round %d, killed after %v", i, delay)
		}
	}
	t.Logf("the slowest round took %v from the kill to the end", slowest.Round(10*time.Millisecond))
}

// rightEnd returns an error unless one container of that image runs, no other is there, and the
// rollout is recorded as done.
func rightEnd(t *testing.T, f *fleettest.Fleet, imageID string) error {
	t.Helper()
	cs := f.Containers(t, "h1", "web")
	if len(cs) != 1 || !cs[0].Running() || cs[0].ImageID != imageID {
		states := make([]string, 0, len(cs))
		for _, c := range cs {
			states = append(states, c.Name+" "+c.State)
		}
		return fmt.Errorf("containers %q, want one of image %s", states, imageID)
	}
	v := f.State(t).Components["web"]
	if v.Rollout.Generation != v.Desired.Generation || v.Rollout.Status != component.RolloutDone {
		return fmt.Errorf("rollout of generation %d is %+v", v.Desired.Generation, v.Rollout)
	}
	return nil
}

func TestDaemonRestartChangesNoContainer(t *testing.T) {
	f, d := serving(t)
	before := f.Containers(t, "h1", "web")
	for _, end := range []func(testing.TB){d.Stop, d.Kill, d.Stop} {
		end(t)
		if diff := cmp.Diff(before, f.Containers(t, "h1", "web")); diff != "" {
			t.Errorf("containers without a daemon (-before +after):\n%s", diff)
		}
		begin := time.Now()
		d.Start(t)
		answeredBy(t, d.URL(f.Port, "/"), "v1")
		t.Logf("serving again after %v", time.Since(begin).Round(10*time.Millisecond))
		fleettest.Await(t, fleettest.Soon, "the host says that it serves", func() error { return serves(t, f, "h1", 1) })
		if diff := cmp.Diff(before, f.Containers(t, "h1", "web")); diff != "" {
			t.Errorf("containers after the restart (-before +after):\n%s", diff)
		}
	}
}

func TestSecondDaemonOfOneNameRefuses(t *testing.T) {
	t.Parallel()
	f, d := serving(t)
	before := f.Containers(t, "h1", "web")
	t.Run("in the same data directory", func(t *testing.T) {
		second := f.Daemon(t, "h1", "--data-dir", d.DataDir)
		second.Launch(t)
		if code := second.Wait(t, fleettest.Finally); code == 0 {
			t.Errorf("it ended with 0:\n%s", second.Log())
		}
		t.Log(second.Log())
	})
	t.Run("in another one", func(t *testing.T) {
		second := f.Daemon(t, "h1")
		second.Launch(t)
		if code := second.Wait(t, fleettest.Finally); code == 0 {
			t.Errorf("it ended with 0:\n%s", second.Log())
		}
		t.Log(second.Log())
	})
	if diff := cmp.Diff(before, f.Containers(t, "h1", "web")); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
	answeredBy(t, d.URL(f.Port, "/"), "v1")
	f.Release(t, "web", version("v2"))
	f.Update(t, "web")
	ids := []string{}
	for _, c := range f.Running(t, "h1", "web") {
		ids = append(ids, c.ID)
	}
	if slices.Contains(ids, before[0].ID) && len(ids) == 1 {
		t.Error("the update changed nothing")
	}
}
