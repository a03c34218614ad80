package fleettest_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// A scene is what goes on in a fleet when a daemon dies at a moment of it.
type scene struct {
	name  string
	all   []moment
	some  []moment // that stand for all when time is short
	play  func(*testing.T)
	right func(*testing.T) error // nil: web is rolled out
}

// scenes are where daemons come to each point. They are played in this order.
func scenes(tr *trap) []scene {
	return []scene{
		{
			name: "update",
			all: moments(failpoint.Containers, failpoint.ImagePresent, failpoint.TakeTurn, failpoint.Publish, failpoint.Create,
				failpoint.Start, failpoint.EndTurn, failpoint.PutRollout, failpoint.Stop, failpoint.Remove),
			some: []moment{
				{failpoint.TakeTurn, failpoint.After},
				{failpoint.Create, failpoint.After},
				{failpoint.Start, failpoint.After},
				{failpoint.EndTurn, failpoint.Before},
				{failpoint.EndTurn, failpoint.After},
			},
			play: tr.next,
		},
		{
			name: "restart in an update",
			all:  moments(failpoint.Revoke, failpoint.Grant, failpoint.Register, failpoint.Publish),
			some: []moment{{failpoint.Register, failpoint.After}},
			play: func(t *testing.T) { // the second daemon comes back while the fleet is at it
				d := tr.daemons[1]
				d.Kill(t)
				tr.next(t)
				d.Launch(t)
			},
		},
		{
			name: "bad release",
			all:  moments(failpoint.Logs, failpoint.EndTurn, failpoint.Rollback, failpoint.Stop),
			some: []moment{{failpoint.Rollback, failpoint.Before}},
			play: func(t *testing.T) { tr.bad(t, "NEVER_READY=1") },
		},
		{
			name: "release that ends at once",
			all:  moments(failpoint.ExitReason),
			play: func(t *testing.T) { tr.bad(t, "CRASH_AFTER=0s") },
		},
		{name: "host comes back to another order", all: moments(failpoint.Returned), play: tr.comeBack},
		{name: "new component", all: moments(failpoint.PublishMachine), play: tr.configureMore},
		{
			name:  "component with a link",
			all:   moments(failpoint.Gateway),
			play:  func(t *testing.T) { tr.nextSide(t, false) },
			right: func(t *testing.T) error { return tr.rolledOut(t, "side") },
		},
		{
			name:  "kill",
			all:   moments(failpoint.Kill),
			play:  func(t *testing.T) { tr.nextSide(t, true); tr.Must(t, "kill", tr.Project, "-c", "side") },
			right: func(t *testing.T) error { return tr.gone(t, "side") },
		},
		{name: "image that is not there", all: moments(failpoint.Pull), play: tr.rollBackToRemovedImage},
		{name: "one release after another", all: moments(failpoint.RemoveImage), play: tr.manyImages},
	}
}

// TestDaemonKilledAtEachFailpoint ends one of three daemons before and after each write to etcd and each call of
// the Engine, in the middle of an update under traffic, and starts it again.
func TestDaemonKilledAtEachFailpoint(t *testing.T) {
	all := os.Getenv(allFailpoints) != ""
	tr := newTrap(t)
	for _, sc := range scenes(tr) {
		ms := sc.some
		if all {
			ms = sc.all
		}
		for _, m := range ms {
			t.Run(sc.name+"/"+m.String(), func(t *testing.T) {
				took, hit := tr.spring(t, m, sc)
				if !hit {
					t.Fatalf("%s: nobody came to %v", sc.name, m)
				}
				t.Logf("%s, killed %v: right after %v", sc.name, m, took.Round(10*time.Millisecond))
			})
			if t.Failed() {
				return
			}
		}
	}
	served, failed := tr.clients.stop()
	t.Logf("an undisturbed update takes %v; %d requests, %d failed", tr.quiet.Round(10*time.Millisecond), served, len(failed))
	for _, err := range failed[:min(5, len(failed))] {
		t.Error(err)
	}
	if served == 0 {
		t.Error("no traffic")
	}
}

func TestEveryFailpointIsInAScene(t *testing.T) {
	var played []moment
	for _, sc := range scenes(&trap{}) {
		played = append(played, sc.all...)
	}
	for _, m := range moments(failpoint.All()...) {
		if !slices.Contains(played, m) {
			t.Errorf("no scene has %q", m)
		}
	}
}

// bad rolls out a release that fails, and waits until it is rolled back, or a daemon has died of it.
func (tr *trap) bad(t *testing.T, env string) {
	t.Helper()
	tr.n++
	v := version(fmt.Sprintf("bad%d", tr.n))
	v.Env = []string{env}
	tr.Release(t, "web", v)
	tr.Must(t, "update", tr.Project, "-c", "web")
	tr.unlessDead(t, "it is rolled back", func() error {
		if tr.State(t).Components["web"].Desired.Automatic {
			return nil
		}
		return errors.New("it is not")
	})
}

