package localstate

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

var errDead = errors.New("process is dead")

// simDisk is a disk in memory that keeps promises no better than POSIX does: content is durable
// after Sync, names are durable after SyncDir, and until then a power cut may leave each of them
// at any value it had. It fails where it is told to.
type simDisk struct {
	mu      sync.Mutex
	names   map[string]*inode
	history map[string][]*inode // values of a name since the last SyncDir, the durable one first; nil: no file
	steps   int                 // operations that change something, so far

	fail     int  // the step that fails, counted from 1; 0: none
	after    bool // it fails after it took effect, not before
	killed   bool // and so does every step after it
	noLinks  bool
	lastStep string
}

type inode struct {
	data   []byte
	synced int // bytes that are durable
}

func newSimDisk() *simDisk {
	return &simDisk{names: map[string]*inode{}, history: map[string][]*inode{}}
}

// do is one step.
func (d *simDisk) do(what string, effect func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps++
	if d.killed && d.fail > 0 && d.steps > d.fail {
		return errDead
	}
	if d.fail != d.steps {
		return effect()
	}
	d.lastStep = what
	if d.after {
		_ = effect()
	}
	return syscall.EIO
}

// set gives a name a new value and remembers the old one.
func (d *simDisk) set(path string, n *inode) {
	if _, ok := d.history[path]; !ok {
		d.history[path] = []*inode{d.names[path]}
	}
	d.history[path] = append(d.history[path], n)
	if n == nil {
		delete(d.names, path)
		return
	}
	d.names[path] = n
}

func (d *simDisk) Read(path string, _ int64) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.names[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return slices.Clone(n.data), nil
}

func (d *simDisk) Size(path string) (int64, error) {
	b, err := d.Read(path, 0)
	return int64(len(b)), err
}

func (d *simDisk) Create(path string) (diskFile, error) {
	n := &inode{}
	err := d.do("create "+path, func() error {
		if _, ok := d.names[path]; ok {
			return fs.ErrExist
		}
		d.set(path, n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &simFile{disk: d, inode: n}, nil
}

func (d *simDisk) Link(from, to string) error {
	return d.do("link "+to, func() error {
		if d.noLinks {
			return syscall.EPERM
		}
		n, ok := d.names[from]
		if !ok {
			return fs.ErrNotExist
		}
		if _, ok := d.names[to]; ok {
			return fs.ErrExist
		}
		d.set(to, n)
		return nil
	})
}

func (d *simDisk) Rename(from, to string) error {
	return d.do("rename to "+to, func() error {
		n, ok := d.names[from]
		if !ok {
			return fs.ErrNotExist
		}
		if d.names[to] == n {
			return nil // two names of one file: nothing happens
		}
		d.set(from, nil)
		d.set(to, n)
		return nil
	})
}

func (d *simDisk) Remove(path string) error {
	return d.do("remove "+path, func() error {
		if _, ok := d.names[path]; !ok {
			return fs.ErrNotExist
		}
		d.set(path, nil)
		return nil
	})
}

func (d *simDisk) Names(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for p := range d.names {
		if filepath.Dir(p) == dir {
			names = append(names, filepath.Base(p))
		}
	}
	return names, nil
}

func (d *simDisk) MkdirAll(string) error { return nil }

func (d *simDisk) SyncDir(dir string) error {
	return d.do("sync directory", func() error {
		for p := range d.history {
			if filepath.Dir(p) == dir {
				delete(d.history, p)
			}
		}
		return nil
	})
}

type simFile struct {
	disk  *simDisk
	inode *inode
}

func (f *simFile) Write(b []byte) (int, error) {
	half := len(b) / 2
	f.inode.data = append(f.inode.data, b[:half]...)
	err := f.disk.do("write", func() error {
		f.inode.data = append(f.inode.data, b[half:]...)
		return nil
	})
	if err != nil {
		return half, err
	}
	return len(b), nil
}

func (f *simFile) Sync() error {
	return f.disk.do("sync", func() error {
		f.inode.synced = len(f.inode.data)
		return nil
	})
}

func (f *simFile) Close() error { return f.disk.do("close", func() error { return nil }) }

// repaired is the same disk, working.
func (d *simDisk) repaired() *simDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.steps, d.killed = 0, 0, false
	return d
}

// powerCut is the disk after a power cut; choose picks one of n possibilities.
func (d *simDisk) powerCut(choose func(n int) int) *simDisk {
	after := newSimDisk()
	after.noLinks = d.noLinks
	paths := map[string]struct{}{}
	for p := range d.names {
		paths[p] = struct{}{}
	}
	for p := range d.history {
		paths[p] = struct{}{}
	}
	survivors := map[*inode]*inode{}
	sorted := make([]string, 0, len(paths))
	for p := range paths {
		sorted = append(sorted, p)
	}
	slices.Sort(sorted) // so that equal choices mean the same each time
	for _, p := range sorted {
		n := d.names[p]
		if h := d.history[p]; h != nil {
			n = h[choose(len(h))]
		}
		if n == nil {
			continue
		}
		if survivors[n] == nil {
			size := len(n.data)
			if n.synced < size {
				size = []int{n.synced, (n.synced + size) / 2, size}[choose(3)]
			}
			survivors[n] = &inode{data: slices.Clone(n.data[:size]), synced: size}
		}
		after.names[p] = survivors[n]
	}
	return after
}

// find is the content of the only name with the suffix, nil when there is none.
func (d *simDisk) find(suffix string) *inode {
	for p, n := range d.names {
		if strings.HasSuffix(p, suffix) {
			return n
		}
	}
	return nil
}

// everyChoice calls f with every sequence of choices that it makes, until f returns false.
func everyChoice(f func(choose func(n int) int) bool) {
	var path, width []int
	for {
		i := 0
		ok := f(func(n int) int {
			if i == len(path) {
				path, width = append(path, 0), append(width, n)
			}
			i++
			return path[i-1]
		})
		path, width = path[:i], width[:i]
		for len(path) > 0 && path[len(path)-1]+1 == width[len(path)-1] {
			path, width = path[:len(path)-1], width[:len(width)-1]
		}
		if !ok || len(path) == 0 {
			return
		}
		path[len(path)-1]++
	}
}
