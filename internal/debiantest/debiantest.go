package debiantest

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/skiptest"
)

// fetchWithin is the longest wait for Debian's packages.
const fetchWithin = 10 * time.Minute

// A Tree is some of Debian's packages, unpacked, with the libraries they need.
type Tree struct{ dir string }

// Unpack fetches and unpacks the packages and the libraries they need, unless a run before did. The
// test is skipped where that cannot be done, or fails when GANTRYD_REQUIRE lists require.
func Unpack(t testing.TB, require string, packages ...string) Tree {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		skiptest.Missing(t, require, "apt-get fetches the servers")
	}
	release, err := os.ReadFile("/etc/debian_version")
	if err != nil {
		skiptest.Missing(t, require, "the servers are Debian's: %v", err)
	}
	root, err := filepath.Abs("../../.cache/debian")
	if err != nil {
		t.Fatal(err)
	}
	packages = slices.Sorted(slices.Values(packages))
	name := strings.Join(append([]string{strings.TrimSpace(string(release))}, packages...), "+")
	done := filepath.Join(root, strings.ReplaceAll(name, "/", "-"))
	if _, err := os.Stat(done); err == nil {
		return Tree{done}
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	tmp, err := os.MkdirTemp(root, "fetch-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := fetch(t, tmp, packages); err != nil {
		skiptest.Missing(t, require, "%v", err)
	}
	if err := os.Rename(filepath.Join(tmp, "tree"), done); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		t.Fatal(err) // somebody else having been faster is fine
	}
	return Tree{done}
}

// fetch unpacks into dir/tree. The lists of packages are fetched anew, into dir as well: the
// machine's own may be missing, or name versions that are gone.
func fetch(t testing.TB, dir string, wanted []string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fetchWithin)
	defer cancel()
	for _, d := range []string{"lists/partial", "cache/archives/partial", "debs", "tree"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	apt := func(program string, args ...string) (string, error) {
		args = append([]string{
			"-q", "-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
			"-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3",
		}, args...)
		return run(ctx, filepath.Join(dir, "debs"), program, args...)
	}
	if _, err := apt("apt-get", "update"); err != nil {
		return err
	}
	closure, err := apt("apt-cache", append([]string{
		"depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances",
	}, wanted...)...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(closure) {
		name := strings.TrimSpace(line)
		library := strings.HasPrefix(name, "lib") || strings.HasPrefix(name, "zlib")
		if line == name+"\n" && library && !strings.Contains(name, ":") { // what is indented or virtual is no package
			wanted = append(wanted, name)
		}
	}
	if _, err := apt("apt-get", append([]string{"download"}, wanted...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "debs", "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if _, err := run(ctx, dir, "dpkg-deb", "-x", deb, "tree"); err != nil {
			return err
		}
	}
	return nil
}

// run runs a program in dir and returns what it wrote to stdout.
func run(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errOut bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errOut
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, errOut.String())
	}
	return out.String(), nil
}

// Path is where a file of the tree is on this machine; the test fails when it is not there.
func (tr Tree) Path(t testing.TB, name string) string {
	t.Helper()
	full, err := tr.find(name)
	if err != nil {
		t.Fatal(err)
	}
	return full
}

// find resolves a path inside the tree, links included, to one of this machine.
func (tr Tree) find(name string) (string, error) {
	for range 20 { // links
		full := filepath.Join(tr.dir, name)
		st, err := os.Lstat(full)
		if err != nil {
			return "", err
		}
		if st.Mode()&os.ModeSymlink == 0 {
			return full, nil
		}
		to, err := os.Readlink(full)
		if err != nil {
			return "", err
		}
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(name), to)
		}
		name = to
	}
	return "", fmt.Errorf("find %q: too many links", name)
}

// folders are where libraries are, as the loader looks for them.
func (tr Tree) folders() []string {
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib", "lib"} {
		found, err := filepath.Glob(filepath.Join(tr.dir, pattern))
		if err != nil {
			continue // the patterns are good
		}
		for _, d := range found {
			dirs = append(dirs, "/"+strings.TrimPrefix(d, tr.dir+"/"))
		}
	}
	return dirs
}

// Program returns the files a program of the tree needs to run: itself, its loader and all of its
// libraries. They have the paths they have in the tree.
func (tr Tree) Program(t testing.TB, name string) []dockertest.File {
	t.Helper()
	var files []dockertest.File
	todo, seen := []string{name}, map[string]bool{}
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		if seen[next] {
			continue
		}
		seen[next] = true
		full, err := tr.find(next)
		if err != nil {
			t.Fatalf("find what %s needs: %v", name, err)
		}
		body, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, dockertest.File{Path: next, Mode: 0o755, Body: body})
		needed, err := tr.needs(body)
		if err != nil {
			t.Fatalf("read what %s needs: %v", next, err)
		}
		todo = append(todo, needed...)
	}
	return files
}

// needs are the loader and the libraries that a program or library names, as paths in the tree.
func (tr Tree) needs(body []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return nil, err
			}
			paths = append(paths, strings.TrimRight(string(b), "\x00"))
		}
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, lib := range libs {
		i := slices.IndexFunc(tr.folders(), func(d string) bool {
			_, err := tr.find(path.Join(d, lib))
			return err == nil
		})
		switch {
		case i >= 0:
			paths = append(paths, path.Join(tr.folders()[i], lib))
		case !strings.HasPrefix(lib, "ld-linux"): // the loader, which a program names itself
			return nil, fmt.Errorf("no package has %s", lib)
		}
	}
	return paths, nil
}

// Command is a command that runs a program of the tree on this machine, with the tree's libraries,
// until ctx ends.
func (tr Tree) Command(ctx context.Context, t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	full := tr.Path(t, name)
	body, err := os.ReadFile(full)
	if err != nil {
		t.Fatal(err)
	}
	needed, err := tr.needs(body)
	if err != nil || len(needed) == 0 {
		t.Fatalf("read what %s needs: %v", name, err)
	}
	loader, err := tr.find(needed[0])
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, d := range tr.folders() {
		dirs = append(dirs, filepath.Join(tr.dir, d))
	}
	return exec.CommandContext(ctx, loader, append([]string{"--library-path", strings.Join(dirs, ":"), full}, args...)...)
}
