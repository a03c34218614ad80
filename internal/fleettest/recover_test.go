package fleettest_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// rounds is one, and with all failpoints enough for a median.
func rounds() int {
	if os.Getenv(allFailpoints) != "" {
		return 7
	}
	return 1
}

// busyMachine is how long an update of three hosts takes on a machine that has something else to do.
const busyMachine = 5 * time.Second

// allow is a limit, and more where the fleet shares the machine: then an update takes that long when nobody dies.
func allow(limit, quiet time.Duration) time.Duration {
	if os.Getenv(allFailpoints) == "" || quiet > busyMachine {
		limit += 2 * quiet
	}
	return limit
}

// middle is the median.
func middle(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2].Round(10 * time.Millisecond)
}

// Two seconds and the life of a lease after kill -9 of the host whose turn it is, the next host has a turn. Two
// seconds after its daemon is started again, the killed host's proxy answers.
func TestFleetRecoversFromADeathInATurn(t *testing.T) {
	f, ds := three(t, func(s *component.Spec) { s.Rollout.OnHostLost = component.OnLostContinue })
	begun := time.Now()
	f.Release(t, "web", version(slowly(100)))
	f.Update(t, "web")
	quiet := time.Since(begun)
	var next, again []time.Duration
	for n := range rounds() {
		holder := roll(t, f, n+2)
		d := ds[slices.IndexFunc(ds, func(d *fleettest.Daemon) bool { return d.Host == holder })]
		d.Kill(t)
		killed := time.Now()
		fleettest.Await(t, fleettest.Finally, "another host has a turn", func() error {
			if hs := f.State(t).Components["web"].Turn.Holders; len(hs) != 1 || hs[0] == holder {
				return fmt.Errorf("turns of %v", hs)
			}
			return nil
		})
		next = append(next, time.Since(killed))
		started := time.Now()
		d.Launch(t)
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: fleettest.Soon}
		if _, err := fleettest.Get(t.Context(), c, d.URL(f.Port, "/")); err != nil { // it waits for the daemon
			t.Errorf("after the restart of %s: %v", d.Host, err)
		}
		again = append(again, time.Since(started))
		allServe(t, f, ds, n+2)
	}
	t.Logf("from kill -9 in its turn to the next host's turn: median %v of %d, TTL %v; from a daemon's start to an answer through its proxy: %v; an undisturbed update takes %v",
		middle(next), len(next), fleettest.LeaseTTL, middle(again), quiet.Round(10*time.Millisecond))
	if limit := allow(fleettest.LeaseTTL+2*time.Second, quiet); middle(next) > limit {
		t.Errorf("the next host had its turn after %v, want at most %v", middle(next), limit)
	}
	if limit := allow(2*time.Second, quiet); middle(again) > limit {
		t.Errorf("the proxy answered after %v, want at most %v", middle(again), limit)
	}
}
