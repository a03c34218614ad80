package app_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/app"
	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// crowd is more connections than move at once.
const crowd = 40

// A moving daemon is one whose connections begin to move to a new process of these tests.
type moving struct {
	daemon  *app.Daemon
	stop    func()     // as SIGTERM does
	ended   chan error // of Run
	asked   chan error // of the upgrade
	clients []net.Conn
	targets []net.Conn // their other ends
	file    string     // the new process makes it when it has the first connections
}

// beginMoving makes a daemon with open connections and asks for an upgrade to a new process that behaves like this.
func beginMoving(t *testing.T, how string) *moving {
	t.Helper()
	m := &moving{file: filepath.Join(t.TempDir(), "moving"), ended: make(chan error, 1), asked: make(chan error, 1)}
	o := options(t, noEngine(t))
	o.Argv, o.Linger = []string{os.Args[0]}, time.Minute
	t.Setenv(asHeir, how+" "+m.file)
	var err error
	if m.daemon, err = app.NewLocal(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m.connect(t)
	ctx, stop := context.WithCancel(t.Context())
	m.stop = stop
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	wg.Go(func() { m.ended <- m.daemon.Run(ctx) })
	wg.Go(func() { m.asked <- askUpgrade(t.Context(), o.DataDir, "") })
	return m
}

func (m *moving) connect(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := supervisor.Listener{Name: "web:1", Addrs: []string{"127.0.0.1:0"}, Kind: "tcp", TargetID: "c1", Target: ln.Addr().String()}
	if err := m.daemon.Route("web", l); err != nil {
		t.Fatal(err)
	}
	for range crowd {
		c, err := net.Dial("tcp", m.daemon.Addr("web:1"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		m.clients, m.targets = append(m.clients, c), append(m.targets, s)
		pass(t, c, s)
	}
}

// pass has a byte go from one end to the other.
func pass(t *testing.T, from, to net.Conn) {
	t.Helper()
	if _, err := from.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = to.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// within is what comes of the channel, which must be soon.
func within(t *testing.T, what string, from <-chan error) error {
	t.Helper()
	select {
	case err := <-from:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("not after a minute: %s", what)
	}
	return nil
}

// TestNewProcessThatDiesWhileConnectionsMove has some connections, and nobody serves: the old process must end, so
// that the service manager starts another one, and must not go on with connections of which the new one may have
// read.
func TestNewProcessThatDiesWhileConnectionsMove(t *testing.T) {
	m := beginMoving(t, diesMoving)
	if err := within(t, "the upgrade fails", m.asked); err == nil || !strings.Contains(err.Error(), "took over and ended") {
		t.Errorf("upgrade = %v, want that the new process ended", err)
	}
	if err := within(t, "the old process ends", m.ended); !errors.Is(err, handover.ErrGone) {
		t.Errorf("Run = %v, want ErrGone: the service manager must see a failure", err)
	}
	for i, c := range m.clients {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("client %d reads %d bytes, %v, of a daemon that is gone", i, n, err)
		}
	}
}

// TestEndWhileConnectionsMove stops the old process while the new one has some connections and says nothing: both end,
// well, and at once.
func TestEndWhileConnectionsMove(t *testing.T) {
	m := beginMoving(t, hangMoving)
	awaitFile(t, m.file)
	m.stop()
	if err := within(t, "the daemon ends", m.ended); err != nil {
		t.Errorf("Run = %v", err)
	}
	if err := within(t, "the upgrade fails", m.asked); err == nil || !strings.Contains(err.Error(), "ending") {
		t.Errorf("upgrade = %v, want that the daemon is ending", err)
	}
	awaitFile(t, m.file+".terminated") // the new process was asked to end, and has
}

// TestNewProcessThatRefusesConnections lives on without them: they are finished here, none is lost.
func TestNewProcessThatRefusesConnections(t *testing.T) {
	for _, how := range []string{refusesMoving, silentMoving} {
		t.Run(how, func(t *testing.T) {
			m := beginMoving(t, how)
			if err := within(t, "the upgrade is done", m.asked); err != nil {
				t.Errorf("upgrade = %v", err)
			}
			if n := m.daemon.Open("c1"); n != crowd {
				t.Errorf("%d connections are carried here, want all %d", n, crowd)
			}
			for i, c := range m.clients {
				pass(t, c, m.targets[i])
				pass(t, m.targets[i], c)
			}
			m.stop()
			if err := within(t, "the daemon ends", m.ended); err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
}
