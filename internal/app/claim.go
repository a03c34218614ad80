package app

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/gantryd/gantryd/pkg/localstate"
)

// claimed is the name, among the sockets that are handed over, of the one that stands for the data directory's path.
// It has no file: who removes the directory, and the lock in it, does not remove the daemon.
const claimed = "claim"

// claim takes the path of the data directory, as far as it can, from whoever has the lock. ErrLocked when a daemon has
// it, which runs on though the directory was removed.
func (d *Daemon) claim() error {
	name, err := claimOf(d.o.DataDir)
	if err != nil || runtime.GOOS != "linux" {
		return nil //nolint:nilerr // there is the lock
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	switch {
	case err == nil:
		d.addSocket(claimed, l)
	case errors.Is(err, syscall.EADDRINUSE) && ours(name):
		return fmt.Errorf("lock state directory %q: %w, which runs on though the directory was removed: end it first",
			d.o.DataDir, localstate.ErrLocked)
	}
	return nil
}

// claimOf is the name of the socket for a directory. It is that of a mount namespace and a root: containers may have
// other directories by the same path.
func claimOf(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", err
	}
	mounts, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return "", err
	}
	var root syscall.Stat_t
	if err := syscall.Stat("/", &root); err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d %s", mounts, root.Dev, root.Ino, path))
	return "@gantryd-" + hex.EncodeToString(sum[:16]), nil
}

// ours reports whether a process of this user has the socket of that name: anybody may take a name.
func ours(name string) (yes bool) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
	if errors.Is(err, syscall.EAGAIN) {
		return true // nobody takes connections off its queue, and many have asked
	}
	if err != nil {
		return false
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) { // else nothing is known
		cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		yes = err == nil && int(cred.Uid) == os.Geteuid()
	})
	return yes
}

// disclaim leaves the path to whoever has it, too, or comes next.
func (d *Daemon) disclaim() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.sockets[claimed]; l != nil {
		_ = l.Close() // perhaps it is already
		delete(d.sockets, claimed)
	}
}
