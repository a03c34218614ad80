package localstate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// note is the value of the file under test.
type note struct {
	Text string `json:"text"`
}

func noteFile(t testing.TB, d disk, path string) *file {
	t.Helper()
	return &file{disk: d, path: path, kind: "test-note", keep: keep{}, log: testLog(t), normalise: normalise[note]}
}

func noteJSON(text string) []byte { return fmt.Appendf(nil, `{"text":%q}`, text) }

func mustSave(t testing.TB, f *file, text string) {
	t.Helper()
	if err := f.save(noteJSON(text)); err != nil {
		t.Fatalf("save(%q) = %v", text, err)
	}
}

// content is what a new process finds, "" for nothing.
func content(t testing.TB, d disk, path string) (string, source) {
	t.Helper()
	b, from, err := noteFile(t, d, path).load()
	if err != nil {
		t.Fatalf("load = %v", err)
	}
	var n note
	if err := decode(b, &n); err != nil {
		t.Fatal(err)
	}
	return n.Text, from
}

// saveSteps is how many steps a save takes that has a previous version to keep.
func saveSteps(t *testing.T, noLinks bool) int {
	t.Helper()
	d := newSimDisk()
	d.noLinks = noLinks
	f := noteFile(t, d, "dir/note.json")
	mustSave(t, f, "one")
	before := d.steps
	mustSave(t, f, "two")
	return d.steps - before
}

// eachFailure calls f for a save of "three" over "two" over "one" that fails at each of its steps,
// before and after the step took effect.
func eachFailure(t *testing.T, kill bool, f func(t *testing.T, d *simDisk, n *file, err error)) {
	t.Helper()
	for _, noLinks := range []bool{false, true} {
		for step := 1; step <= saveSteps(t, noLinks); step++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("noLinks=%v/step=%d/after=%v", noLinks, step, after), func(t *testing.T) {
					d := newSimDisk()
					d.noLinks = noLinks
					n := noteFile(t, d, "dir/note.json")
					mustSave(t, n, "one")
					mustSave(t, n, "two")
					d.fail, d.steps, d.after, d.killed = step, 0, after, kill
					err := n.save(noteJSON("three"))
					f(t, d, n, err)
				})
			}
		}
	}
}

func TestFailedSaveKeepsTheOldContentAndCanBeRepeated(t *testing.T) {
	eachFailure(t, false, func(t *testing.T, d *simDisk, n *file, err error) {
		what := d.lastStep
		got, from := content(t, d.repaired(), n.path)
		switch {
		case from != fromCurrent:
			t.Errorf("after %q: source = %v, want the newest version", what, from)
		case err == nil && got != "three", err != nil && n.certain() && got != "two", got != "two" && got != "three":
			t.Errorf("after %q, save = %v: content %q", what, err, got)
		}
		mustSave(t, n, "three")
		if got, _ := content(t, d, n.path); got != "three" {
			t.Errorf("after the repeated save: content %q", got)
		}
		mustSave(t, n, "four")
		d.names[n.path].data = []byte("torn")
		if got, from := content(t, d, n.path); got != "three" || from != fromPrevious {
			t.Errorf("previous version = %q from %v, want three", got, from)
		}
	})
}

func TestKilledSaveLeavesOldOrNew(t *testing.T) {
	eachFailure(t, true, func(t *testing.T, d *simDisk, n *file, err error) {
		what := d.lastStep
		got, from := content(t, d.repaired(), n.path)
		if from != fromCurrent || got != "two" && got != "three" || err == nil && got != "three" {
			t.Errorf("after %q, save = %v: content %q from %v", what, err, got, from)
		}
		again := noteFile(t, d, n.path)
		mustSave(t, again, "four")
		if got, _ := content(t, d, n.path); got != "four" {
			t.Errorf("content after restart and save = %q", got)
		}
	})
}

func TestPowerCutLeavesOldOrNew(t *testing.T) {
	cuts := 0
	eachFailure(t, true, func(t *testing.T, d *simDisk, n *file, err error) {
		everyChoice(func(choose func(int) int) bool {
			cuts++
			got, from := content(t, d.powerCut(choose), n.path)
			if from != fromCurrent || got != "two" && got != "three" || err == nil && got != "three" {
				t.Errorf("after %q, save = %v: content %q from %v", d.lastStep, err, got, from)
				return false
			}
			return true
		})
	})
	t.Logf("%d different outcomes of power cuts", cuts)
}

