package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/gantryd/gantryd/pkg/localstate"
)

// maxPath is the kernel's limit for the path of a unix socket, less the ending zero.
const maxPath = 107

// At opens a way to name in dir that is short enough for a socket, and calls f with it.
func At(dir, name string, f func(path string) error) error {
	path := filepath.Join(dir, name)
	if len(path) <= maxPath {
		return f(path)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), name))
}

// Bind makes a listening socket name in dir, of network unix or unixpacket, for its owner only. It takes the place of one that is there in one
// step: at no moment does a client find none. The caller has the lock of dir. Closing the listener
// leaves the name, which may be somebody else's by then.
func Bind(ctx context.Context, network, dir, name string) (*net.UnixListener, error) {
	var l *net.UnixListener
	fresh := name + ".new"
	err := At(dir, fresh, func(path string) error {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove left-over socket: %w", err)
		}
		made, err := (&net.ListenConfig{}).Listen(ctx, network, path)
		if err != nil {
			return err
		}
		l = made.(*net.UnixListener)
		l.SetUnlinkOnClose(false)
		return os.Chmod(path, 0o600)
	})
	if err == nil {
		err = os.Rename(filepath.Join(dir, fresh), filepath.Join(dir, name))
	}
	if err != nil {
		if l != nil {
			_ = l.Close() // the first error counts
		}
		return nil, fmt.Errorf("listen on %q: %w", filepath.Join(dir, name), err)
	}
	return l, nil
}

// How long, and how often, a socket is tried that nobody listens on although a daemon has the directory.
const (
	reachWithin = 30 * time.Second
	reachEvery  = 50 * time.Millisecond
)

// Reach is Dial for a socket of the daemon that has dir. As long as such a process lives, which may be about to
// open the socket, a socket that is missing or refuses is tried again, for 30 s at most.
func Reach(ctx context.Context, network, dir, name string) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	tick := time.NewTicker(reachEvery)
	defer tick.Stop()
	for {
		lives := localstate.Owner(dir) != 0 // before the try: what it opens and ends after is found by the next one
		c, err := Dial(ctx, network, dir, name)
		if !Absent(err) || !lives {
			return c, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Absent reports whether an error of Dial says that nobody listens.
func Absent(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// Dial connects to the socket name in dir.
func Dial(ctx context.Context, network, dir, name string) (*net.UnixConn, error) {
	var c net.Conn
	err := At(dir, name, func(path string) error {
		var err error
		c, err = (&net.Dialer{}).DialContext(ctx, network, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}
