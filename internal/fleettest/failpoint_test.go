package fleettest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// allFailpoints asks for every point; without it some stand for all.
const allFailpoints = "GANTRYD_FAILPOINTS"

// A moment is before or after a point.
type moment struct {
	point failpoint.Point
	when  string
}

func (m moment) String() string { return string(m.point) + " " + m.when }

// moments are both of each point.
func moments(points ...failpoint.Point) []moment {
	var ms []moment
	for _, p := range points {
		ms = append(ms, moment{p, failpoint.Before}, moment{p, failpoint.After})
	}
	return ms
}

// A trap is a fleet in which one daemon dies at a moment.
type trap struct {
	*fleettest.Fleet
	daemons []*fleettest.Daemon
	file    string
	clients *clients
	quiet   time.Duration // what an update takes when nobody dies
	n       int           // of updates
}

func newTrap(t *testing.T) *trap {
	t.Helper()
	tr := &trap{file: filepath.Join(t.TempDir(), "failpoint")}
	f, ds := threeWith(t, []fleettest.Option{fleettest.With(fleettest.FailpointEnv + "=" + tr.file)}, func(s *component.Spec) {
		s.ReadyTimeout, s.Rollout.OnFailure = 10_000, component.OnFailureRollback // good ones too have to be ready in time
	})
	tr.Fleet, tr.daemons = f, ds
	var urls []string
	for _, d := range ds {
		urls = append(urls, d.URL(f.Port, "/"))
	}
	tr.clients = startClients(t, urls)
	begun := time.Now()
	tr.next(t)
	tr.settled(t, time.Minute)
	tr.quiet = time.Since(begun)
	return tr
}

// next asks for the next release.
func (tr *trap) next(t *testing.T) {
	t.Helper()
	tr.n++
	tr.Release(t, "web", version(fmt.Sprintf("v%d", 1+tr.n%2)))
	tr.Must(t, "update", tr.Project, "-c", "web")
}

