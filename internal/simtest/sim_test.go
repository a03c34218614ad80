package simtest

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/pkg/component"
)

// Promises of issue 4.
const (
	parallel  = 10
	maxWrites = 8   // of a host in its turn
	maxTime   = 1.2 // times the least
)

// A figure is what one rollout cost.
type figure struct {
	hosts int
	took  time.Duration
	load  etcdtest.Load
}

// least is how long the rollout takes when everything but getting ready takes no time.
func (g figure) least() time.Duration {
	return time.Duration((g.hosts+parallel-1)/parallel) * readyTime
}

func (g figure) factor() float64 { return g.took.Seconds() / g.least().Seconds() }

// writes is how many a host made in its turn.
func (g figure) writes() float64 { return float64(g.load.Writes) / float64(g.hosts) }

// roll updates the first component and waits until all of it is over.
func (f *fleet) roll(tb testing.TB, imageID string, during func()) figure {
	tb.Helper()
	before, began := f.member.Load(tb), time.Now()
	f.update(tb, f.specs[0], imageID)
	if during != nil {
		during()
	}
	f.done(tb, f.specs[0], 10*time.Minute)
	g := figure{hosts: len(f.hosts), took: time.Since(began)}
	g.load = f.member.Load(tb).Sub(before)
	f.rest(tb, 8*time.Minute)
	for _, h := range f.hosts {
		if !h.engine.serves(f.specs[0].Name, imageID) {
			tb.Errorf("host %s does not serve what was asked for", h.name)
		}
	}
	return g
}

func policy(n int) component.RolloutPolicy {
	none := component.Duration(0)
	return component.RolloutPolicy{MaxParallel: component.Share(n), Bake: &none}
}

// small is a fleet of which most hosts do not see all of the others.
const small = 30

// TestCountsStayBounded rolls a small fleet. Times are of no use on a busy machine; counts are.
func TestCountsStayBounded(t *testing.T) {
	f := newFleet(t, small, 3, policy(parallel))
	g := f.roll(t, imageTwo, nil)
	if g.writes() > maxWrites {
		t.Errorf("%.1f writes for each host and turn, want at most %d", g.writes(), maxWrites)
	}
	// A turn begins and ends with two keys each; what hosts say of themselves, about as much again and more,
	// goes to few.
	if n := float64(g.load.Events) / small / small; n > 7 {
		t.Errorf("each turn sent %.1f events to each daemon, want at most 7", n)
	}
	// Nobody waits for a timer; on a busy machine etcd takes its time for all that is written.
	if limit := 30*g.least() + time.Duration(g.load.Writes)*f.put(t); g.took > limit {
		t.Errorf("the rollout took %v, want less than %v", g.took, limit)
	}
}

// put is how long etcd takes for a write now.
func (f *fleet) put(t *testing.T) time.Duration {
	t.Helper()
	const n = 20
	began := time.Now()
	for range n {
		f.member.Put(t, "/put", "")
	}
	return time.Since(began) / n
}

// TestOtherProjectsAreNotWatched writes what another project's hosts would.
func TestOtherProjectsAreNotWatched(t *testing.T) {
	const writes = 500
	f := newFleet(t, 12, 2, policy(1))
	before := f.member.Load(t)
	for i := range writes {
		f.member.Put(t, fmt.Sprintf("/gantryd/projects/other/components/web/hosts/h%d", i%50), `{"host":"h","step":"serving"}`)
	}
	if got := f.member.Load(t).Sub(before); got.Writes < writes || got.Events >= writes {
		t.Errorf("%d writes in another project, and etcd sent %d events", got.Writes, got.Events)
	}
}

// TestRestartOfAllHostsDoesNotStopARollout restarts every daemon at once, some of them in their turns.
func TestRestartOfAllHostsDoesNotStopARollout(t *testing.T) {
	f := newFleet(t, small, 3, policy(parallel))
	f.roll(t, imageTwo, func() {
		await(t, "a host to begin", func() bool {
			return slices.ContainsFunc(f.hosts, func(h *host) bool { return !h.engine.serves(f.specs[0].Name, imageOne) })
		})
		f.restart(t)
	})
}

func await(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(5 * time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("wait for %s: not within 5 minutes", what)
		}
	}
}

// sizes is the variable that says which fleets TestTable measures.
const sizes = "GANTRYD_SIM"

// TestTable measures fleets of the sizes in GANTRYD_SIM.
func TestTable(t *testing.T) {
	wanted := os.Getenv(sizes)
	if wanted == "" {
		t.Skipf("%s names no sizes", sizes)
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "hosts\tleast\ttook\tfactor\twrites/turn\tproposals/turn\tevents/daemon\tKB/daemon\twatches\trestarted\t")
	for text := range strings.SplitSeq(wanted, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(text, func(t *testing.T) {
			f := newFleet(t, n, 20, policy(parallel))
			g := f.roll(t, imageTwo, nil)
			again := f.roll(t, imageOne, func() { f.restart(t) })
			fmt.Fprintf(w, "%d\t%v\t%.1fs\t%.2f\t%.1f\t%.1f\t%d\t%d\t%d\t%.1fs\t\n", n, g.least(), g.took.Seconds(), g.factor(), g.writes(),
				float64(g.load.Proposals)/float64(n), g.load.Events/int64(n), g.load.Sent/int64(n)>>10, g.load.Watchers, again.took.Seconds())
			if g.factor() > maxTime {
				t.Errorf("a rollout over %d hosts took %v, more than %.1f times %v", n, g.took, maxTime, g.least())
			}
			if g.writes() > maxWrites {
				t.Errorf("%.1f writes for each host and turn, more than %d", g.writes(), maxWrites)
			}
		})
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("a rollout of 1 of 20 components, %d hosts at a time, containers ready after %v:\n%s", parallel, readyTime, &out)
}
