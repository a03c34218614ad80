package smallfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, path, text string, age time.Duration) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	when := time.Now().Add(-age)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

func TestChanged(t *testing.T) {
	const old = time.Hour
	tests := []struct {
		name   string
		change func(t *testing.T, dir, path string)
		want   bool
	}{
		{"nothing", func(*testing.T, string, string) {}, false},
		{"written over, another size", func(t *testing.T, _, path string) { write(t, path, "longer", old) }, true},
		{"written over, another time", func(t *testing.T, _, path string) { write(t, path, "two", 2*old) }, true},
		{"renamed into place, same size and time", func(t *testing.T, dir, path string) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			next := filepath.Join(dir, "next")
			write(t, next, "two", old)
			if err := os.Chtimes(next, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(next, path); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"gone", func(t *testing.T, _, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			write(t, path, "one", old)
			f := New(path, 100)
			if !f.Changed() {
				t.Error("a file that was never read has not changed")
			}
			if got, err := f.Read(); err != nil || string(got) != "one" {
				t.Fatalf("read %q, %v, want one", got, err)
			}
			tt.change(t, dir, path)
			if got := f.Changed(); got != tt.want {
				t.Errorf("changed = %v, want %v", got, tt.want)
			}
		})
	}
}

// TestChangedThroughALink: as certbot does it, a link that points to another file.
func TestChangedThroughALink(t *testing.T) {
	dir := t.TempDir()
	link, one, two := filepath.Join(dir, "live"), filepath.Join(dir, "one"), filepath.Join(dir, "two")
	write(t, one, "one", time.Hour)
	write(t, two, "two", time.Hour)
	if err := os.Symlink(one, link); err != nil {
		t.Fatal(err)
	}
	f := New(link, 100)
	if _, err := f.Read(); err != nil || f.Changed() {
		t.Fatalf("read: %v; or changed by itself", err)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(two, link); err != nil {
		t.Fatal(err)
	}
	if !f.Changed() {
		t.Error("not changed though the link points elsewhere")
	}
}

func TestYoungFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "one", -time.Hour) // it stays young, however slow this machine is
	f := New(path, 100)
	if _, err := f.Read(); err != nil {
		t.Fatal(err)
	}
	if !f.Changed() {
		t.Error("a file written just now could be written again within the same tick of its time")
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f := New(path, 100)
	if _, err := f.Read(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("read: %v, want not exist with the path", err)
	}
	if f.Changed() {
		t.Error("it is still missing, which is no change")
	}
	write(t, path, "one", time.Hour)
	if !f.Changed() {
		t.Error("it is there now, which is a change")
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	large, pipe := filepath.Join(dir, "large"), filepath.Join(dir, "pipe")
	write(t, large, strings.Repeat("x", 101), time.Hour)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		large: "more than 100 bytes", pipe: "not a regular file", dir: "not a regular file",
	} {
		f := New(path, 100)
		if _, err := f.Read(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("read %s: %v, want %q", path, err, want)
		}
		if !f.Changed() {
			t.Errorf("%s: not tried again", path)
		}
	}
}
