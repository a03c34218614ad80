package storetest

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gantryd/gantryd/pkg/component"
)

func testEmpty(t *testing.T, s *suite) {
	r := s.hosts[0]
	wantEqual(t, "Names", len(r.Names()), 0)
	v := r.View("web")
	if v.Desired.Generation != 0 || v.DesiredErr != nil || v.Config != nil || v.RolloutRevision != 0 || len(v.Hosts) != 0 {
		t.Errorf("View of nothing = %+v", v)
	}
	wantEqual(t, "Turn.State", v.Turn.State, component.TurnWaiting)
	c := r.Cluster()
	if c.ID == "" || !c.Reachable || c.Since.IsZero() {
		t.Errorf("Cluster = %+v, want an ID, reachable, since when", c)
	}
	wantEqual(t, "Adoption", c.Adoption, component.Adoption{})
}

func testConfig(t *testing.T, s *suite) {
	r := s.hosts[0]
	mark := r.mark()
	s.put(t, component.Spec{Name: "web", Repo: "web", Tag: "7"}, component.Spec{Name: "db", Repo: "postgres"})
	r.await(t, "config", func() bool { return r.View("db").Config != nil })
	wantEqual(t, "Names", slices.Sorted(slices.Values(r.Names())), []string{"db", "web"})
	wantEqual(t, "View(web).Config", r.View("web").Config, &component.Spec{Name: "web", Repo: "web", Tag: "7"})
	r.await(t, "report of the config", func() bool { return r.reported("web", mark) && r.reported("db", mark) })
}

func testConfigRemoved(t *testing.T, s *suite) {
	r := s.hosts[0]
	s.put(t, component.Spec{Name: "web", Repo: "web"}, component.Spec{Name: "db", Repo: "postgres"}, component.Spec{Name: "old", Repo: "old"})
	s.ready(t, "old", "sha256:aa")
	s.put(t, component.Spec{Name: "web", Repo: "web"})
	r.await(t, "config without db", func() bool { return r.View("db").Config == nil && r.View("old").Config == nil })
	wantEqual(t, "Names", slices.Sorted(slices.Values(r.Names())), []string{"old", "web"})
}

func testDesired(t *testing.T, s *suite) {
	want := ready("sha256:aa")
	mark := s.hosts[0].mark()
	g := s.set(t, "web", want)
	for _, r := range s.hosts {
		got := r.awaitGeneration(t, "web", g).Desired
		wantEqual(t, "Generation", got.Generation, g)
		got.Generation, got.Operation, got.At = 0, "", want.At
		wantEqual(t, "Desired", got, want)
	}
	r := s.hosts[0]
	r.await(t, "report of the state", func() bool { return r.reported("web", mark) })
	wantEqual(t, "Names", r.Names(), []string{"web"})
	if rev := r.Cluster().Revision; rev < g {
		t.Errorf("Cluster().Revision = %d, want at least the generation %d", rev, g)
	}
}

func testGenerations(t *testing.T, s *suite) {
	first := s.ready(t, "web", "sha256:aa")
	second := s.ready(t, "web", "sha256:aa")
	if second <= first {
		t.Errorf("generation of the second, equal write = %d, of the first = %d", second, first)
	}
}

func testStopKeeps(t *testing.T, s *suite) {
	s.ready(t, "web", "sha256:aa")
	for _, status := range []component.Status{component.StatusStopped, component.StatusKilled} {
		g := s.set(t, "web", component.Desired{Status: status, By: "other", Reason: "maintenance"})
		got := s.hosts[0].awaitGeneration(t, "web", g).Desired
		want := ready("sha256:aa")
		want.Status, want.By, want.Reason, want.Generation = status, "other", "maintenance", g
		got.Operation, got.At = "", want.At
		wantEqual(t, "Desired", got, want)
	}
}