// unlessDead waits until look returns nil, or a daemon is dead.
func (tr *trap) unlessDead(t *testing.T, what string, look func() error) {
	t.Helper()
	fleettest.Await(t, fleettest.Finally, what+", or a daemon dies", func() error {
		if tr.dead() != nil {
			return nil
		}
		return look()
	})
}

// comeBack lets a host die in its turn, takes the release back meanwhile, and starts the host again: there is
// nothing to do any more but to say that it is back.
func (tr *trap) comeBack(t *testing.T) {
	t.Helper()
	tr.n++
	v := version(fmt.Sprintf("v%d", 1+tr.n%2))
	v.Env = []string{"READY_AFTER=" + turns.String()}
	tr.Release(t, "web", v)
	tr.Must(t, "update", tr.Project, "-c", "web")
	holder := inItsTurn(t, tr.Fleet)
	d := tr.daemons[slices.IndexFunc(tr.daemons, func(d *fleettest.Daemon) bool { return d.Host == holder })]
	d.Kill(t)
	fleettest.Await(t, fleettest.Finally, "host "+holder+" is lost in its turn", func() error {
		if v := tr.State(t).Components["web"]; len(v.Turn.Holders) > 0 || !slices.Contains(v.Lost(""), holder) {
			return fmt.Errorf("turns of %v, lost %v", v.Turn.Holders, v.Lost(""))
		}
		return nil
	})
	tr.Must(t, "rollback", tr.Project, "-c", "web")
	d.Launch(t)
}

// configureMore stores a component that no image is known of yet: each host says that it knows it.
func (tr *trap) configureMore(t *testing.T) {
	t.Helper()
	tr.n++
	more := tr.side()
	more.Name = fmt.Sprintf("more%d", tr.n)
	tr.Configure(t, tr.web, tr.side(), more)
	tr.unlessDead(t, "every host knows it", func() error {
		for host, m := range tr.State(t).Machines {
			if !slices.Contains(m.Components, more.Name) {
				return fmt.Errorf("host %s knows %v", host, m.Components)
			}
		}
		return nil
	})
}

// side is a component beside web, without traffic, that needs a link to it.
func (tr *trap) side() component.Spec {
	s := tr.Web()
	s.Name, s.Repo, s.Ports = "side", tr.Repo("side"), nil
	s.RequireComponentLinks = []component.LinkRequest{{Name: "page", Alias: "page"}}
	return s
}

// nextSide asks for the next release of side, and may wait for it.
func (tr *trap) nextSide(t *testing.T, wait bool) {
	t.Helper()
	tr.n++
	tr.Configure(t, tr.web, tr.side())
	tr.Release(t, "side", version(fmt.Sprintf("side%d", tr.n%2)))
	if wait {
		tr.Update(t, "side")
		return
	}
	tr.Must(t, "update", tr.Project, "-c", "side")
}

// gone returns an error unless no container of the component is left, and web serves on.
func (tr *trap) gone(t *testing.T, name string) error {
	t.Helper()
	if cs := tr.Containers(t, "", name); len(cs) > 0 {
		return fmt.Errorf("%d containers of %s, one of them %s", len(cs), name, cs[0].State)
	}
	return tr.right(t)
}

// push makes a new image the newest in a registry, from where web comes from now on, asks for it, and returns
// its ID.
func (tr *trap) push(t *testing.T) (imageID string) {
	t.Helper()
	if tr.registry == nil {
		tr.registry = dockertest.StartRegistry(tr.outer)
		tr.web.Repo = tr.registry.Host + "/shop/web"
		tr.Configure(t, tr.web, tr.side())
	}
	tr.n++
	img := dockertest.Build(t, dockertest.Variant{Version: fmt.Sprintf("v%d", tr.n), Extra: rand.Text()})
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	tr.images = append(tr.images, id.String())
	tr.registry.Push(t, strings.TrimPrefix(tr.web.Repo, tr.registry.Host+"/")+":latest", img)
	tr.Must(t, "update", tr.Project, "-c", "web", "--pull", "always")
	return id.String()
}

// rollBackToRemovedImage goes back to a release whose image somebody has removed from the Engine.
func (tr *trap) rollBackToRemovedImage(t *testing.T) {
	t.Helper()
	first := tr.push(t)
	tr.settled(t, fleettest.Finally)
	tr.push(t)
	tr.settled(t, fleettest.Finally)
	fleettest.Await(t, fleettest.Soon, "no container has the old image", func() error {
		for _, c := range tr.Containers(t, "", "web") {
			if c.ImageID == first {
				return fmt.Errorf("%s has it", c.Name)
			}
		}
		return nil
	})
	tr.Docker.RemoveImage(t, first)
	tr.Must(t, "rollback", tr.Project, "-c", "web")
}

// manyImages rolls out so many releases that hosts remove the images of the oldest.
func (tr *trap) manyImages(t *testing.T) {
	t.Helper()
	for range 8 {
		tr.push(t)
		tr.unlessDead(t, "it is rolled out", func() error { return tr.right(t) })
		if tr.dead() != nil {
			return
		}
	}
}