// set makes the first daemon that gets there die.
func (tr *trap) set(t *testing.T, m moment) {
	t.Helper()
	temp := tr.file + ".new"
	if err := os.WriteFile(temp, []byte(m.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, tr.file); err != nil {
		t.Fatal(err)
	}
}

// dead is the daemon that died, nil when none did.
func (tr *trap) dead() *fleettest.Daemon {
	i := slices.IndexFunc(tr.daemons, func(d *fleettest.Daemon) bool { return !d.Running() })
	if i < 0 {
		return nil
	}
	return tr.daemons[i]
}

// right returns an error unless every host serves the wanted release with one container, nothing else runs
// or is left over, and the rollout is done.
func (tr *trap) right(t *testing.T) error {
	t.Helper()
	v := tr.State(t).Components["web"]
	if v.Rollout.Generation != v.Desired.Generation || v.Rollout.Status != component.RolloutDone {
		return fmt.Errorf("rollout of generation %d is %+v", v.Desired.Generation, v.Rollout)
	}
	if len(v.Turn.Holders)+len(v.Changing) > 0 {
		return fmt.Errorf("turns of %v, traces of %v", v.Turn.Holders, v.Changing)
	}
	for _, d := range tr.daemons {
		if err := serves(t, tr.Fleet, d.Host, 1); err != nil {
			return fmt.Errorf("host %s: %w", d.Host, err)
		}
		for _, c := range tr.Containers(t, d.Host, "web") {
			switch {
			case c.Running() && c.ImageID != v.Desired.ImageID:
				return fmt.Errorf("host %s runs image %s", d.Host, c.ImageID)
			case c.State == "created":
				return fmt.Errorf("host %s has a container that was never started", d.Host)
			}
		}
	}
	return nil
}

func (tr *trap) settled(t *testing.T, within time.Duration) {
	t.Helper()
	fleettest.Await(t, within, "the fleet ends right", func() error { return tr.right(t) })
}

// spring lets a daemon die at m while do goes on, starts it again, and says how long it then took until all was
// right; false when nobody came to m.
func (tr *trap) spring(t *testing.T, m moment, do func()) (time.Duration, bool) {
	t.Helper()
	since := tr.State(t).Cluster.Revision
	tr.set(t, m)
	do()
	var d *fleettest.Daemon
	fleettest.Await(t, fleettest.Finally, "a daemon dies, or all is right without", func() error {
		if d = tr.dead(); d != nil {
			return nil
		}
		return tr.right(t)
	})
	if d == nil && os.Remove(tr.file) == nil {
		return 0, false
	}
	died := time.Now()
	fleettest.Await(t, fleettest.Soon, "who came to the point is dead", func() error {
		if d = tr.dead(); d == nil {
			return errors.New("all daemons run")
		}
		return nil
	})
	d.Kill(t) // it is dead; this notes it
	d.Start(t)
	tr.settled(t, time.Minute)
	took := time.Since(died)
	// The rest of the rollout takes its own time.
	if limit := fleettest.LeaseTTL + 10*time.Second + 2*tr.quiet; took > limit {
		t.Errorf("%v: right after %v, want at most %v", m, took, limit)
	}
	changes(t, tr.Fleet, since) // no two hosts had turns at once
	return took, true
}

// TestDaemonKilledAtEachFailpoint ends one of three daemons before and after each write to etcd and each call of
// the Engine, in the middle of an update under traffic, and starts it again.
func TestDaemonKilledAtEachFailpoint(t *testing.T) {
	all := os.Getenv(allFailpoints) != ""
	update := []moment{
		{failpoint.TakeTurn, failpoint.After},
		{failpoint.Create, failpoint.After},
		{failpoint.Start, failpoint.After},
		{failpoint.EndTurn, failpoint.Before},
		{failpoint.EndTurn, failpoint.After},
	}
	back := []moment{{failpoint.Rollback, failpoint.Before}}
	again := []moment{{failpoint.Register, failpoint.After}}
	if all {
		update = moments(failpoint.Containers, failpoint.ImagePresent, failpoint.TakeTurn, failpoint.Publish, failpoint.Create,
			failpoint.Start, failpoint.EndTurn, failpoint.PutRollout, failpoint.Stop, failpoint.Remove)
		back = moments(failpoint.Logs, failpoint.EndTurn, failpoint.Rollback, failpoint.Stop)
		again = moments(failpoint.Revoke, failpoint.Grant, failpoint.Register, failpoint.PublishMachine, failpoint.Publish)
	}
	tr := newTrap(t)
	run := func(story string, ms []moment, do func()) {
		for _, m := range ms {
			took, hit := tr.spring(t, m, do)
			if !hit {
				t.Errorf("%s: nobody came to %v", story, m)
			}
			t.Logf("%s, killed %v: right after %v", story, m, took.Round(10*time.Millisecond))
			if t.Failed() {
				break
			}
		}
	}
	run("update", update, func() { tr.next(t) })
	run("restart in an update", again, func() { // the second daemon comes back while the fleet is at it
		d := tr.daemons[1]
		d.Kill(t)
		tr.next(t)
		d.Launch(t)
	})
	bad := 0
	run("bad release", back, func() {
		bad++
		v := version(fmt.Sprintf("bad%d", bad))
		v.Env = []string{"NEVER_READY=1"}
		tr.Release(t, "web", v)
		tr.Must(t, "update", tr.Project, "-c", "web")
		fleettest.Await(t, fleettest.Finally, "it is rolled back, or a daemon dies", func() error {
			if tr.dead() != nil || tr.State(t).Components["web"].Desired.Automatic {
				return nil
			}
			return errors.New("it is not")
		})
	})
	served, failed := tr.clients.stop()
	t.Logf("an undisturbed update takes %v; %d requests, %d failed", tr.quiet.Round(10*time.Millisecond), served, len(failed))
	for _, err := range failed[:min(5, len(failed))] {
		t.Error(err)
	}
	if served == 0 {
		t.Error("no traffic")
	}
}

// clients ask one host after another, as a load balancer does: a request that ended with a daemon, in whose
// process the proxy is, goes to the next host. It has failed when no host answers.
type clients struct {
	urls []string
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	served int
	failed []error
}

func startClients(t *testing.T, urls []string) *clients {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	c := &clients{urls: urls, end: cancel}
	for i := range 2 * len(urls) {
		c.wg.Go(func() { c.ask(ctx, i) })
	}
	t.Cleanup(func() { c.stop() })
	return c
}

// stop ends the clients and says what came of their requests.
func (c *clients) stop() (served int, failed []error) {
	c.end()
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served, c.failed
}

func (c *clients) ask(ctx context.Context, first int) {
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: fleettest.Soon}
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		var errs []error
		for i := range c.urls {
			_, err := fleettest.Get(context.WithoutCancel(ctx), web, c.urls[(first+i)%len(c.urls)])
			if err == nil {
				errs = nil
				break
			}
			errs = append(errs, err)
		}
		c.mu.Lock()
		c.served++
		if len(errs) > 0 {
			c.failed = append(c.failed, fmt.Errorf("%s: %w", time.Now().Format(time.TimeOnly), errors.Join(errs...)))
		}
		c.mu.Unlock()
	}
}
