package localstate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

func openTestStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := OpenStore(dir, Options{Host: "h1", Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readyState(imageID string) component.Desired {
	return component.Desired{
		Status: component.StatusReady, ImageID: imageID,
		Image: component.Image{Ref: "web:1"}, Spec: &component.Spec{Name: "web", Repo: "web", Command: []string{"serve"}},
	}
}

func mustSet(t testing.TB, s *Store, name string, d component.Desired) int64 {
	t.Helper()
	g, err := s.SetDesired(t.Context(), name, d)
	if err != nil {
		t.Fatalf("SetDesired(%q) = %v", name, err)
	}
	return g
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStoreSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	if !s.Created() {
		t.Error("Created = false for a new store")
	}
	must(t, s.PutProject(t.Context(), component.Project{Components: []component.Spec{{Name: "web", Repo: "web"}}}))
	must(t, s.PutSpec(t.Context(), component.Spec{Name: "db", Repo: "postgres"}))
	mustSet(t, s, "web", readyState("sha256:aa"))
	must(t, s.TakeTurn(t.Context(), "web", 1, s.View("web")))
	must(t, s.Publish(t.Context(), "web", component.HostStatus{Host: "h1", Step: component.StepServing}))
	must(t, s.Adopt(t.Context(), component.Adoption{Nonce: "n", Cluster: s.Cluster().ID}))

	again := openTestStore(t, dir)
	if again.Created() {
		t.Error("Created = true for a store that was there")
	}
	want, got := s.View("web"), again.View("web")
	want.Hosts, want.Turn = map[string]component.HostStatus{}, component.Turn{} // go with the process
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("View (-want +got):\n%s", d)
	}
	before, after := s.Cluster(), again.Cluster()
	before.Since, after.Since = time.Time{}, time.Time{}
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("Cluster (-want +got):\n%s", d)
	}
	if err := again.EndTurn(t.Context(), "web", component.HostStatus{}, nil); !errors.Is(err, component.ErrTurnLost) {
		t.Errorf("EndTurn after a restart = %v, want ErrTurnLost", err)
	}
	if d := cmp.Diff([]string{"db", "web"}, again.Names()); d != "" {
		t.Errorf("Names (-want +got):\n%s", d)
	}
}

func TestOtherStoreOtherIdentity(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	g := mustSet(t, s, "web", readyState("sha256:aa"))
	for _, suffix := range []string{"", suffixPrev} {
		writeFile(t, filepath.Join(dir, storeName+suffix), []byte("torn"))
	}
	again, err := OpenStore(dir, Options{Host: "h1", Above: g})
	must(t, err)
	if again.Cluster().ID == s.Cluster().ID || !again.Created() || len(again.Names()) != 0 {
		t.Errorf("store after a loss: %+v, created %v, names %v", again.Cluster(), again.Created(), again.Names())
	}
	if got := mustSet(t, again, "web", readyState("sha256:aa")); got <= g {
		t.Errorf("generation = %d, want above %d", got, g)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "*"+suffixCorrupt+"*"))
	if err != nil || len(aside) != 2 {
		t.Errorf("kept aside: %v, %v; want two", aside, err)
	}
}

func TestOlderDataIsShownAsOlderAndNoGenerationComesTwice(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	first := mustSet(t, s, "web", readyState("sha256:aa"))
	second := mustSet(t, s, "web", readyState("sha256:bb"))
	for range 3 { // the newest version is lost again and again
		writeFile(t, filepath.Join(dir, storeName), []byte("torn"))
		s = openTestStore(t, dir)
		if rev := s.Cluster().Revision; rev >= second {
			t.Fatalf("Revision = %d, want that of the older data, below %d", rev, second)
		}
		if g := s.View("web").Desired.Generation; g != first {
			t.Fatalf("generation = %d, want %d", g, first)
		}
		third := mustSet(t, s, "web", readyState("sha256:cc"))
		if third <= second {
			t.Fatalf("generation %d after %d was given out", third, second)
		}
		second = third
	}
}

func TestRepeatedOperationIsOneWrite(t *testing.T) {
	s := openTestStore(t, t.TempDir())
	d := readyState("sha256:aa")
	d.Operation = "op1"
	g := mustSet(t, s, "web", d)
	if got := mustSet(t, s, "web", d); got != g {
		t.Errorf("generation of the repeated write = %d, want %d", got, g)
	}
	d.Operation = "op2"
	if got := mustSet(t, s, "web", d); got <= g {
		t.Errorf("generation of another write = %d, want above %d", got, g)
	}
}

func TestBadInputChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	mustSet(t, s, "web", readyState("sha256:aa"))
	before, err := os.ReadFile(filepath.Join(dir, storeName))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	nan := component.Spec{Name: "x", Repo: "x", Resources: component.Resources{CPUs: nan()}}
	web := s.View("web")
	tests := map[string]func() error{
		"no name":     func() error { _, err := s.SetDesired(t.Context(), "", readyState("")); return err },
		"no status":   func() error { _, err := s.SetDesired(t.Context(), "web", component.Desired{}); return err },
		"bad status":  func() error { _, err := s.SetDesired(t.Context(), "web", component.Desired{Status: "up"}); return err },
		"bad number":  func() error { return s.PutSpec(t.Context(), nan) },
		"spec noname": func() error { return s.PutSpec(t.Context(), component.Spec{}) },
		"bad stage": func() error {
			return s.Publish(t.Context(), "web", component.HostStatus{Containers: []component.ContainerStatus{{Stage: 9}}})
		},
		"twice": func() error {
			return s.PutProject(t.Context(), component.Project{Components: []component.Spec{{Name: "a"}, {Name: "a"}}})
		},
		"cancelled": func() error { _, err := s.SetDesired(ctx, "web", readyState("")); return err },
		"no slots":  func() error { return s.TakeTurn(t.Context(), "web", 0, web) },
		"no state":  func() error { return s.TakeTurn(t.Context(), "db", 1, s.View("db")) },
	}
	for name, f := range tests {
		if err := f(); err == nil {
			t.Errorf("%s: nil, want an error", name)
		}
	}
	after, err := os.ReadFile(filepath.Join(dir, storeName))
	must(t, err)
	if string(before) != string(after) {
		t.Errorf("file changed from %s to %s", before, after)
	}
	if d := cmp.Diff(web, s.View("web")); d != "" {
		t.Errorf("View changed (-want +got):\n%s", d)
	}
}

func nan() float64 { zero := 0.0; return zero / zero }

func TestValueThatDoesNotParseStopsItsComponentOnly(t *testing.T) {
	for field, bad := range map[string]any{
		"desired": map[string]any{"status": 7}, "rollout": "later", "config": []int{1},
	} {
		dir := t.TempDir()
		s := openTestStore(t, dir)
		must(t, s.PutSpec(t.Context(), component.Spec{Name: "web", Repo: "web"}))
		g := mustSet(t, s, "web", readyState("sha256:aa"))
		other := mustSet(t, s, "db", readyState("sha256:bb"))
		edit(t, filepath.Join(dir, storeName), kindStore, func(v map[string]any) {
			v["components"].(map[string]any)["web"].(map[string]any)[field] = bad
		})
		s = openTestStore(t, dir)
		v := s.View("web")
		if v.DesiredErr == nil || !strings.Contains(v.DesiredErr.Error(), `"web"`) || v.Desired.Generation != 0 {
			t.Errorf("%s: View = %+v, want an error that names the component", field, v)
		}
		if err := s.TakeTurn(t.Context(), "web", 1, v); !errors.Is(err, component.ErrChanged) {
			t.Errorf("%s: TakeTurn = %v, want ErrChanged", field, err)
		}
		if v := s.View("db"); v.DesiredErr != nil || v.Desired.Generation != other {
			t.Errorf("%s: View of the other = %+v", field, v)
		}
		if got := mustSet(t, s, "db", readyState("sha256:cc")); got <= g { // a write about another leaves it alone
			t.Errorf("%s: generation = %d", field, got)
		}
		if openTestStore(t, dir).View("web").DesiredErr == nil {
			t.Errorf("%s: value was replaced by a write about another component", field)
		}
	}
}

func TestStopKeepsWhatANewerVersionAsked(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	mustSet(t, s, "web", readyState("sha256:aa"))
	path := filepath.Join(dir, storeName)
	edit(t, path, kindStore, func(v map[string]any) {
		v["region"] = "north"
		d := v["components"].(map[string]any)["web"].(map[string]any)["desired"].(map[string]any)
		d["signature"] = "s"
		d["spec"].(map[string]any)["gpu"] = 2
	})
	s = openTestStore(t, dir)
	mustSet(t, s, "web", component.Desired{Status: component.StatusStopped})
	for _, want := range []string{`"region":"north"`, `"signature":"s"`, `"gpu":2`} {
		if data := readData(t, path, kindStore); !strings.Contains(string(data), want) {
			t.Errorf("after stop: no %s in %s", want, data)
		}
	}
	mustSet(t, s, "web", readyState("sha256:bb"))
	data := string(readData(t, path, kindStore))
	if strings.Contains(data, "gpu") || strings.Contains(data, "signature") || !strings.Contains(data, "region") {
		t.Errorf("after ready: %s", data)
	}
}

