package localstate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A directory that is removed under a running daemon is told, with what to do; nothing that was read is lost,
// and all of it is stored once the directory is back.
func TestDirectoryThatIsRemovedWhileInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, m := openTestStore(t, dir), openTestMemory(t, dir)
	g := mustSet(t, s, "web", readyState("sha256:aa"))
	mustRemember(t, m, "web", fullRecord(1))
	must(t, os.RemoveAll(dir))

	_, err := s.SetDesired(t.Context(), "web", readyState("sha256:bb"))
	told := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "restarted") {
			t.Errorf("%s = %v, want that %s is gone", what, err, dir)
		}
	}
	told("SetDesired", err)
	told("Save", m.Save("web", fullRecord(2)))
	if d := s.View("web").Desired; d.Generation != g || d.ImageID != "sha256:aa" {
		t.Errorf("desired state after a write that failed: %+v", d)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is made anew, without the lock that others have to see: %v", err)
	}

	must(t, os.MkdirAll(filepath.Join(dir, componentsDir), 0o700))
	if again := mustSet(t, s, "web", readyState("sha256:bb")); again <= g {
		t.Errorf("generation %d comes after %d", again, g)
	}
	mustRemember(t, m, "web", fullRecord(2))
	if d := openTestStore(t, dir).View("web").Desired; d.ImageID != "sha256:bb" {
		t.Errorf("stored state = %+v", d)
	}
	if r, _ := mustLoad(t, openTestMemory(t, dir)); r.Components["web"].Generation != 2 {
		t.Errorf("stored record = %+v", r.Components["web"])
	}
}

// A file that somebody damages under a running daemon is replaced by the next write, and does not become the
// previous version.
func TestFileThatIsDamagedWhileInUse(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	mustSet(t, s, "web", readyState("sha256:aa"))
	mustSet(t, s, "web", readyState("sha256:bb")) // aa is the previous version
	path := filepath.Join(dir, storeName)
	must(t, os.WriteFile(path, []byte("garbage"), 0o600))
	mustSet(t, s, "web", readyState("sha256:cc"))
	if d := openTestStore(t, dir).View("web").Desired; d.ImageID != "sha256:cc" {
		t.Errorf("stored state = %+v", d)
	}
	must(t, os.WriteFile(path, []byte("garbage"), 0o600))
	if d := openTestStore(t, dir).View("web").Desired; d.ImageID == "" {
		t.Error("there is no previous version")
	}
}