func testReadyReplaces(t *testing.T, s *suite) {
	s.ready(t, "web", "sha256:aa")
	want := component.Desired{
		Status: component.StatusReady, ImageID: "sha256:bb",
		Spec: &component.Spec{Name: "web", Repo: "web"}, Restart: "now",
	}
	g := s.set(t, "web", want)
	got := s.hosts[0].awaitGeneration(t, "web", g).Desired
	want.Generation = g
	got.Operation, got.At, got.By = "", want.At, want.By
	wantEqual(t, "Desired", got, want)
}

func testPublish(t *testing.T, s *suite) {
	r := s.hosts[0]
	st := serving(r.name, 3)
	wantNil(t, "Publish", r.Publish(t.Context(), "web", st))
	wantEqual(t, "Hosts", r.View("web").Hosts, map[string]component.HostStatus{r.name: st})
	st.Step, st.Containers = component.StepStopped, nil
	wantNil(t, "second Publish", r.Publish(t.Context(), "web", st))
	wantNil(t, "Publish of the same", r.Publish(t.Context(), "web", st))
	wantEqual(t, "Hosts", r.View("web").Hosts, map[string]component.HostStatus{r.name: st})
}

// What moves by itself in a status is visible, and no host has to look: neither the one that publishes nor others.
func testQuiet(t *testing.T, s *suite) {
	writer := s.hosts[len(s.hosts)-1]
	s.ready(t, "web", "sha256:aa")
	s.ready(t, "db", "sha256:aa")
	st := serving(writer.name, 1)
	publish := func(name string, st component.HostStatus) {
		t.Helper()
		wantNil(t, "Publish", writer.Publish(t.Context(), name, st))
		for _, r := range s.hosts {
			r.await(t, "status of "+name, func() bool { return cmp.Equal(r.View(name).Hosts[writer.name], st, cmpopts.EquateEmpty()) })
		}
	}
	publish("web", st)
	publish("db", st)
	marks := make([]int, len(s.hosts))
	for i, r := range s.hosts {
		marks[i] = r.mark()
	}
	const updates = 20
	for n := range updates {
		moved := serving(writer.name, 1)
		moved.At = moved.At.Add(time.Duration(n+1) * time.Second)
		c := &moved.Containers[0]
		c.Connections, c.Oldest, c.Status = n+1, time.Minute, "Up 17 seconds"
		c.Left = []component.Connection{{Client: "10.0.0.1:" + strconv.Itoa(n)}}
		publish("web", moved)
	}
	st.Step = component.StepStopping
	publish("db", st) // is told, after all that came before
	for i, r := range s.hosts {
		r.await(t, "report of db", func() bool { return r.reported("db", marks[i]) })
		wantEqual(t, "times web is reported to "+r.name, r.times("web", marks[i]), 0)
	}
	publish("web", st)
	for i, r := range s.hosts {
		r.await(t, "report of web", func() bool { return r.times("web", marks[i]) > 0 })
	}
}

func testMachine(t *testing.T, s *suite) {
	r := s.hosts[0]
	m := component.Machine{Status: "running", Components: []string{"web"}, IP: "10.0.0.1", Version: "1", Links: map[string]string{"db": "10.0.0.1:7000"}}
	wantNil(t, "PublishMachine", r.PublishMachine(t.Context(), m))
	got, ok := r.View("web").Machines[r.name]
	if !ok {
		t.Fatalf("Machines has no %q", r.name)
	}
	got.Nonce, got.StartedAt = "", m.StartedAt // the store may fill these in
	wantEqual(t, "Machines[self]", got, m)
	m.Components = nil
	wantNil(t, "second PublishMachine", r.PublishMachine(t.Context(), m))
	wantEqual(t, "Components", len(r.View("web").Machines[r.name].Components), 0)
}