func TestRecordKeepsWhatANewerVersionWrote(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	g := mustSet(t, s, "web", readyState("sha256:aa"))
	path := filepath.Join(dir, storeName)
	kept := func(what string) {
		t.Helper()
		if data := readData(t, path, kindStore); !strings.Contains(string(data), `"novel":{"a":1}`) {
			t.Errorf("after %s: a field is lost in %s", what, data)
		}
	}
	must(t, s.TakeTurn(t.Context(), "web", 1, s.View("web")))
	edit(t, path, kindStore, func(v map[string]any) {
		v["components"].(map[string]any)["web"].(map[string]any)["rollout"].(map[string]any)["novel"] = map[string]int{"a": 1}
	})
	s = openTestStore(t, dir)
	must(t, s.TakeTurn(t.Context(), "web", 1, s.View("web")))
	r := component.Rollout{Generation: g, Status: component.RolloutHalted, Reason: "not ready"}
	must(t, s.EndTurn(t.Context(), "web", component.HostStatus{Host: "h1"}, &r))
	kept("EndTurn")
	r.Reason = "another"
	must(t, s.PutRollout(t.Context(), "web", r, s.View("web")))
	kept("PutRollout")
	if got := openTestStore(t, dir).View("web").Rollout; got.Reason != "another" {
		t.Errorf("record = %+v", got)
	}
	g = mustSet(t, s, "web", readyState("sha256:bb"))
	must(t, s.PutRollout(t.Context(), "web", component.Rollout{Generation: g, Status: component.RolloutProgressing}, s.View("web")))
	if data := readData(t, path, kindStore); strings.Contains(string(data), "novel") {
		t.Errorf("the record of another generation has a field of the one before: %s", data)
	}
}

func TestRunReportsWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openTestStore(t, t.TempDir())
		var got []string
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("over")
		var wg sync.WaitGroup
		var err error
		wg.Go(func() { err = s.Run(ctx, func(n string) { got = append(got, n) }) })
		step := func(want []string, f func()) {
			t.Helper()
			f()
			synctest.Wait()
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("changes (-want +got):\n%s", d)
			}
			got = nil
		}
		step([]string{""}, func() {})
		step([]string{"web"}, func() { mustSet(t, s, "web", readyState("sha256:aa")) })
		spec := component.Spec{Name: "db", Repo: "db"}
		step([]string{"db"}, func() { must(t, s.PutSpec(t.Context(), spec)) })
		step(nil, func() { must(t, s.PutSpec(t.Context(), spec)) })
		st := component.HostStatus{Step: component.StepServing, Containers: []component.ContainerStatus{{ID: "c"}}}
		step([]string{"web"}, func() { must(t, s.Publish(t.Context(), "web", st)) })
		step(nil, func() {
			st.At, st.Containers = time.Now(), []component.ContainerStatus{{ID: "c", Connections: 7, Oldest: 3, Status: "Up 2 seconds"}}
			must(t, s.Publish(t.Context(), "web", st))
		})
		if c := s.Status("web").Containers[0].Connections; c != 7 {
			t.Errorf("Status has %d connections, want 7", c)
		}
		step([]string{""}, func() { must(t, s.PublishMachine(t.Context(), component.Machine{IP: "10.0.0.1"})) })
		step(nil, func() { must(t, s.PublishMachine(t.Context(), component.Machine{IP: "10.0.0.1"})) })
		step([]string{"web"}, func() { must(t, s.TakeTurn(t.Context(), "web", 1, s.View("web"))) })
		step(nil, func() { must(t, s.TakeTurn(t.Context(), "web", 1, s.View("web"))) })
		step([]string{"web"}, func() { must(t, s.EndTurn(t.Context(), "web", st, nil)) })
		step([]string{""}, func() { must(t, s.Adopt(t.Context(), component.Adoption{Nonce: "n"})) })
		cancel(cause)
		wg.Wait()
		if !errors.Is(err, cause) {
			t.Errorf("Run = %v, want the cause", err)
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openTestStore(t, t.TempDir())
		g := mustSet(t, s, "web", readyState("sha256:aa"))
		done := func(v component.View) bool {
			return v.Rollout.Generation == g && v.Rollout.Status == component.RolloutDone
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			v, err := s.Wait(ctx, "web", done)
			if err != nil || v.Hosts["h1"].Generation != g {
				t.Errorf("Wait = %+v, %v", v, err)
			}
		})
		must(t, s.TakeTurn(t.Context(), "web", 1, s.View("web")))
		synctest.Wait()
		must(t, s.EndTurn(t.Context(), "web", component.HostStatus{Generation: g}, &component.Rollout{Generation: g, Status: component.RolloutDone}))
		wg.Wait()
		_, err := s.Wait(ctx, "web", func(component.View) bool { return false })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait for what never comes = %v, want DeadlineExceeded", err)
		}
		if len(s.listeners) != 0 {
			t.Errorf("%d listeners left", len(s.listeners))
		}
	})
}

