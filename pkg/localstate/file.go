package localstate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Suffixes of the files beside a file.
const (
	suffixPrev    = ".prev"
	suffixTemp    = ".tmp"
	suffixCorrupt = ".corrupt-"
)

// source says where the content of a file came from.
type source int

const (
	fromNothing  source = iota // there is no file
	fromCurrent                // the newest version
	fromPrevious               // the version before: the newest one is damaged or gone
	fromLost                   // there was content, and none of it can be used
)

// A file holds one JSON value durably, and its previous version beside it.
type file struct {
	disk disk
	path string
	kind string
	keep keep
	log  *slog.Logger
	// normalise decodes data and encodes it again, which drops what this version does not know.
	normalise func(data []byte) ([]byte, error)

	mu      sync.Mutex // held during I/O: it is what puts the writes of one file in order
	looked  bool       // load has been called
	data    []byte     // newest content, with the fields this version does not know; nil when none
	known   []byte     // data without them
	sound   bool       // the newest version on the disk is whole, so it may become the previous one
	settled bool       // data is on the disk for sure
}

// load reads the file. A damaged version is moved aside. The error is ErrNewer, or that the disk
// could not be read; then nothing was touched.
func (f *file) load() ([]byte, source, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.loadLocked()
}

func (f *file) loadLocked() ([]byte, source, error) {
	cur, err := f.read(f.path)
	if err != nil {
		return nil, fromNothing, err
	}
	var prev version
	if !cur.whole() {
		if prev, err = f.read(f.path + suffixPrev); err != nil {
			return nil, fromNothing, err
		}
	}
	f.looked, f.sound, f.settled = true, cur.whole(), false
	f.data, f.known = cur.data, cur.known
	switch {
	case cur.whole():
		f.settle()
		return f.data, fromCurrent, nil
	case prev.whole():
		f.data, f.known = prev.data, prev.known
		f.log.Warn("state file unusable, previous version taken", "file", f.path, "err", cur.damage)
		f.setAside(f.path, cur)
		f.settle()
		return f.data, fromPrevious, nil
	case cur.absent() && prev.absent():
		return nil, fromNothing, nil
	}
	f.log.Error("state file lost", "file", f.path, "err", cur.damage, "previous_err", prev.damage)
	f.setAside(f.path, cur)
	f.setAside(f.path+suffixPrev, prev)
	return nil, fromLost, nil
}

// settle makes durable what was found: a process that was killed may have left it where a power
// cut still undoes it. A disk that cannot is no reason not to start; the next save says so again.
func (f *file) settle() {
	if err := f.disk.SyncDir(filepath.Dir(f.path)); err != nil {
		f.log.Warn("state file may not be durable", "file", f.path, "err", err)
		return
	}
	f.settled = f.sound
}

// A version is what one file on the disk turned out to be.
type version struct {
	data, known []byte
	damage      error // nil when it is whole; fs.ErrNotExist when there is none
}

func (v version) whole() bool  { return v.data != nil }
func (v version) absent() bool { return errors.Is(v.damage, fs.ErrNotExist) }

// read looks at one version. An error means that nothing can be said about it.
func (f *file) read(path string) (version, error) {
	content, err := f.disk.Read(path, maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EIO), errors.Is(err, errTooLarge):
		return version{damage: err}, nil
	case err != nil:
		return version{}, fmt.Errorf("read state file: %w", err)
	}
	data, err := decodeFile(f.kind, content)
	if errors.Is(err, ErrNewer) {
		return version{}, fmt.Errorf("read state file %q: %w; start that gantryd again, or move the file away", path, err)
	}
	if err != nil {
		return version{damage: err}, nil
	}
	known, err := f.normalise(data)
	if err != nil {
		return version{damage: err}, nil
	}
	return version{data: data, known: known}, nil
}

// setAside keeps a damaged file for people to look at, out of the way of the next version.
func (f *file) setAside(path string, v version) {
	if v.absent() {
		return
	}
	aside := path + suffixCorrupt + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := f.disk.Rename(path, aside); err != nil {
		f.log.Warn("damaged state file left in place", "file", path, "err", err)
		return
	}
	f.log.Warn("damaged state file kept aside", "file", aside)
}