func testMoments(t *testing.T, s *suite) {
	r := s.hosts[0]
	s.put(t, component.Spec{Name: "web", Repo: "web", Command: []string{"a"}})
	first := s.ready(t, "web", "sha256:aa")
	r.await(t, "config", func() bool { return r.View("web").Config != nil })
	wantNil(t, "Publish", r.Publish(t.Context(), "web", serving(r.name, first)))
	wantNil(t, "PublishMachine", r.PublishMachine(t.Context(), component.Machine{Status: "running", IP: "10.0.0.1"}))
	before := r.View("web")
	s.put(t, component.Spec{Name: "web", Repo: "web", Command: []string{"b"}})
	second := s.ready(t, "web", "sha256:bb")
	wantNil(t, "Publish", r.Publish(t.Context(), "web", serving(r.name, second)))
	wantNil(t, "PublishMachine", r.PublishMachine(t.Context(), component.Machine{Status: "running", IP: "10.0.0.2"}))
	r.await(t, "newer config", func() bool { c := r.View("web").Config; return c != nil && c.Command[0] == "b" })
	after := r.View("web")
	for name, v := range map[string]struct {
		view    component.View
		command string
		gen     int64
		image   string
		ip      string
	}{
		"before": {before, "a", first, "sha256:aa", "10.0.0.1"},
		"after":  {after, "b", second, "sha256:bb", "10.0.0.2"},
	} {
		wantEqual(t, name+": Config", v.view.Config.Command[0], v.command)
		wantEqual(t, name+": Desired", v.view.Desired.ImageID, v.image)
		wantEqual(t, name+": Hosts", v.view.Hosts[r.name].Generation, v.gen)
		wantEqual(t, name+": Machines", v.view.Machines[r.name].IP, v.ip)
	}
}

func testApart(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	other := s.ready(t, "web2", "sha256:bb")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	wantNil(t, "TakeTurn of the other", r.TakeTurn(t.Context(), "web2", 1, r.View("web2")))
	wantEqual(t, "generation of the turn", r.View("web").Turn.Generation, g)
	wantEqual(t, "generation of the other turn", r.View("web2").Turn.Generation, other)
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, g), nil))
	wantEqual(t, "other turn", r.View("web2").Turn.State, component.TurnMine)
	wantEqual(t, "other hosts", len(r.View("web2").Hosts), 0)
}

func testConcurrent(t *testing.T, s *suite) {
	names := []string{"a", "b", "c"}
	for _, n := range names {
		s.ready(t, n, "sha256:aa")
	}
	var wg sync.WaitGroup
	for _, r := range s.hosts {
		for _, n := range names {
			wg.Go(func() { churn(t, r, n) })
			wg.Go(func() {
				for range 200 {
					_ = r.View(n).Hosts[r.name]
					_, _ = r.Names(), r.Cluster()
				}
			})
		}
		wg.Go(func() {
			for range 5 {
				if err := r.PublishMachine(t.Context(), component.Machine{Status: "running", IP: "10.0.0.9"}); err != nil {
					t.Errorf("PublishMachine = %v", err)
				}
			}
		})
	}
	for range 5 {
		s.set(t, "a", ready("sha256:cc"))
	}
	wg.Wait()
}

// churn uses every write of r on one component; refusals are part of it.
func churn(t *testing.T, r *running, name string) {
	for i := range 10 {
		at := r.View(name)
		if err := r.TakeTurn(t.Context(), name, 2, at); err != nil && !refused(err) {
			t.Errorf("TakeTurn(%q) = %v", name, err)
		}
		if err := r.Publish(t.Context(), name, serving(r.name, int64(i))); err != nil && !refused(err) {
			t.Errorf("Publish(%q) = %v", name, err)
		}
		if err := r.PutRollout(t.Context(), name, *record(at.Desired.Generation, component.RolloutProgressing), at); err != nil && !refused(err) {
			t.Errorf("PutRollout(%q) = %v", name, err)
		}
		if err := r.EndTurn(t.Context(), name, serving(r.name, int64(i)), nil); err != nil && !refused(err) {
			t.Errorf("EndTurn(%q) = %v", name, err)
		}
	}
}
