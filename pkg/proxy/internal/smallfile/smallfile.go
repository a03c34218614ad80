package smallfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// young is how long after its last change the time of a file may hide another one.
const young = 2 * time.Second

// A File is a path that is read again and again. Make one with New.
type File struct {
	path  string
	limit int64
	seen  fs.FileInfo // when it was last read; nil: not there, or not yet
	sure  bool        // what was read is what seen stands for
}

// New returns a file that is not read yet. More than limit bytes are refused.
func New(path string, limit int64) *File { return &File{path: path, limit: limit} }

// Path is the path given to New.
func (f *File) Path() string { return f.path }

// Changed reports whether Read could give something else than the last time. After a Read that
// failed it is true, unless the file was missing and still is.
func (f *File) Changed() bool {
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f.seen != nil || !f.sure
	case err != nil:
		return true
	}
	return !f.sure || f.seen == nil || !os.SameFile(info, f.seen) ||
		info.Size() != f.seen.Size() || !info.ModTime().Equal(f.seen.ModTime())
}

// Read returns the content. Its errors name the path; a missing file is fs.ErrNotExist.
func (f *File) Read() ([]byte, error) {
	f.seen, f.sure = nil, false
	// A pipe without a writer must not keep us; for a regular file the flag means nothing.
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		f.sure = errors.Is(err, fs.ErrNotExist)
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", f.path)
	}
	text, err := io.ReadAll(io.LimitReader(file, f.limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > f.limit {
		return nil, fmt.Errorf("read %s: more than %d bytes", f.path, f.limit)
	}
	f.seen = info
	f.sure = int64(len(text)) == info.Size() && time.Since(info.ModTime()) > young
	return text, nil
}
