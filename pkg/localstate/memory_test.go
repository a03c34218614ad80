package localstate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

func openTestMemory(t testing.TB, dir string) *Memory {
	t.Helper()
	m, err := OpenMemory(dir, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustLoad(t testing.TB, m *Memory) (component.Records, bool) {
	t.Helper()
	r, complete, err := m.Load()
	if err != nil {
		t.Fatalf("Load = %v", err)
	}
	return r, complete
}

func mustRemember(t testing.TB, m *Memory, name string, r component.Record) {
	t.Helper()
	if err := m.Save(name, r); err != nil {
		t.Fatalf("Save(%q) = %v", name, err)
	}
}

// fullRecord has a value in every field.
func fullRecord(generation int64) component.Record {
	bake := component.Duration(5 * time.Second)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	spec := component.Spec{Name: "web", Repo: "web", Rollout: component.RolloutPolicy{Bake: &bake}}
	rel := component.Release{Generation: generation, ImageID: "sha256:aa", Spec: spec, Restart: "r"}
	return component.Record{
		Accepted:   component.Desired{Status: component.StatusReady, ImageID: "sha256:aa", Spec: &spec, By: "<me & you>", At: at},
		Generation: generation,
		Proven:     &rel,
		Containers: map[string]component.ContainerRecord{
			"c1": {Stage: component.Draining, StageSince: at, DrainingSince: at},
			"c2": {Stage: component.Stopped, Failed: "exit code 3"},
		},
		Primary:  "c1",
		Restarts: component.Restarts{Count: 2, Last: at},
		Failure:  &component.Failure{Generation: 1, Kind: component.UpdateFail, Reason: "no", Log: []string{"a", "b"}},
		Images:   []string{"sha256:aa", "sha256:bb"},
	}
}

func TestMemoryIsNewThenThereThenComplete(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	m := openTestMemory(t, dir)
	for range 2 { // new until something was saved, however often it is looked at
		if r, complete := mustLoad(t, m); complete || len(r.Components) != 0 {
			t.Fatalf("Load of a new memory = %+v, %v; want nothing, false", r, complete)
		}
	}
	host := component.HostRecord{Cluster: "c", Revision: 1 << 60, Adoptions: []string{"n"}, LinkPorts: map[string]int{"db": 7000}}
	if err := m.SaveHost(host); err != nil {
		t.Fatal(err)
	}
	names := []string{"web", "", ".", "..", "../../etc/passwd", "a/b", "a%2Fb", "web.json", "web.json.prev", "Web", "wéb", "x\x00y", strings.Repeat("long/", 100), strings.Repeat("long/", 101)}
	want := component.Records{Host: host, Components: map[string]component.Record{}}
	for i, n := range names {
		want.Components[n] = fullRecord(int64(i))
		mustRemember(t, m, n, component.Record{Generation: -1})
		mustRemember(t, m, n, want.Components[n])
	}
	for _, m := range []*Memory{m, openTestMemory(t, dir)} {
		got, complete := mustLoad(t, m)
		if d := cmp.Diff(want, got); d != "" || !complete {
			t.Errorf("Load: complete = %v, (-want +got):\n%s", complete, d)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, componentsDir)); err != nil {
		t.Fatal(err)
	}
	if r, complete := mustLoad(t, openTestMemory(t, dir)); !complete || len(r.Components) != 0 {
		t.Errorf("Load of a memory without components = %+v, %v; want nothing, true", r, complete)
	}
}

func TestMemoryStaysInItsDirectory(t *testing.T) {
	outer := t.TempDir()
	m := openTestMemory(t, filepath.Join(outer, "state"))
	for _, n := range []string{"..", "../x", "../../x", "/abs", "a/../../../x", ".hidden", "\\..\\x"} {
		mustRemember(t, m, n, fullRecord(1))
	}
	if es, err := os.ReadDir(outer); err != nil || len(es) != 1 {
		t.Errorf("outside are %v, %v", es, err)
	}
	es, err := os.ReadDir(filepath.Join(outer, "state", componentsDir))
	if err != nil || len(es) != 7 {
		t.Errorf("components holds %v, %v; want 7 files", es, err)
	}
	for _, e := range es {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			t.Errorf("components holds %v", e)
		}
	}
}

func TestLostRecordIsReportedUntilSomethingIsSaved(t *testing.T) {
	dir := t.TempDir()
	m := openTestMemory(t, dir)
	mustRemember(t, m, "web", fullRecord(1))
	mustRemember(t, m, "db", fullRecord(2))
	writeFile(t, filepath.Join(dir, componentsDir, "web.json"), []byte("torn"))
	for range 2 { // also when the daemon dies before it did anything about it
		r, complete := mustLoad(t, openTestMemory(t, dir))
		if complete || len(r.Components) != 1 || r.Components["db"].Generation != 2 {
			t.Fatalf("Load = %+v, %v; want db, false", r, complete)
		}
	}
	m = openTestMemory(t, dir)
	mustLoad(t, m)
	mustRemember(t, m, "web", fullRecord(3))
	if r, complete := mustLoad(t, openTestMemory(t, dir)); !complete || r.Components["web"].Generation != 3 {
		t.Errorf("Load after Save = %+v, %v", r, complete)
	}
}

func TestDamagedRecordFallsBackWithAWarning(t *testing.T) {
	dir := t.TempDir()
	m := openTestMemory(t, dir)
	mustRemember(t, m, "web", fullRecord(1))
	mustRemember(t, m, "web", fullRecord(2))
	secret := "geheim"
	writeFile(t, filepath.Join(dir, componentsDir, "web.json"), []byte(`{"kind":"`+secret))
	var log bytes.Buffer
	m, err := OpenMemory(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if r, complete := mustLoad(t, m); !complete || r.Components["web"].Generation != 1 {
		t.Errorf("Load = %+v, %v; want the previous record, true", r, complete)
	}
	if s := log.String(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "web.json") || strings.Contains(s, secret) {
		t.Errorf("log:\n%s", s)
	}
}

func TestMemoryOfANewerVersionIsRefused(t *testing.T) {
	for _, name := range []string{markerName, hostName, componentsDir + "/web.json"} {
		dir := t.TempDir()
		m := openTestMemory(t, dir)
		mustRemember(t, m, "web", fullRecord(1))
		path := filepath.Join(dir, name)
		kind := map[string]string{markerName: kindMarker, hostName: kindHost}[name]
		if kind == "" {
			kind = kindComponent
		}
		newer := fmt.Appendf(nil, `{"kind":%q,"format":9,"sha256":%q,"data":{}}`, kind, checksum(kind, 9, []byte("{}")))
		writeFile(t, path, newer)
		if _, _, err := openTestMemory(t, dir).Load(); !errors.Is(err, ErrNewer) {
			t.Errorf("Load with a newer %s = %v, want ErrNewer", name, err)
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, newer) {
			t.Errorf("%s = %s, %v", name, b, err)
		}
	}
}

func TestCopiedRecordIsIgnored(t *testing.T) {
	dir := t.TempDir()
	m := openTestMemory(t, dir)
	mustRemember(t, m, "web", fullRecord(1))
	b, err := os.ReadFile(filepath.Join(dir, componentsDir, "web.json"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, componentsDir, "web copy.json"), b)
	writeFile(t, filepath.Join(dir, componentsDir, "notes.txt"), []byte("mine"))
	if r, complete := mustLoad(t, openTestMemory(t, dir)); !complete || len(r.Components) != 1 {
		t.Errorf("Load = %+v, %v; want web, true", r, complete)
	}
}

func TestUnknownFieldsSurvive(t *testing.T) {
	dir := t.TempDir()
	m := openTestMemory(t, dir)
	r := fullRecord(1)
	mustRemember(t, m, "web", r)
	path := filepath.Join(dir, componentsDir, "web.json")
	edit(t, path, kindComponent, func(v map[string]any) {
		v["top"] = "kept"
		rec := v["record"].(map[string]any)
		rec["weight"] = 3.5
		rec["proven"].(map[string]any)["signature"] = "kept while the release is"
		rec["containers"].(map[string]any)["c1"].(map[string]any)["zone"] = "kept"
		rec["containers"].(map[string]any)["c2"].(map[string]any)["zone"] = "goes with the container"
	})
	m = openTestMemory(t, dir)
	r.Containers = map[string]component.ContainerRecord{"c1": {Stage: component.Stopped}}
	r.Primary = ""
	mustRemember(t, m, "web", r)
	if got, _ := mustLoad(t, m); !cmp.Equal(got.Components["web"], r) {
		t.Errorf("Load: %s", cmp.Diff(r, got.Components["web"]))
	}
	got := string(readData(t, path, kindComponent))
	for _, want := range []string{`"top":"kept"`, `"weight":3.5`, `"signature"`, `"zone":"kept"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if strings.Contains(got, "goes with") {
		t.Errorf("field of a container that is gone in %s", got)
	}
	r.Proven = &component.Release{Generation: 2}
	mustRemember(t, m, "web", r)
	got = string(readData(t, path, kindComponent))
	if strings.Contains(got, "signature") || !strings.Contains(got, `"weight":3.5`) {
		t.Errorf("after another release: %s", got)
	}
}

// edit changes the data of a state file as a newer version could have written it.
func edit(t *testing.T, path, kind string, change func(map[string]any)) {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(readData(t, path, kind), &v); err != nil {
		t.Fatal(err)
	}
	change(v)
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	b, err := encodeFile(kind, data)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, b)
}

func readData(t *testing.T, path, kind string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := decodeFile(kind, b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFailedSaveIsLoudAndKeepsTheOldRecord(t *testing.T) {
	for _, killed := range []bool{false, true} {
		for step := 1; step <= 20; step++ {
			d := newSimDisk()
			m, err := openMemory("dir", d, testLog(t))
			if err != nil {
				t.Fatal(err)
			}
			mustRemember(t, m, "web", fullRecord(1))
			d.fail, d.steps, d.killed = step, 0, killed
			err = m.Save("web", fullRecord(2))
			what := d.lastStep
			d.repaired()
			again, err2 := openMemory("dir", d, testLog(t))
			if err2 != nil {
				t.Fatal(err2)
			}
			r, complete := mustLoad(t, again)
			got := r.Components["web"].Generation
			if !complete || err == nil && got != 2 || got != 1 && got != 2 {
				t.Errorf("step %q, Save = %v: generation %d, complete %v", what, err, got, complete)
			}
			mustRemember(t, m, "web", fullRecord(2))
			if r, _ := mustLoad(t, again); r.Components["web"].Generation != 2 {
				t.Errorf("step %q: repeated Save left generation %d", what, r.Components["web"].Generation)
			}
		}
	}
}

func TestMemoryAllAtOnce(t *testing.T) {
	m := openTestMemory(t, t.TempDir())
	var wg sync.WaitGroup
	for c := range 6 {
		name := fmt.Sprintf("c%d", c/2) // two writers each
		wg.Go(func() {
			for i := range 15 {
				if err := m.Save(name, fullRecord(int64(i))); err != nil {
					t.Errorf("Save = %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 15 {
			if err := m.SaveHost(component.HostRecord{Revision: int64(i)}); err != nil {
				t.Errorf("SaveHost = %v", err)
			}
			r, _, err := m.Load()
			if err != nil {
				t.Errorf("Load = %v", err)
			}
			for n, rec := range r.Components {
				if !cmp.Equal(rec, fullRecord(rec.Generation)) {
					t.Errorf("record of %q is mixed: %+v", n, rec)
				}
			}
		}
	})
	wg.Wait()
	r, complete := mustLoad(t, m)
	if !complete || len(r.Components) != 3 || r.Host.Revision != 14 {
		t.Errorf("Load = %+v, %v", r, complete)
	}
	for n, rec := range r.Components {
		if rec.Generation != 14 {
			t.Errorf("%q: generation %d, want the last one of some writer", n, rec.Generation)
		}
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128k,mode=0700"); err != nil {
		t.Skipf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	m := openTestMemory(t, dir)
	mustRemember(t, m, "web", fullRecord(1))
	s, err := OpenStore(dir, Options{Host: "h1", Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	g := mustSet(t, s, "web", readyState("sha256:aa"))
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk = %v, want ENOSPC", err)
	}
	for range 3 {
		if err := m.Save("web", fullRecord(2)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Save = %v, want ENOSPC", err)
		}
		if _, err := s.SetDesired(t.Context(), "web", readyState("sha256:bb")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("SetDesired = %v, want ENOSPC", err)
		}
	}
	if v := s.View("web"); v.Desired.Generation != g || v.Desired.ImageID != "sha256:aa" {
		t.Errorf("View = %+v, want generation %d as before", v.Desired, g)
	}
	if r, complete := mustLoad(t, openTestMemory(t, dir)); !complete || r.Components["web"].Generation != 1 {
		t.Errorf("Load = %+v, %v; want the old record, true", r, complete)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	mustRemember(t, m, "web", fullRecord(2))
	if got := mustSet(t, s, "web", readyState("sha256:bb")); got != g+1 {
		t.Errorf("generation = %d, want %d: refused writes use none", got, g+1)
	}
	if r, complete := mustLoad(t, openTestMemory(t, dir)); !complete || r.Components["web"].Generation != 2 {
		t.Errorf("Load with room again = %+v, %v", r, complete)
	}
}

func BenchmarkMemorySave(b *testing.B) {
	m := openTestMemory(b, b.TempDir())
	r := fullRecord(1)
	b.Run("changed", func(b *testing.B) {
		for b.Loop() {
			r.Generation++
			mustRemember(b, m, "web", r)
		}
	})
	b.Run("equal", func(b *testing.B) {
		for b.Loop() {
			mustRemember(b, m, "web", r)
		}
	})
	b.Run("reference", func(b *testing.B) { // one small file, written and synced, nothing else
		data := make([]byte, 1200)
		path := filepath.Join(b.TempDir(), "x")
		for b.Loop() {
			if err := writeSynced(osDisk{}, path, data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
