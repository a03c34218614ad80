package cli

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// accessLogFlag is the same for both daemons.
func accessLogFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "access-log", "", "file that gets a line of JSON for each HTTP request, - for standard output (default none)")
}

// An accessLog is where requests are logged to.
type accessLog interface {
	io.WriteCloser
	SetWriteDeadline(t time.Time) error
}

// openAccessLog opens what --access-log names; nil for nothing.
func openAccessLog(env Env, path string, log *slog.Logger) (accessLog, error) {
	switch path {
	case "":
		return nil, nil
	case "-":
		return &logStream{w: env.Out}, nil
	}
	f := &logFile{path: path, log: log}
	if err := f.open(); err != nil {
		return nil, fail(exitUsage, "--access-log: %w", err)
	}
	return f, nil
}

// lookAgain is how often it is looked whether a log was moved away.
const lookAgain = time.Second

// A logFile is appended to. When it is moved away, as logrotate does it, or removed, it is made again.
// Writes come from one goroutine; the deadline may be set by another.
type logFile struct {
	path   string
	log    *slog.Logger
	file   atomic.Pointer[os.File]
	looked time.Time
	said   string // why it could not be made again
}

func (l *logFile) open() error {
	// A pipe that nobody reads is an error now, and must not keep us later.
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return err
	}
	if old := l.file.Swap(f); old != nil {
		_ = old.Close()
	}
	l.looked = time.Now()
	return nil
}

// Write implements io.Writer.
func (l *logFile) Write(p []byte) (int, error) {
	if time.Since(l.looked) >= lookAgain {
		l.look()
	}
	return l.file.Load().Write(p)
}

// look makes the file again when it is not there any more. Until that works the old one is written to.
func (l *logFile) look() {
	l.looked = time.Now()
	now, err := os.Stat(l.path)
	if err == nil {
		if was, statErr := l.file.Load().Stat(); statErr == nil && os.SameFile(now, was) {
			return
		}
	}
	said := ""
	if err := l.open(); err != nil {
		if said = err.Error(); said != l.said {
			l.log.Warn("access log was moved away and cannot be made again", "err", err)
		}
	}
	l.said = said
}

// SetWriteDeadline ends a write that waits for the reader of a pipe.
func (l *logFile) SetWriteDeadline(t time.Time) error { return l.file.Load().SetWriteDeadline(t) }

// Close implements io.Closer.
func (l *logFile) Close() error { return l.file.Load().Close() }

// A logStream writes to standard output, which others write to as well, and which may be a pipe that nobody
// reads: it must stay possible to stop.
type logStream struct {
	w        io.Writer
	deadline atomic.Int64 // in Unix nanoseconds; 0 for none
}

// pipeRoom is what a pipe that is ready to be written to takes for sure, in one piece.
const pipeRoom = 4096

// Write implements io.Writer.
func (l *logStream) Write(p []byte) (int, error) {
	f, ok := l.w.(*os.File)
	if !ok {
		return l.w.Write(p)
	}
	for done := 0; done < len(p); {
		if err := l.await(f); err != nil {
			return done, err
		}
		n, err := f.Write(p[done : done+lines(p[done:])])
		if done += n; err != nil {
			return done, err
		}
	}
	return len(p), nil
}

// lines is the length of as many lines as fit.
func lines(p []byte) int {
	if len(p) <= pipeRoom {
		return len(p)
	}
	if i := bytes.LastIndexByte(p[:pipeRoom], '\n'); i >= 0 {
		return i + 1
	}
	return pipeRoom
}

// await returns once f takes something, or when the deadline is over.
func (l *logStream) await(f *os.File) error {
	for {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLOUT}} //nolint:gosec // descriptors are small
		if n, err := unix.Poll(fds, 100); n > 0 || err != nil && err != unix.EINTR {
			return nil // the write says what is wrong
		}
		if at := l.deadline.Load(); at != 0 && time.Now().UnixNano() > at {
			return fmt.Errorf("write access log: %w", os.ErrDeadlineExceeded)
		}
	}
}

// SetWriteDeadline ends a write that waits for the reader of a pipe.
func (l *logStream) SetWriteDeadline(t time.Time) error {
	l.deadline.Store(t.UnixNano())
	return nil
}

// Close implements io.Closer. Standard output is not ours to close.
func (*logStream) Close() error { return nil }
