package localstate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked means that another process uses the directory. The error's text names its process ID.
var ErrLocked = errors.New("in use by another process")

const lockName = "lock"

// A DirLock is the right to use a directory, held until Unlock or the end of the process, however
// it ends. Children started by the process do not inherit it.
type DirLock struct{ file *os.File }

// Lock takes the directory for this process, and creates it when it is missing. It does not wait:
// ErrLocked when another process, or another call in this one, has it.
func Lock(dir string) (*DirLock, error) {
	if err := (osDisk{}).MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("create state directory %q: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory %q: %w", dir, err)
	}
	if err := take(f); err != nil {
		_ = f.Close() // the first error counts
		return nil, fmt.Errorf("lock state directory %q: %w", dir, err)
	}
	return &DirLock{file: f}, nil
}

// Unlock gives the directory up. The file stays: removing it would let two processes lock two
// files of one name.
func (l *DirLock) Unlock() error {
	err := l.file.Truncate(0) // so that nobody reads a process ID of the past
	if cerr := l.file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("unlock state directory: %w", err)
	}
	return nil
}

// File is what holds the lock. Whoever has a duplicate of it, in whatever process, has the lock, too: the
// directory is free when the last one is closed. It stays the lock's.
func (l *DirLock) File() *os.File { return l.file }

// AdoptLock shares a lock that another process has, by a duplicate of its file. The file goes on to name that
// process until Own. It is closed on an error.
func AdoptLock(f *os.File) (*DirLock, error) {
	if err := flock(f); err != nil {
		_ = f.Close() // the first error counts
		return nil, fmt.Errorf("adopt lock of state directory: %w", err)
	}
	return &DirLock{file: f}, nil
}

// Leave closes this process's part of a lock that another process has, too.
func (l *DirLock) Leave() error { return l.file.Close() }

// Own writes the ID of this process into the lock's file: signals and commands find the process by it.
func (l *DirLock) Own() {
	if l.file.Truncate(0) == nil {
		_, _ = l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // a full disk must not keep the daemon from serving
	}
}

// Owner is the process that has the directory as its lock's file names it, 0 when it names none that lives.
// It does not touch the lock. Another user's process counts as long as any of that ID lives.
func Owner(dir string) int {
	path := filepath.Join(dir, lockName)
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return 0
	}
	if !opened(pid, path) {
		return 0 // the ID was given out again
	}
	return pid
}

// opened reports whether a process has the file at path open, and true when that cannot be told.
func opened(pid int, path string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	files, err := os.ReadDir(dir)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	want, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, f := range files {
		if got, err := os.Stat(filepath.Join(dir, f.Name())); err == nil && os.SameFile(got, want) {
			return true
		}
	}
	return false
}

// take locks f and writes the process ID into it.
func take(f *os.File) error {
	err := flock(f)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w%s", ErrLocked, holder(f))
	}
	if err != nil {
		return err
	}
	(&DirLock{file: f}).Own()
	return nil
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// holder is ": process ID n", or nothing when the holder did not write it yet.
func holder(f *os.File) string {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return ""
	}
	return fmt.Sprintf(": process ID %d", pid)
}
