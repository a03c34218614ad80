package sdnotify

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstInherited is the descriptor from which on systemd passes what it kept.
const firstInherited = 3

// prefix begins the names of what is ours in systemd's store.
const prefix = "gantryd-"

// A Store keeps listening sockets in systemd's descriptor store, from which a daemon that was killed or
// restarted gets them back. Its methods may be called at once.
type Store struct {
	getenv func(string) string
	log    *slog.Logger
	kept   []string // names of what Kept returned
}

// NewStore returns the store of this service, nil when there is no systemd. A unit without
// FileDescriptorStoreMax keeps nothing, which systemd does not tell.
func NewStore(getenv func(string) string, log *slog.Logger) *Store {
	if getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	return &Store{getenv: getenv, log: log}
}

// Kept returns the sockets that systemd kept, which are the caller's now. What does not listen any more, because
// systemd missed that it was closed, leaves the store. It is called once, before the other methods.
func (s *Store) Kept(context.Context) []*os.File {
	if pid, err := strconv.Atoi(s.getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return nil
	}
	n, err := strconv.Atoi(s.getenv("LISTEN_FDS"))
	if err != nil {
		return nil
	}
	names := strings.Split(s.getenv("LISTEN_FDNAMES"), ":")
	var files []*os.File
	for i := range n {
		fd := firstInherited + i
		unix.CloseOnExec(fd)
		if i >= len(names) || !strings.HasPrefix(names[i], prefix) {
			continue
		}
		if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listens == 0 {
			_ = unix.Close(fd)
			s.remove(names[i])
			continue
		}
		s.kept = append(s.kept, names[i])
		files = append(files, os.NewFile(uintptr(fd), names[i]))
	}
	return files
}

// Clear takes out of the store what Kept returned.
func (s *Store) Clear() {
	for _, name := range s.kept {
		s.remove(name)
	}
}

// Run has nothing to do: systemd lives as long as the machine.
func (s *Store) Run(ctx context.Context) { <-ctx.Done() }

// Opened puts f, which it closes, into the store.
func (s *Store) Opened(addr netip.AddrPort, f *os.File) {
	defer f.Close()
	if err := s.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+nameOf(addr), f); err != nil {
		s.log.Warn("socket is not kept by systemd", "addr", addr.String(), "err", err)
	}
}

// Closed takes the socket out of the store.
func (s *Store) Closed(addr netip.AddrPort) {
	s.remove(nameOf(addr))
}

func (s *Store) remove(name string) {
	if err := notify("FDSTOREREMOVE=1", "FDNAME="+name); err != nil {
		s.log.Warn("socket stays with systemd", "name", name, "err", err)
	}
}

// nameOf is the name of a socket; systemd separates names by colons.
func nameOf(addr netip.AddrPort) string { return prefix + strings.ReplaceAll(addr.String(), ":", "_") }

func (s *Store) send(text string, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	to := &unix.SockaddrUnix{Name: s.getenv("NOTIFY_SOCKET")}
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(sock)
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		sendErr = unix.Sendmsg(sock, []byte(text), unix.UnixRights(int(fd)), to, unix.MSG_NOSIGNAL)
	})
	if err == nil {
		err = sendErr
	}
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
