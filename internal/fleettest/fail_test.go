package fleettest_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// A release that fails must halt with a reason, leave the old one serving, and cost no request.
func TestFailedReleaseHaltsAndOldOneServes(t *testing.T) {
	every := component.Duration(200 * time.Millisecond)
	watched := func(bake time.Duration) func(*component.Spec) {
		return func(s *component.Spec) {
			b := component.Duration(bake)
			s.Rollout.Bake = &b
			s.HealthChecks = []component.Check{{ID: "pulse", Kind: component.CheckHTTP, Port: 8080, Path: "/healthz", Interval: every}}
		}
	}
	tests := []struct {
		name   string
		edit   func(*component.Spec)
		bad    dockertest.Variant
		status string   // as list shows it
		says   []string // by update --wait
	}{
		{
			"never ready", func(s *component.Spec) { s.ReadyTimeout = 2000 },
			dockertest.Variant{Version: "bad", Env: []string{"NEVER_READY=1", "PRINT=looking for my key"}},
			"updatefail",
			[]string{"host h1: not ready after 2s", "ready page", "503", "looking for my key"},
		},
		{
			"crashes at once", func(*component.Spec) {},
			dockertest.Variant{Version: "bad", Env: []string{"CRASH_AFTER=0s", "EXIT_CODE=7", "PRINT=no such table"}},
			"updatefail",
			[]string{"host h1: container ended", "7", "no such table"},
		},
		{
			"turns unhealthy after 20 s", watched(30 * time.Second),
			dockertest.Variant{Version: "bad", Env: []string{"UNHEALTHY_AFTER=20s", "PRINT=all is well so far"}},
			"updatefail",
			[]string{"host h1: unhealthy", "pulse", "503", "all is well so far"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, d := serving(t)
			spec := f.Web()
			tt.edit(&spec)
			f.Configure(t, spec)
			load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 1, KeepAlive: 1, Streams: 1, StreamFor: 3 * time.Second})
			f.Release(t, "web", tt.bad)
			r := f.Gantryd(t, "update", f.Project, "-c", "web", "--wait", "--timeout", "3m")
			t.Log(r)
			if r.Code != 1 {
				t.Errorf("update --wait: exit code %d, want 1", r.Code)
			}
			for _, s := range tt.says {
				if !strings.Contains(r.Err, s) {
					t.Errorf("update --wait does not say %q", s)
				}
			}
			if out := f.Must(t, "list", f.Project).Out; !strings.Contains(out, tt.status) {
				t.Errorf("list does not show %q:\n%s", tt.status, out)
			}
			answeredBy(t, d.URL(f.Port, "/"), "v1")
			load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream)

			// The failed container is kept, and the next release is a new try.
			onlyServing(t, f, "h1", "web", 1)
			f.Configure(t, f.Web())
			f.Release(t, "web", version("v2"))
			f.Update(t, "web")
			answeredBy(t, d.URL(f.Port, "/"), "v2")
		})
	}
}

