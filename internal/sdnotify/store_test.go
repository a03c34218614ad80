package sdnotify

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// receiveFile returns the next message and the file that came with it.
func (s *systemd) receiveFile(t *testing.T) (string, *os.File) {
	t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b, oob := make([]byte, 4096), make([]byte, 256)
	n, oobn, _, _, err := s.conn.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) == 0 {
		return string(b[:n]), nil
	}
	for i := range messages {
		if fds, err := syscall.ParseUnixRights(&messages[i]); err == nil {
			return string(b[:n]), os.NewFile(uintptr(fds[0]), "stored")
		}
	}
	return string(b[:n]), nil
}

func TestStoreKeepsSockets(t *testing.T) {
	s := newSystemd(t)
	store := NewStore(os.Getenv, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort("[::1]:443")
	store.Opened(addr, f)
	l.Close()
	text, kept := s.receiveFile(t)
	if text != "FDSTORE=1\nFDPOLL=0\nFDNAME=gantryd-[__1]_443" || kept == nil {
		t.Fatalf("systemd received %q with %v", text, kept)
	}
	defer kept.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Errorf("connect to the socket that systemd has: %v", err)
	} else {
		c.Close()
	}
	store.Closed(addr)
	if text, _ := s.receiveFile(t); text != "FDSTOREREMOVE=1\nFDNAME=gantryd-[__1]_443" {
		t.Errorf("systemd received %q", text)
	}
}

func TestNoStoreWithoutSystemd(t *testing.T) {
	if s := NewStore(func(string) string { return "" }, slog.New(slog.DiscardHandler)); s != nil {
		t.Error("there is a store without systemd")
	}
}

// asService in the environment makes the test binary a service that tells what systemd kept for it.
const asService = "SDNOTIFY_TEST_SERVICE"

// TestKept starts a service as systemd does, with descriptors from 3 on.
func TestKept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0"`, exe)
	cmd.Env = append(os.Environ(), asService+"=1", "NOTIFY_SOCKET=/nowhere", "LISTEN_FDS=2", "LISTEN_FDNAMES=other:gantryd-127.0.0.1_80")
	cmd.ExtraFiles = []*os.File{f, f}
	out, err := cmd.CombinedOutput()
	if want := "gantryd-127.0.0.1_80 " + l.Addr().String() + "\n"; err != nil || string(out) != want {
		t.Errorf("the service was given %q, %v; want %q", out, err, want)
	}
}

// TestKeptIsTidiedUp starts a service to which systemd gives a socket that was closed, of which it was not told.
func TestKeptIsTidiedUp(t *testing.T) {
	s := newSystemd(t)
	var files []*os.File
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	if err := unix.Shutdown(int(files[0].Fd()), unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0"`, exe)
	cmd.Env = append(os.Environ(), asService+"=clear", "LISTEN_FDS=2", "LISTEN_FDNAMES=gantryd-closed:gantryd-open")
	cmd.ExtraFiles = files
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "gantryd-open ") || strings.Contains(string(out), "closed") {
		t.Errorf("the service was given %q, %v; want what is open", out, err)
	}
	for _, name := range []string{"gantryd-closed", "gantryd-open"} {
		if got, want := s.receive(t), "FDSTOREREMOVE=1\nFDNAME="+name; got != want {
			t.Errorf("systemd received %q, want %q", got, want)
		}
	}
}

// service prints what systemd kept, and may give it up.
func service() int {
	store := NewStore(os.Getenv, slog.New(slog.DiscardHandler))
	var lines []string
	for _, f := range store.Kept(context.Background()) {
		l, err := net.FileListener(f)
		if err != nil {
			return 1
		}
		lines = append(lines, f.Name()+" "+l.Addr().String()+"\n")
	}
	_, _ = os.Stdout.WriteString(strings.Join(lines, ""))
	if os.Getenv(asService) == "clear" {
		store.Clear()
	}
	return 0
}

func TestReloading(t *testing.T) {
	s := newSystemd(t)
	if err := Reloading("upgrading"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(s.receive(t), "\n")
	if len(lines) != 3 || lines[0] != "RELOADING=1" || lines[2] != "STATUS=upgrading" {
		t.Fatalf("systemd received %q", lines)
	}
	usec, err := strconv.Atoi(strings.TrimPrefix(lines[1], "MONOTONIC_USEC="))
	if err != nil || usec <= 0 {
		t.Errorf("%q: %v", lines[1], err)
	}
	if err := MainPID(42); err != nil {
		t.Fatal(err)
	}
	if got := s.receive(t); got != "MAINPID=42" {
		t.Errorf("systemd received %q", got)
	}
}
