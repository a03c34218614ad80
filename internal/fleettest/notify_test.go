package fleettest_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
)

// TestServiceManagerFollowsAnUpgrade: after SIGHUP it hears of the new process before that one speaks, as
// NotifyAccess=main needs, and it was given the listening sockets.
func TestServiceManagerFollowsAnUpgrade(t *testing.T) {
	f := fleettest.New(t)
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	d := f.Daemon(t, "h1")
	t.Setenv("NOTIFY_SOCKET", path)
	d.Start(t)
	f.Configure(t, f.Web())
	f.Release(t, "web", version("v1"))
	f.Update(t, "web")
	if err := syscall.Kill(d.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	pid := d.PID()
	fleettest.Await(t, fleettest.Soon, "another process has the lock", func() error {
		b, err := os.ReadFile(filepath.Join(d.DataDir, "lock"))
		if err != nil {
			return err
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n != d.PID() && strings.Contains(d.Log(), "handed over") {
			pid = n
			return nil
		}
		return fmt.Errorf("%s", b)
	})
	d.Replaced(t, pid)

	wanted := []string{"READY=1", "FDSTORE=1", "RELOADING=1", fmt.Sprintf("MAINPID=%d", pid), "READY=1"}
	var heard []string
	if err := manager.SetReadDeadline(time.Now().Add(fleettest.Soon)); err != nil {
		t.Fatal(err)
	}
	b, oob := make([]byte, 4096), make([]byte, 256)
	for len(wanted) > 0 {
		n, oobn, _, _, err := manager.ReadMsgUnix(b, oob)
		if err != nil {
			t.Fatalf("%v; heard %q, then wanted %q", err, heard, wanted)
		}
		if messages, err := syscall.ParseSocketControlMessage(oob[:oobn]); err == nil {
			for i := range messages {
				fds, _ := syscall.ParseUnixRights(&messages[i])
				for _, fd := range fds {
					_ = syscall.Close(fd) // what matters is that it came
				}
			}
		}
		first, _, _ := strings.Cut(string(b[:n]), "\n")
		heard = append(heard, first)
		if first == "FDSTORE=1" && oobn == 0 {
			t.Error("a socket to be stored came without its descriptor")
		}
		if first == wanted[0] {
			wanted = wanted[1:]
		}
	}
	answeredBy(t, d.URL(f.Port, "/"), "v1")
}