func TestPowerCutDuringTheFirstSaveLeavesNothingOrNew(t *testing.T) {
	for step := 1; step <= 8; step++ {
		d := newSimDisk()
		d.fail, d.killed = step, true
		err := noteFile(t, d, "dir/note.json").save(noteJSON("one"))
		everyChoice(func(choose func(int) int) bool {
			got, from := content(t, d.powerCut(choose), "dir/note.json")
			if from == fromNothing && err != nil || from == fromCurrent && got == "one" {
				return true
			}
			t.Errorf("after step %d, save = %v: content %q from %v", step, err, got, from)
			return false
		})
	}
}

func TestTornFileFallsBackAtEveryLength(t *testing.T) {
	path := filepath.Join(t.TempDir(), "note.json")
	f := noteFile(t, osDisk{}, path)
	mustSave(t, f, "old")
	mustSave(t, f, "new")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(path + suffixPrev)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		for _, tail := range [][]byte{nil, make([]byte, len(whole)-n)} { // cut off, or never written
			torn := slices.Concat(whole[:n], tail)
			writeFile(t, path, torn)
			writeFile(t, path+suffixPrev, old)
			got, from := content(t, osDisk{}, path)
			if n == len(whole)-1 && tail == nil { // only the final newline is missing
				if got != "new" {
					t.Errorf("without newline: content %q", got)
				}
				continue
			}
			if got != "old" || from != fromPrevious {
				t.Fatalf("torn at %d of %d: content %q from %v", n, len(whole), got, from)
			}
			if again, from := content(t, osDisk{}, path); again != "old" || from != fromPrevious {
				t.Fatalf("torn at %d, second start: content %q from %v", n, again, from)
			}
		}
	}
}

func TestFlippedBitIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "note.json")
	mustSave(t, noteFile(t, osDisk{}, path), "new")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(whole) * 8 {
		flipped := append([]byte{}, whole...)
		flipped[i/8] ^= 1 << (i % 8)
		data, err := decodeFile("test-note", flipped)
		if err == nil && string(data) != string(noteJSON("new")) {
			t.Fatalf("bit %d flipped: data %s", i, data)
		}
		if errors.Is(err, ErrNewer) {
			t.Fatalf("bit %d flipped: taken for a newer format", i)
		}
	}
}

func TestBothVersionsDamagedIsLostAndKeptAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "note.json")
	writeFile(t, path, []byte("torn"))
	writeFile(t, path+suffixPrev, []byte("torn too"))
	if got, from := content(t, osDisk{}, path); got != "" || from != fromLost {
		t.Fatalf("content %q from %v, want lost", got, from)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "*"+suffixCorrupt+"*"))
	if err != nil || len(aside) != 2 {
		t.Fatalf("kept aside: %v, %v; want both files", aside, err)
	}
	for _, a := range aside {
		if b, err := os.ReadFile(a); err != nil || !strings.HasPrefix(string(b), "torn") {
			t.Errorf("%s holds %q, %v", a, b, err)
		}
	}
	f := noteFile(t, osDisk{}, path)
	mustSave(t, f, "again")
	if got, from := content(t, osDisk{}, path); got != "again" || from != fromCurrent {
		t.Errorf("content %q from %v after a new save", got, from)
	}
}

func TestDamagedFileNeverBecomesThePreviousVersion(t *testing.T) {
	d := newSimDisk()
	path := "dir/note.json"
	f := noteFile(t, d, path)
	mustSave(t, f, "one")
	mustSave(t, f, "two")
	for step := 1; step <= 16; step++ {
		d := d.powerCut(func(int) int { return 0 })
		d.names[path] = &inode{data: []byte("torn"), synced: 4}
		again := noteFile(t, d, path)
		d.fail, d.killed = step, true // also while the damaged file is moved aside
		_, _, _ = again.load()
		err := again.save(noteJSON("three"))
		everyChoice(func(choose func(int) int) bool {
			got, from := content(t, d.powerCut(choose), path)
			if from == fromLost || got != "one" && got != "three" || err == nil && got != "three" {
				t.Errorf("step %d %q, save = %v: content %q from %v", step, d.lastStep, err, got, from)
				return false
			}
			return true
		})
	}
}

