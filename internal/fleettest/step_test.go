package fleettest_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
)

// TestFleetStepsFromHostToHost measures the time from the end of a host's turn, which is noted just before it is
// written to etcd, to the creation of the next host's container. It is to be under 60 ms on a machine with nothing
// else to do; what is checked is that nobody waits for a timer.
func TestFleetStepsFromHostToHost(t *testing.T) {
	f, ds := three(t)
	var steps, floors []time.Duration
	_, image := f.Docker.Image(t, version("v1"))
	for i := range count(10) {
		since := f.State(t).Cluster.Revision
		f.Release(t, "web", version(fmt.Sprintf("v%d", 2-i%2)))
		f.Update(t, "web")
		cs := changes(t, f, since+1)
		if len(cs) != len(ds) {
			t.Fatalf("%d hosts changed, want %d", len(cs), len(ds))
		}
		floors = append(floors, f.Docker.Floor(t, f.Project, image))
		for j, c := range cs[1:] {
			steps = append(steps, c.begin.Sub(cs[j].end))
		}
		for _, d := range ds { // what is drained and stopped is not in the way of the next round
			fleettest.Await(t, fleettest.Soon, "the old container is gone", func() error {
				if n := len(f.Containers(t, d.Host, "web")); n != 1 {
					return fmt.Errorf("%d containers", n)
				}
				return nil
			})
		}
	}
	slices.Sort(steps)
	slices.Sort(floors)
	median, floor := steps[len(steps)/2], floors[len(floors)/2]
	t.Logf("from the end of a turn to the next container: median %v, from %v to %v (%d steps)",
		median.Round(time.Millisecond), steps[0].Round(time.Millisecond), steps[len(steps)-1].Round(time.Millisecond), len(steps))
	if median > max(time.Second, 2*floor) {
		t.Errorf("half of the steps took more than %v, Docker Engine itself takes %v for a container", median, floor)
	}
}
