package fleettest_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// pair is a fleet of two hosts that serve web, which imports a link, and db, which exports it.
func pair(t *testing.T) (f *fleettest.Fleet, web, db component.Spec) {
	t.Helper()
	f = fleettest.New(t)
	for _, h := range []string{"h1", "h2"} {
		f.Daemon(t, h).Start(t)
	}
	web, db = linked(f)
	web.ReadyTimeout, db.ReadyTimeout = 10_000, 10_000
	f.Configure(t, web, db)
	f.Release(t, "web", version("v1"))
	f.Release(t, "db", version("d1"))
	r := f.Must(t, "update", f.Project, "--all", "--wait", "--timeout", "3m")
	if !strings.Contains(r.Out, "web: component db comes first") && !strings.Contains(r.Out, "web: done") {
		t.Errorf("update --all = %v", r)
	}
	return f, web, db
}

// stands is the image and the status of a rollout, by component.
func stands(t *testing.T, f *fleettest.Fleet, want ...string) error {
	t.Helper()
	var got []string
	for _, name := range []string{"web", "db"} {
		v := f.State(t).Components[name]
		image := v.Desired.ImageID
		for _, h := range v.Hosts {
			for _, c := range h.Containers {
				if c.Stage < component.Stopped && c.ImageID != image {
					image = "mixed"
				}
			}
		}
		got = append(got, fmt.Sprintf("%s %s", component.Short(image), v.Record().Status))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%q, want %q", got, want)
	}
	return nil
}

func bad(v string) dockertest.Variant {
	b := version(v)
	b.Env = append(b.Env, "NEVER_READY=1")
	return b
}

func TestAllComponentsFollowTheirLinks(t *testing.T) {
	t.Parallel()
	f, _, _ := pair(t)
	v2, d2 := f.Release(t, "web", version("v2")), f.Release(t, "db", version("d2"))
	plan := f.Gantryd(t, "plan", f.Project, "--all")
	if plan.Code != 10 || strings.Index(plan.Out, "db: update") > strings.Index(plan.Out, "web: update") || !strings.Contains(plan.Out, "after db") {
		t.Errorf("plan = %v", plan)
	}
	f.Must(t, "update", f.Project, "--all") // and nobody stays for it
	fleettest.Await(t, fleettest.Finally, "both are done", func() error {
		return stands(t, f, component.Short(v2)+" done", component.Short(d2)+" done")
	})
	var dbEnds, webBegins time.Time // of those that are new
	for _, c := range f.Containers(t, "", "db") {
		if c.ImageID == d2 && c.Created.After(dbEnds) {
			dbEnds = c.Created
		}
	}
	for _, c := range f.Containers(t, "", "web") {
		if c.ImageID == v2 && (webBegins.IsZero() || c.Created.Before(webBegins)) {
			webBegins = c.Created
		}
	}
	if !dbEnds.Before(webBegins) {
		t.Errorf("the first web began at %v, the last db at %v", webBegins, dbEnds)
	}
	if r := f.Must(t, "update", f.Project, "--all"); !strings.Contains(r.Out, "Component web: nothing to do") {
		t.Errorf("update --all of what is there = %v", r)
	}
}

func TestFirstFailureStopsTheOthers(t *testing.T) {
	t.Parallel()
	f, _, _ := pair(t)
	before := f.State(t).Components["web"].Hosts["h1"].Containers[0].ID
	v2 := f.Release(t, "web", version("v2"))
	f.Release(t, "db", bad("d2"))
	r := f.Gantryd(t, "update", f.Project, "--all", "--wait", "--timeout", "3m")
	if r.Code != 1 || !strings.Contains(r.Err, `update "db" halted`) {
		t.Errorf("update --all = %v", r)
	}
	v := f.State(t).Components["web"]
	if v.Desired.ImageID != v2 || v.Rollout.Status != component.RolloutHalted || v.Rollout.Kind != component.Skipped || !strings.Contains(v.Rollout.Reason, "db, which comes first: halted") {
		t.Errorf("web = %+v", v.Rollout)
	}
	if now := v.Hosts["h1"].Containers[0].ID; now != before {
		t.Errorf("web has container %s, want %s still", now, before)
	}
}

// The first of two is done on every host when the second fails; whoever asked for it is long gone.
func TestReleaseOfSeveralGoesBackAsOne(t *testing.T) {
	t.Parallel()
	f, _, _ := pair(t)
	v := f.State(t).Components
	v1, d1 := v["web"].Desired.ImageID, v["db"].Desired.ImageID
	f.Release(t, "web", bad("v2"))
	f.Release(t, "db", version("d2"))
	r := f.Gantryd(t, "update", f.Project, "--together", "web,db", "--wait", "--timeout", "3m")
	if r.Code != 1 || !strings.Contains(r.Err, "rolled back") || !strings.Contains(r.Out, "db: rolled back to generation") {
		t.Errorf("update --together = %v", r)
	}
	fleettest.Await(t, fleettest.Finally, "both are back", func() error {
		return stands(t, f, component.Short(v1)+" done", component.Short(d1)+" done")
	})
	for _, name := range []string{"web", "db"} {
		out := f.Must(t, "history", f.Project, "-c", name).Out
		if !strings.Contains(out, "update of db+web") || !strings.Contains(out, "rolledback") || !strings.Contains(out, "web: host h") {
			t.Errorf("history of %s:\n%s", name, out)
		}
	}
	now := f.State(t).Components
	if a, b := now["web"].Desired.Generation, now["db"].Desired.Generation; a != b {
		t.Errorf("generations %d and %d: they went back one by one", a, b)
	}
}

// The daemons decide, not the command: one that dies in the middle changes nothing of it.
func TestReleaseOfSeveralOutlivesItsDaemons(t *testing.T) {
	t.Parallel()
	f, web, db := pair(t)
	v := f.State(t).Components
	v1, d1 := v["web"].Desired.ImageID, v["db"].Desired.ImageID
	file := task(t, &web)
	f.Configure(t, web, db)
	f.Release(t, "web", version("v2"))
	f.Release(t, "db", version("d2"))
	d := f.Daemon(t, "h3")
	d.Start(t)
	fleettest.Await(t, fleettest.Finally, "the third host serves", func() error { return stands(t, f, component.Short(v1)+" done", component.Short(d1)+" done") })
	f.Must(t, "update", f.Project, "--together", "db,web")
	file.begins(t, 1)
	if tasker := f.State(t).Components["web"].Turn.Tasker; tasker != "h3" {
		d.Kill(t) // in the middle, and it stays away
	}
	if err := os.WriteFile(string(file), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !d.Running() {
		fleettest.Await(t, fleettest.Finally, "its lease ends and it is forgotten", func() error {
			if r := f.Gantryd(t, "forget", f.Project, "h3"); r.Code != 0 && r.Code != 3 { // 3: nothing of it is left
				return fmt.Errorf("%v", r)
			}
			return nil
		})
	}
	fleettest.Await(t, fleettest.Finally, "both are back", func() error {
		return stands(t, f, component.Short(v1)+" done", component.Short(d1)+" done")
	})
}