func TestNewerFormatIsRefusedAndLeftAlone(t *testing.T) {
	data := []byte(`{"shape":"unheard of"}`)
	newer := fmt.Appendf(nil, `{"kind":"test-note","format":2,"sha256":%q,"data":%s,"extra":1}`, checksum("test-note", 2, data), data)
	for _, suffix := range []string{"", suffixPrev} {
		dir := t.TempDir()
		path := filepath.Join(dir, "note.json")
		writeFile(t, path+suffix, newer)
		f := noteFile(t, osDisk{}, path)
		if _, _, err := f.load(); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), path+suffix) {
			t.Errorf("load = %v, want ErrNewer with the path", err)
		}
		if err := f.save(noteJSON("old")); !errors.Is(err, ErrNewer) {
			t.Errorf("save after load = %v, want ErrNewer", err)
		}
		if err := noteFile(t, osDisk{}, path).save(noteJSON("old")); !errors.Is(err, ErrNewer) {
			t.Errorf("save without load = %v, want ErrNewer", err)
		}
		got, err := os.ReadFile(path + suffix)
		if err != nil || string(got) != string(newer) {
			t.Errorf("file is %q, %v", got, err)
		}
		if es, err := os.ReadDir(dir); err != nil || len(es) != 1 {
			t.Errorf("directory holds %v, %v", es, err)
		}
	}
}

func TestFileOfAnotherKindIsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "note.json")
	b, err := encodeFile(kindStore, noteJSON("x"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, b)
	if _, from := content(t, osDisk{}, path); from != fromLost {
		t.Errorf("source = %v, want lost", from)
	}
}

func TestEqualContentIsNotWritten(t *testing.T) {
	d := newSimDisk()
	f := noteFile(t, d, "dir/note.json")
	mustSave(t, f, "one")
	before := d.steps
	mustSave(t, f, "one")
	if d.steps != before {
		t.Errorf("%d steps for equal content, want none", d.steps-before)
	}
	mustSave(t, noteFile(t, d, f.path), "one") // also after a restart, which makes it durable
	if d.steps != before+1 {
		t.Errorf("%d steps for equal content after a restart, want one", d.steps-before)
	}
	d.names = map[string]*inode{} // somebody cleaned up
	mustSave(t, f, "one")
	if got, _ := content(t, d, f.path); got != "one" {
		t.Errorf("content after removal and save = %q", got)
	}
}

func TestUnreadableFileIsNeitherLostNorReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "note.json")
	if err := os.Mkdir(path, 0o700); err != nil { // reading it fails, whoever asks
		t.Fatal(err)
	}
	f := noteFile(t, osDisk{}, path)
	if _, _, err := f.load(); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("load = %v, want EISDIR", err)
	}
	if err := f.save(noteJSON("x")); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("save = %v, want EISDIR", err)
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 1 {
		t.Errorf("directory holds %v, %v", es, err)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := (osDisk{}).MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	f := noteFile(t, osDisk{}, filepath.Join(dir, "note.json"))
	mustSave(t, f, "one")
	mustSave(t, f, "two")
	for path, want := range map[string]fs.FileMode{
		dir: 0o700, filepath.Dir(dir): 0o700, f.path: 0o600, f.path + suffixPrev: 0o600,
	} {
		i, err := os.Stat(path)
		if err != nil || i.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, i.Mode(), err, want)
		}
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 2 {
		t.Errorf("directory holds %v, %v; want the file and its previous version", es, err)
	}
}

func TestTooLargeIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "note.json")
	f := noteFile(t, osDisk{}, path)
	mustSave(t, f, "one")
	if _, err := encodeFile(f.kind, make([]byte, maxFile)); !errors.Is(err, errTooLarge) {
		t.Errorf("encodeFile = %v, want errTooLarge", err)
	}
	size, err := osDisk{}.Size(path)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := (osDisk{}).Read(path, size); err != nil || int64(len(b)) != size {
		t.Errorf("Read up to the size = %d bytes, %v; want %d", len(b), err, size)
	}
	if _, err := (osDisk{}).Read(path, size-1); !errors.Is(err, errTooLarge) {
		t.Errorf("Read up to less than the size = %v, want errTooLarge", err)
	}
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
