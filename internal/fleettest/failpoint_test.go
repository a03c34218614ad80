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

	"github.com/gantryd/gantryd/internal/dockertest"
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
	n       int           // of releases

	outer    testing.TB // the test that the fleet lives as long as
	web      component.Spec
	registry *dockertest.Registry // where web comes from; nil: the Engine has its images
	images   []string             // that came from there
}

func newTrap(t *testing.T) *trap {
	t.Helper()
	tr := &trap{file: filepath.Join(t.TempDir(), "failpoint"), outer: t}
	t.Cleanup(func() { // after the containers
		for _, id := range tr.images {
			tr.Docker.RemoveImage(t, id)
		}
	})
	f, ds := threeWith(t, []fleettest.Option{fleettest.With(fleettest.FailpointEnv + "=" + tr.file)}, func(s *component.Spec) {
		s.ReadyTimeout, s.Rollout.OnFailure = 10_000, component.OnFailureRollback // good ones too have to be ready in time
		s.DefineComponentLinks = []component.LinkDefinition{{Name: "page", Port: 8080}}
		tr.web = *s
	})
	tr.Fleet, tr.daemons = f, ds
	var urls []string
	for _, d := range ds {
		urls = append(urls, d.URL(f.Port, "/"))
	}
	tr.clients = startClients(t, urls)
	begun := time.Now()
	tr.next(t)
	tr.settled(t, fleettest.Finally)
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
func (tr *trap) right(t *testing.T) error { return tr.rolledOut(t, "web") }

func (tr *trap) rolledOut(t *testing.T, name string) error {
	t.Helper()
	v := tr.State(t).Components[name]
	if v.Rollout.Generation != v.Desired.Generation || v.Rollout.Status != component.RolloutDone {
		return fmt.Errorf("rollout of generation %d is %+v", v.Desired.Generation, v.Rollout)
	}
	if len(v.Turn.Holders)+len(v.Changing) > 0 {
		return fmt.Errorf("turns of %v, traces of %v", v.Turn.Holders, v.Changing)
	}
	for _, d := range tr.daemons {
		if err := servesA(t, tr.Fleet, name, d.Host, 1); err != nil {
			return fmt.Errorf("host %s: %w", d.Host, err)
		}
		for _, c := range tr.Containers(t, d.Host, name) {
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

// spring plays the scene with a daemon that dies at m, starts it again, and says how long it then took until all
// was right; false when nobody came to m.
func (tr *trap) spring(t *testing.T, m moment, sc scene) (time.Duration, bool) {
	t.Helper()
	right := sc.right
	if right == nil {
		right = tr.right
	}
	since := tr.State(t).Cluster.Revision
	tr.set(t, m)
	sc.play(t)
	var d *fleettest.Daemon
	fleettest.Await(t, fleettest.Finally, "a daemon dies, or all is right without", func() error {
		if d = tr.dead(); d != nil {
			return nil
		}
		return right(t)
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
	fleettest.Await(t, fleettest.Finally, "the fleet ends right", func() error { return right(t) })
	took := time.Since(died)
	if limit := allow(fleettest.LeaseTTL+10*time.Second, tr.quiet); took > limit {
		t.Errorf("%v: right after %v, want at most %v", m, took, limit)
	}
	changes(t, tr.Fleet, since) // no two hosts had turns at once
	return took, true
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
