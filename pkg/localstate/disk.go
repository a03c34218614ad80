package localstate

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A disk does single operations on files, so that tests can make each of them fail and can cut the
// power after any of them.
type disk interface {
	// Read returns the content, or an error when there are more than limit bytes.
	Read(path string, limit int64) ([]byte, error)
	// Size is the length of the file in bytes.
	Size(path string) (int64, error)
	// Create makes a new file with permission 0600; it must not exist.
	Create(path string) (diskFile, error)
	Link(from, to string) error
	Rename(from, to string) error
	Remove(path string) error
	// Names lists a directory.
	Names(dir string) ([]string, error)
	// MkdirAll makes the directory and its parents durably, with permission 0700.
	MkdirAll(dir string) error
	// SyncDir makes durable which names the directory holds.
	SyncDir(dir string) error
}

// A diskFile is a file being written.
type diskFile interface {
	io.WriteCloser
	Sync() error
}

var errTooLarge = errors.New("file is too large")

// osDisk is the disk of this machine.
type osDisk struct{}

func (osDisk) Read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && int64(len(b)) > limit {
		return nil, errTooLarge
	}
	return b, err
}

func (osDisk) Size(path string) (int64, error) {
	i, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}

func (osDisk) Create(path string) (diskFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err // not f: a nil *os.File in an interface is not nil
	}
	return f, nil
}

func (osDisk) Link(from, to string) error   { return os.Link(from, to) }
func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) Remove(path string) error     { return os.Remove(path) }

func (osDisk) Names(dir string) ([]string, error) {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(es))
	for i, e := range es {
		names[i] = e.Name()
	}
	return names, nil
}

func (d osDisk) MkdirAll(dir string) error {
	if i, err := os.Stat(dir); err == nil && i.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := d.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) { // may be not ours to read
		return err
	}
	return nil
}

func (osDisk) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) { // a file system that cannot, and needs no asking
		err = nil
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// writeSynced makes a new file with this content durable; its name is not yet. What is left of an
// earlier attempt is replaced, what is left of a failed one is removed.
func writeSynced(d disk, path string, content []byte) error {
	if err := d.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = d.Remove(path) // the room it takes may be what is missing; the first error counts
	}
	return err
}
