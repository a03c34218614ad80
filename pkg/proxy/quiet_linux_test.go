package proxy

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// locker is a Keeper that has the last file it was given.
type locker struct{ file *os.File }

func (k *locker) Opened(_ netip.AddrPort, f *os.File) { k.file = f }
func (*locker) Closed(netip.AddrPort) (refuse bool)   { return true }

// polled reports whether any epoll instance of this process looks at a descriptor.
func polled(t *testing.T, fd uintptr) bool {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	instances := 0
	for _, name := range all {
		if is, err := os.Readlink(name); err != nil || is != "anon_inode:[eventpoll]" {
			continue
		}
		instances++
		info, err := os.ReadFile("/proc/self/fdinfo/" + filepath.Base(name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(info)) {
			var n uintptr
			if _, err := fmt.Sscanf(line, "tfd: %d", &n); err == nil && n == fd {
				return true
			}
		}
	}
	if instances == 0 {
		t.Fatal("no epoll instance is to be seen")
	}
	return false
}

// TestKeptSocketIsNotPolled looks at what a keeper gets: it takes clients, and Go's poller does not know it.
func TestKeptSocketIsNotPolled(t *testing.T) {
	k := &locker{}
	p := newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler), Keeper: k})
	apply(t, p, tcp("a", named(t, "a")))
	if k.file == nil {
		t.Fatal("nothing was kept")
	}
	defer k.file.Close()
	raw, err := k.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if polled(t, fd) {
			t.Error("Go's poller looks at it")
		}
	}); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(k.file)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, want := l.Addr().String(), addrOf(t, p); got != want {
		t.Errorf("the file listens on %s, want %s", got, want)
	}
}