func TestImageThatCannotBePulledHaltsTheRollout(t *testing.T) {
	t.Parallel()
	img := dockertest.Build(t, dockertest.Variant{Version: "v9", Extra: rand.Text()})
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	dockertest.Forget(t, id.String())
	f, d := serving(t)
	reg := dockertest.StartRegistry(t)
	ref, _ := reg.Push(t, "shop/web:v9", img)
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 1, KeepAlive: 1})
	spec := f.Web()
	spec.Repo, spec.Tag = strings.TrimSuffix(ref, ":v9"), "v9"
	f.Configure(t, spec)

	// The operator's machine cannot pull it: nothing is changed.
	reg.SetFault(dockertest.Fault{Manifests: http.StatusNotFound})
	before := f.State(t).Components["web"].Desired.Generation
	if r := f.Gantryd(t, "update", f.Project, "-c", "web", "--wait"); r.Code == 0 || !strings.Contains(r.Err, "shop/web:v9") {
		t.Errorf("update of an image that cannot be pulled: %v", r)
	}
	if after := f.State(t).Components["web"].Desired.Generation; after != before {
		t.Errorf("generation went from %d to %d", before, after)
	}

	// It can, but the host cannot: somebody removed the image in between.
	reg.SetFault(dockertest.Fault{})
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive)
	d.Kill(t)
	f.Must(t, "update", f.Project, "-c", "web")
	f.Docker.Untag(t, ref)
	reg.SetFault(dockertest.Fault{User: "somebody", Password: "else"}) // a mere 404 the Engine may get round: it keeps manifests for a while
	d.Start(t)
	fleettest.Await(t, fleettest.Finally, "the rollout halts", func() error {
		if r := f.State(t).Components["web"].Rollout; r.Status != component.RolloutHalted || r.Kind != component.PullFail {
			return fmt.Errorf("rollout is %+v", r)
		}
		return nil
	})
	if out := f.Must(t, "list", f.Project).Out; !strings.Contains(out, "pullfail") {
		t.Errorf("list does not show pullfail:\n%s", out)
	}
	answeredBy(t, d.URL(f.Port, "/"), "v1")
	reg.SetFault(dockertest.Fault{})
	f.Update(t, "web")
	answeredBy(t, d.URL(f.Port, "/"), "v9")
}

func TestContainerThatTurnsUnhealthyIsReplaced(t *testing.T) {
	t.Parallel()
	f, d := serving(t, func(s *component.Spec) {
		s.HealthChecks = []component.Check{{Kind: component.CheckHTTP, Port: 8080, Path: "/healthz", Interval: component.Duration(200 * time.Millisecond)}}
	})
	f.Release(t, "web", dockertest.Variant{Version: "v2", Env: []string{"UNHEALTHY_AFTER=20s"}})
	f.Update(t, "web") // it lasts longer than the bake
	first := onlyServing(t, f, "h1", "web", 0)
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Short: 1, KeepAlive: 1, Streams: 1, StreamFor: 5 * time.Second})
	fleettest.Await(t, fleettest.Finally, "another container serves", func() error {
		for _, h := range f.State(t).Components["web"].Hosts {
			for _, c := range h.Containers {
				if c.Primary && c.ID != first.ID {
					return nil
				}
			}
		}
		return fmt.Errorf("%s still does", first.ID)
	})
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream)
}

func TestStopDrainsAndKillDoesNot(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"stop", "kill"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			f, d := serving(t)
			streams := map[string]time.Duration{"stop": 6 * time.Second, "kill": 2 * time.Minute} // which kill cuts
			load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: d.URL(f.Port, "/"), Streams: 1, StreamFor: streams[action]})
			fleettest.Await(t, 5*time.Second, "the stream runs", func() error {
				if load.Tally().Open == 0 {
					return fmt.Errorf("it does not")
				}
				return nil
			})
			load.Last() // the port will be closed to another stream
			f.Must(t, action, f.Project, "-c", "web")
			fleettest.Await(t, fleettest.Soon, "the port is closed", func() error {
				if _, err := fleettest.Get(t.Context(), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, d.URL(f.Port, "/")); err == nil {
					return fmt.Errorf("it answers")
				}
				return nil
			})
			tally := load.Stop()
			if cut := len(tally.Failures) > 0; cut != (action == "kill") {
				t.Errorf("after %s: %v, failures %v", action, tally, tally.Failures)
			}
			fleettest.Await(t, fleettest.Soon, "no container is left", func() error {
				if n := len(f.Containers(t, "h1", "web")); n > 0 {
					return fmt.Errorf("%d are", n)
				}
				return nil
			})
			// It stays down, also for a daemon that starts later, until the next update.
			d.Stop(t)
			d.Start(t)
			if n := len(f.Containers(t, "h1", "web")); n > 0 {
				t.Errorf("%d containers after the daemon's restart", n)
			}
			f.Update(t, "web")
			answeredBy(t, d.URL(f.Port, "/"), "v1")
		})
	}
}
