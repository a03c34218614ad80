package sdnotify

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv(asService) != "" {
		os.Exit(service())
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// systemd receives what is sent to NOTIFY_SOCKET.
type systemd struct{ conn *net.UnixConn }

func newSystemd(t *testing.T) *systemd {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "")
	t.Setenv("WATCHDOG_PID", "")
	return &systemd{conn: conn}
}

// receive returns the next message.
func (s *systemd) receive(t *testing.T) string {
	t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := s.conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// arrived returns the next message of those that are there already, or "".
func (s *systemd) arrived(t *testing.T) string {
	t.Helper()
	raw, err := s.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n := 0
	// A deadline in the near future is over before a busy machine looks.
	if ctrl := raw.Control(func(fd uintptr) { n, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT) }); ctrl != nil {
		t.Fatal(ctrl)
	}
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	return string(buf[:max(0, n)])
}

func TestMessages(t *testing.T) {
	tests := []struct {
		name string
		send func() error
		want string
	}{
		{"ready", func() error { return Ready("3 components") }, "READY=1\nSTATUS=3 components"},
		{"status", func() error { return Status("web: draining") }, "STATUS=web: draining"},
		{"stopping", func() error { return Stopping("asked to") }, "STOPPING=1\nSTATUS=asked to"},
		{"a status cannot be another message", func() error { return Status("x\nSTOPPING=1\n") }, "STATUS=x STOPPING=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSystemd(t)
			if err := tt.send(); err != nil {
				t.Fatal(err)
			}
			if got := s.receive(t); got != tt.want {
				t.Errorf("systemd received %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWithoutSystemdNothingHappens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	never := func(context.Context) error {
		t.Error("asked whether it is alive")
		return nil
	}
	for name, err := range map[string]error{
		"Ready": Ready(""), "Status": Status(""), "Stopping": Stopping(""), "Watchdog": Watchdog(t.Context(), never),
	} {
		if err != nil {
			t.Errorf("%s = %v, want nil", name, err)
		}
	}
}

func TestSystemdThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := Ready(""); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "notify systemd: ") {
		t.Errorf("Ready = %v, want it to say that the socket does not exist", err)
	}
}

// watch runs Watchdog with this interval until the test ends it.
func watch(t *testing.T, interval time.Duration, alive func(context.Context) error) (end func() error) {
	t.Helper()
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(interval.Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = Watchdog(ctx, alive) })
	end = func() error {
		cancel(errEnd)
		wg.Wait()
		return err
	}
	t.Cleanup(func() { _ = end() })
	return end
}

var errEnd = errors.New("the test is over")

func TestWatchdogSpeaksWhileAlive(t *testing.T) {
	const interval = 200 * time.Millisecond
	s := newSystemd(t)
	var dead atomic.Bool
	denied := make(chan struct{}, 100)
	begin := time.Now()
	end := watch(t, interval, func(context.Context) error {
		if dead.Load() {
			select {
			case denied <- struct{}{}:
			default:
			}
			return errors.New("the loop is stuck")
		}
		return nil
	})
	for i := range 4 {
		if got := s.receive(t); got != "WATCHDOG=1" {
			t.Fatalf("message %d = %q, want WATCHDOG=1", i, got)
		}
	}
	if took := time.Since(begin); took < 3*interval/2 {
		t.Errorf("4 messages took %v, want one at once and then one every %v", took, interval/2)
	}

	dead.Store(true)
	<-denied
	for onItsWay := true; onItsWay; {
		onItsWay = s.arrived(t) != ""
	}
	<-denied
	<-denied
	if got := s.arrived(t); got != "" {
		t.Errorf("a dead daemon said %q", got)
	}

	dead.Store(false)
	if got := s.receive(t); got != "WATCHDOG=1" {
		t.Errorf("a daemon that recovered said %q, want WATCHDOG=1", got)
	}
	if err := end(); !errors.Is(err, errEnd) {
		t.Errorf("Watchdog = %v, want %v", err, errEnd)
	}
}

func TestWatchdogDoesNotWaitForTheHanging(t *testing.T) {
	s := newSystemd(t)
	var asked atomic.Int32
	watch(t, 20*time.Millisecond, func(ctx context.Context) error {
		if asked.Add(1) == 1 {
			<-ctx.Done() // hangs until it is given up
			return ctx.Err()
		}
		return nil
	})
	if got := s.receive(t); got != "WATCHDOG=1" {
		t.Errorf("after a probe that hung: %q, want WATCHDOG=1", got)
	}
	if got := asked.Load(); got < 2 {
		t.Errorf("asked %d times before it spoke, want at least 2", got)
	}
}

func TestWatchdogOfAnotherProcess(t *testing.T) {
	newSystemd(t)
	t.Setenv("WATCHDOG_USEC", "1000000")
	t.Setenv("WATCHDOG_PID", "1")
	if err := Watchdog(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Errorf("Watchdog = %v, want nil at once", err)
	}
}

func TestWatchdogRefusesNonsense(t *testing.T) {
	newSystemd(t)
	t.Setenv("WATCHDOG_USEC", "soon")
	err := Watchdog(t.Context(), func(context.Context) error { return nil })
	if err == nil || !strings.HasPrefix(err.Error(), "read the watchdog's interval: ") {
		t.Errorf("Watchdog = %v, want it to name the interval", err)
	}
}