// save makes fresh the content, durably. It does nothing when it is already. After an error the
// old content is there, or, when settled is false, perhaps the new one; call it again.
func (f *file) save(fresh []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.looked {
		if _, _, err := f.loadLocked(); err != nil {
			return err
		}
	}
	data := f.merge(fresh)
	content, err := encodeFile(f.kind, data)
	if err != nil {
		return err
	}
	if f.settled && bytes.Equal(data, f.data) && f.stillThere(len(content)) {
		return nil
	}
	if err := f.replace(content); err != nil {
		return f.explain(err)
	}
	f.data, f.known = data, fresh
	return nil
}

// explain tells a directory that was taken away from other errors of a write.
func (f *file) explain(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(f.path)
	if _, gone := f.disk.Size(dir); !errors.Is(gone, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w: %q was removed while the daemon used it; containers go on, and nothing is stored until the daemon is restarted: %w", ErrGone, dir, err)
}

// merge returns fresh with the fields this version does not know. They never change what it reads.
func (f *file) merge(fresh []byte) []byte {
	if f.data == nil {
		return fresh
	}
	merged := carry(f.data, f.known, fresh, f.keep)
	if again, err := f.normalise(merged); err != nil || !bytes.Equal(again, fresh) {
		return fresh
	}
	return merged
}

// stillThere reports whether nobody took the file away meanwhile.
func (f *file) stillThere(size int) bool {
	n, err := f.disk.Size(f.path)
	return err == nil && n == int64(size)
}

func (f *file) replace(content []byte) error {
	temp := f.path + suffixTemp
	if err := writeSynced(f.disk, temp, content); err != nil {
		return err
	}
	if err := f.keepPrevious(); err != nil {
		_ = f.disk.Remove(temp) // the first error counts
		return fmt.Errorf("keep previous version: %w", err)
	}
	f.settled = false // from here on the disk may hold either version
	if err := f.disk.Rename(temp, f.path); err != nil {
		_ = f.disk.Remove(temp) // the first error counts
		return err
	}
	f.sound = true
	if err := f.disk.SyncDir(filepath.Dir(f.path)); err != nil {
		return err
	}
	f.settled = true
	return nil
}

// keepPrevious gives the newest version a second name, so that there is no moment without one. A
// version that is not known to be whole never replaces the previous one.
func (f *file) keepPrevious() error {
	if !f.sound {
		return nil
	}
	if cur, err := f.read(f.path); err == nil && !cur.whole() {
		return nil // somebody damaged it meanwhile, or took it away; the previous version is still good
	}
	temp := f.path + suffixPrev + suffixTemp
	if err := f.disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := f.disk.Link(f.path, temp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody removed it; the previous version is still good
	}
	if err != nil {
		err = f.copyTo(temp) // a file system without hard links
	}
	if err != nil {
		return err
	}
	if err := f.disk.Rename(temp, f.path+suffixPrev); err != nil {
		_ = f.disk.Remove(temp) // the first error counts
		return err
	}
	// Renaming one name of a file to another of the same file does nothing; a crash can leave that.
	if err := f.disk.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (f *file) copyTo(path string) error {
	content, err := f.disk.Read(f.path, maxFile)
	if err != nil {
		return err
	}
	return writeSynced(f.disk, path, content)
}

// remove takes the file and its previous version away.
func (f *file) remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range []string{f.path + suffixPrev, f.path} {
		if err := f.disk.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f.data, f.known, f.sound, f.settled = nil, nil, false, false
	return f.disk.SyncDir(filepath.Dir(f.path))
}

// has reports whether there is content, durably.
func (f *file) has() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.looked {
		if _, _, err := f.loadLocked(); err != nil {
			return false, err
		}
	}
	return f.settled, nil
}

// certain reports whether the content is on the disk for sure; if not, a failed save may have
// reached the disk.
func (f *file) certain() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settled
}
