package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// service runs the agent as systemd does: it is told where to notify.
func (m *machine) service(notify string) *exec.Cmd {
	m.t.Helper()
	cmd := m.command("agent")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify)
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	return cmd
}

// manager is a service manager's socket.
func manager(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path
}

// TestCommandsWaitForTheAgentOfAServiceManager: one that comes while systemd restarts the agent must not put another
// one in its place, which the unit could not get rid of.
func TestCommandsWaitForTheAgentOfAServiceManager(t *testing.T) {
	m, notify := newMachine(t), manager(t)
	first := m.service(notify)
	within(t, 30*time.Second, "the agent answers", func() bool { return m.agentPID() == first.Process.Pid })
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	asked := make(chan outcome, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { asked <- m.gantry("list") })
	select {
	case o := <-asked:
		t.Fatalf("a command without an agent = %+v", o)
	case <-time.After(time.Second): // RestartSec
	}
	second := m.service(notify)
	select {
	case o := <-asked:
		if o.code != exitRefused || !strings.Contains(o.err, "Component web is not running") {
			t.Errorf("the command = %+v", o)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the command goes on waiting")
	}
	if pid := m.agentPID(); pid != second.Process.Pid {
		t.Errorf("agent %d answers, the unit's is %d", pid, second.Process.Pid)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "agent.log")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a command started an agent: %v", err)
	}
	m.endAgent()
	_ = second.Wait()

	// Run by hand, it is nobody's any more.
	byHand := m.command("agent")
	if err := byHand.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the agent answers", func() bool { return m.agentPID() == byHand.Process.Pid })
	m.endAgent()
	_ = byHand.Wait()
	if o := m.gantry("list"); o.code != exitRefused || m.agentPID() == 0 {
		t.Errorf("a command after that = %+v, want that it starts an agent", o)
	}
}

// TestAgentHasNothingOfTheServiceOfItsCommand: a command in a unit starts an agent that outlives that unit's work.
func TestAgentHasNothingOfTheServiceOfItsCommand(t *testing.T) {
	m := newMachine(t)
	cmd := m.command(m.file, "list", "web")
	notify := manager(t)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify, "WATCHDOG_USEC=1000", "WATCHDOG_PID=1", "LISTEN_FDS=1", "LISTEN_PID=1", "MINE=1")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != exitRefused {
		t.Fatalf("list = %v\n%s", err, out)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.agentPID()))
	if err != nil {
		t.Fatal(err)
	}
	env := "\x00" + string(b)
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"} {
		if strings.Contains(env, "\x00"+name+"=") {
			t.Errorf("the agent has %s", name)
		}
	}
	if !strings.Contains(env, "\x00MINE=1\x00") {
		t.Error("the agent does not have the rest of the environment")
	}
	if _, err := os.Stat(filepath.Join(m.dir, "supervised")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it counts as run by a service manager: %v", err)
	}
}
