package proxytest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/internal/skiptest"
	"github.com/gantryd/gantryd/pkg/proxy"
)

// Roles of the test binary, by environment.
const (
	childEnv     = "GANTRYD_TEST_PROXY"     // be a proxy that is told what to do on stdin
	namespaceEnv = "GANTRYD_TEST_NAMESPACE" // this is the namespace of its own
	soakEnv      = "GANTRYD_SOAK"           // "full" for the long settings
	engineEnv    = "GANTRYD_SOAK_ENGINE"    // the only engine to test
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child(os.Stdin, os.Stdout))
	}
	if os.Getenv(namespaceEnv) == "" {
		if code, ok := runApart(); ok {
			os.Exit(code)
		}
	} else if err := furnish(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "set up a network namespace:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// runApart runs this binary again in a network namespace of its own. It is not ok when that is
// not allowed.
func runApart() (code int, ok bool) {
	runtime.LockOSThread() // the child dies with the thread that started it
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), namespaceEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		return max(1, exit.ExitCode()), true
	}
	return 0, true
}

// furnish makes a new namespace ready.
func furnish() error {
	if err := raiseLoopback(); err != nil {
		return err
	}
	// By itself the kernel gives a connection that nobody reads from up to tens of megabytes, at each end.
	for _, name := range []string{"tcp_rmem", "tcp_wmem"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte("4096 131072 1048576"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// raiseLoopback makes 127.0.0.0/8 usable in a new namespace.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// full reports whether the long settings are asked for.
func full() bool { return os.Getenv(soakEnv) == "full" }

// pick returns the short or the long setting.
func pick(short, long int) int {
	if full() {
		return long
	}
	return short
}

// needNamespace skips a test that would fill tables of the host, or fails it when GANTRYD_REQUIRE lists fleet.
func needNamespace(t *testing.T) {
	t.Helper()
	if os.Getenv(namespaceEnv) == "" {
		skiptest.Missing(t, "fleet", "opens too many connections for the host's network namespace, and may make none of its own")
	}
}

// eachEngine runs test once on each engine.
func eachEngine(t *testing.T, test func(t *testing.T, engine string)) {
	t.Helper()
	for _, engine := range []string{proxy.Loops, proxy.Goroutines} {
		if only := os.Getenv(engineEnv); only == "" || only == engine {
			t.Run(engine, func(t *testing.T) { test(t, engine) })
		}
	}
}