func TestChangesAreOfTheirComponent(t *testing.T) {
	s := openTestStore(t, t.TempDir())
	web, stopWeb := s.Changes("web")
	all, stopAll := s.Changes("")
	defer stopAll()
	mustSet(t, s, "db", readyState("sha256:aa"))
	if len(web) != 0 || len(all) != 1 {
		t.Errorf("after db: %d for web, %d for all; want 0, 1", len(web), len(all))
	}
	mustSet(t, s, "web", readyState("sha256:aa"))
	mustSet(t, s, "web", readyState("sha256:bb"))
	if len(web) != 1 || len(all) != 1 {
		t.Errorf("after web: %d for web, %d for all; want 1, 1", len(web), len(all))
	}
	stopWeb()
	<-web
	mustSet(t, s, "web", readyState("sha256:cc"))
	if len(web) != 0 {
		t.Error("told after stop")
	}
}

// TestStoreUnderFaults lets writes fail, the process die, the power go and the newest version rot,
// in any order, and checks what generations promise: none stands for two states, and none that
// was given out is missing after a restart unless the disk lost it.
func TestStoreUnderFaults(t *testing.T) {
	for seed := range uint64(80) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { storeUnderFaults(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func storeUnderFaults(t *testing.T, rnd *rand.Rand) {
	d := newSimDisk()
	meant := map[int64]string{} // what each generation ever seen stands for
	var newest int64            // greatest generation ever returned
	saw := func(v component.View) {
		t.Helper()
		g := v.Desired.Generation
		if was, ok := meant[g]; ok && was != v.Desired.ImageID {
			t.Fatalf("generation %d stood for %s, now for %s", g, was, v.Desired.ImageID)
		}
		if g != 0 {
			meant[g] = v.Desired.ImageID
		}
	}
	for start := range 12 {
		s, err := openStore("dir", Options{Host: "h1"}, d)
		if err != nil {
			t.Fatalf("openStore = %v", err)
		}
		acked := s.View("web").Desired.Generation
		saw(s.View("web"))
		for i := range rnd.IntN(5) {
			if rnd.IntN(3) == 0 {
				d.steps, d.fail, d.after, d.killed = 0, 1+rnd.IntN(14), rnd.IntN(2) == 0, rnd.IntN(2) == 0
			}
			image := fmt.Sprintf("image-%d-%d", start, i)
			g, err := s.SetDesired(t.Context(), "web", readyState(image))
			if err == nil {
				if g <= newest {
					t.Fatalf("generation %d after %d", g, newest)
				}
				newest, acked = g, g
				if was, ok := meant[g]; ok && was != image {
					t.Fatalf("generation %d stood for %s, given out for %s", g, was, image)
				}
			}
			saw(s.View("web"))
			if v := s.View("web"); v.Desired.Generation != acked {
				t.Fatalf("View has generation %d, want %d", v.Desired.Generation, acked)
			}
			if d.killed && d.fail > 0 && d.steps >= d.fail {
				break
			}
			d.repaired()
		}
		if rnd.IntN(2) == 0 {
			d = d.powerCut(rnd.IntN)
		} else {
			d.repaired()
		}
		rotten := rnd.IntN(3) == 0 && d.find(storeName+suffixPrev) != nil && d.find(storeName) != d.find(storeName+suffixPrev)
		if rotten {
			d.set("dir/"+storeName, &inode{data: []byte("rot"), synced: 3})
		}
		after, err := openStore("dir", Options{Host: "h1"}, d)
		if err != nil {
			t.Fatalf("openStore = %v", err)
		}
		if g := after.View("web").Desired.Generation; g < acked && !rotten {
			t.Fatalf("generation %d after the restart, %d was given out", g, acked)
		}
	}
}

func BenchmarkView(b *testing.B) {
	s := openTestStore(b, b.TempDir())
	must(b, s.PutSpec(b.Context(), component.Spec{Name: "web", Repo: "web"}))
	mustSet(b, s, "web", readyState("sha256:aa"))
	must(b, s.Publish(b.Context(), "web", component.HostStatus{Step: component.StepServing, Containers: make([]component.ContainerStatus, 3)}))
	for b.Loop() {
		_ = s.View("web")
	}
}
