package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryd/gantryd/internal/packet"
)

// asNew in the environment makes the test binary the new process of a hand-over; its value says how it behaves.
const asNew = "HANDOVER_TEST_NEW"

func TestMain(m *testing.M) {
	if how := os.Getenv(asNew); how != "" {
		os.Exit(newProcess(how))
	}
	goleak.VerifyTestMain(m)
}

// newProcess takes over as a daemon would, and fails at the step that how names.
func newProcess(how string) int {
	ctx := context.Background()
	fail := func(step string) bool {
		switch how {
		case "exit at " + step:
			os.Exit(7)
		case "hang at " + step:
			select {} // until it is killed
		}
		return how == "fail at "+step
	}
	if how == "another protocol" {
		p, _ := inherit(3, 4)
		_ = send(p.packets, message{Step: stepHello, Protocol: 900, Oldest: 800})
		return 0
	}
	fail("hello")
	p, err := Inherit(ctx, os.Getenv, "v2")
	if err != nil {
		return 1
	}
	if fail("ready") {
		_ = p.Fail(errors.New("no engine"))
		return 1
	}
	estate, files, err := p.Estate(ctx)
	if err != nil {
		return 1
	}
	if fail("prepare") || len(files) != 1 || string(estate) != `{"a":1}` {
		_ = p.Fail(errors.New("no etcd"))
		return 1
	}
	conns, err := p.Take(ctx, func(c *net.UnixConn) error {
		fail("take")
		b := make([]byte, 5)
		_, err := io.ReadFull(c, b)
		return err
	})
	if err != nil || conns["t"].Open != 2 {
		return 1
	}
	fail("go")
	_, _ = files[0].WriteString("serving\n")
	if p.Serving(ctx, func(c *net.UnixConn) error {
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "pair" {
			return fmt.Errorf("%q, %w", b, err)
		}
		_, err := files[0].WriteString("moved\n")
		return err
	}) != nil {
		return 1
	}
	link := p.Link(conns)
	link.Cut("t", 3)
	var wg sync.WaitGroup
	idle := make(chan string, 1)
	followed, end := context.WithCancel(ctx)
	wg.Go(func() { link.Follow(followed, func(id string) { idle <- id }) })
	_, _ = files[0].WriteString("idle " + <-idle + "\n")
	link.Leave()
	end()
	wg.Wait()
	return 0
}

// begin starts a new process that behaves like this.
func begin(t *testing.T, within time.Duration, how string) (*Heir, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Start(ctx, []string{exe}, append(os.Environ(), asNew+"="+how), "v1", Facts{})
}

func TestHandOver(t *testing.T) {
	h, err := begin(t, time.Minute, "well")
	if err != nil {
		t.Fatal(err)
	}
	if h.Version != "v2" || h.protocol != Protocol {
		t.Errorf("new process is %q with protocol %d", h.Version, h.protocol)
	}
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx := t.Context()
	if err := h.Give(ctx, []byte(`{"a":1}`), f); err != nil {
		t.Fatal(err)
	}
	if err := h.Pass(ctx, func(c *net.UnixConn) error { _, err := c.Write([]byte("state")); return err }); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); len(b) != 0 {
		t.Errorf("it served before it might: %q", b)
	}
	if err := h.Go(map[string]Conns{"t": {Open: 2, Since: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Serving(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Move(func(c *net.UnixConn) error { _, err := c.Write([]byte("pair")); return err }); err != nil {
		t.Fatal(err)
	}
	h.Confirm()
	link := h.Link()
	defer link.Close()
	cut := ""
	leave := link.Obey(ctx, nil, func(target string, _ int) {
		cut = target
		link.Tell(map[string]Conns{}) // the last connection is gone
	})
	if !leave || cut != "t" {
		t.Errorf("told to cut %q, to leave %v", cut, leave)
	}
	if b, _ := os.ReadFile(path); string(b) != "serving\nmoved\nidle t\n" {
		t.Errorf("the new process did %q", b)
	}
}

// TestStuckProcessHoldsNobodyUp sends to a process that reads nothing: as soon as the kernel has no room any more,
// one message waits for a moment, and those after it do not.
func TestStuckProcessHoldsNobodyUp(t *testing.T) {
	ours, theirs, err := packet.Pair(syscall.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{conn: ours}
	defer l.Close()
	other, err := packet.Conn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	many := map[string]Conns{}
	for i := range 100 {
		many[strings.Repeat("c", 64)+strconv.Itoa(i)] = Conns{Open: 1, Since: time.Now()}
	}
	lost := 0
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for range 50 {
			for _, told := range []bool{l.Tell(many), l.Drain("c"), l.Cut("c", 1), l.Leave()} {
				if !told {
					lost++
				}
			}
		}
	})
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		l.Close() // let go of it
		t.Error("a stuck process holds this one up")
	}
	wg.Wait()
	if lost == 0 {
		t.Error("a process that reads nothing took everything: the test shows nothing")
	}
	wg.Go(func() { // it runs again
		for {
			if _, _, err := receive(other); err != nil {
				return
			}
		}
	})
	for end := time.Now().Add(20 * time.Second); !l.Drain("c"); {
		if time.Now().After(end) {
			t.Fatal("a process that was stuck for a while is not told any more")
		}
	}
	l.Close()
	wg.Wait()
}

func TestNewProcessThatFails(t *testing.T) {
	const soon, late = 500 * time.Millisecond, time.Minute
	tests := []struct {
		how    string
		within time.Duration
		want   string
	}{
		{"exit at hello", late, "ended before"},
		{"hang at hello", soon, "in time"},
		{"another protocol", late, "no common protocol: this process speaks 2 to 2, the other one 800 to 900"},
		{"exit at ready", late, "ended before"},
		{"hang at ready", soon, "in time"},
		{"fail at ready", late, "no engine"},
	}
	for _, tt := range tests {
		t.Run(tt.how, func(t *testing.T) {
			h, err := begin(t, tt.within, tt.how)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Start = %v, %v; want %q", h, err, tt.want)
			}
		})
	}
	later := []struct {
		how    string
		within time.Duration
		want   string
	}{
		{"exit at prepare", late, ErrGone.Error()},
		{"fail at prepare", late, "no etcd"},
		{"hang at prepare", soon, "deadline"},
		{"exit at take", late, ErrGone.Error()},
		{"hang at take", soon, "deadline"},
	}
	for _, tt := range later {
		t.Run(tt.how, func(t *testing.T) {
			h, err := begin(t, late, tt.how)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), tt.within)
			defer cancel()
			err = h.Give(ctx, []byte(`{"a":1}`), os.Stdin)
			if err == nil {
				err = h.Pass(ctx, func(c *net.UnixConn) error { _, err := c.Write([]byte("state")); return err })
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("hand-over = %v, want %q", err, tt.want)
			}
			if err := h.End(t.Context()); err != nil {
				t.Errorf("End = %v", err)
			}
			if err := syscall.Kill(h.PID, 0); err == nil && !isZombie(h.PID) {
				t.Error("the new process lives")
			}
		})
	}
}

// TestStreamThatStandsStill gives an estate to a process that reads nothing: what ends that is the deadline.
func TestStreamThatStandsStill(t *testing.T) {
	h := &Heir{pidfd: -1}
	var theirs [2]*os.File
	var err error
	for i, c := range []struct {
		to   **net.UnixConn
		kind int
	}{{&h.packets, syscall.SOCK_SEQPACKET}, {&h.stream, syscall.SOCK_STREAM}} {
		if *c.to, theirs[i], err = packet.Pair(c.kind); err != nil {
			t.Fatal(err)
		}
		defer (*c.to).Close()
		defer theirs[i].Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Give(ctx, make([]byte, 16<<20)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Give = %v, want the deadline", err)
	}
	if err := h.Pass(ctx, func(c *net.UnixConn) error { _, err := c.Write([]byte("state")); return err }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Pass = %v, want the deadline", err)
	}
}

func isZombie(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || bytes.Contains(b, []byte(") Z "))
}

func TestProgramThatCannotBeStarted(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, "/nowhere/gantryd"} {
		if _, err := Start(t.Context(), []string{path}, nil, "v1", Facts{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Start(%q) = %v", path, err)
		}
	}
}

func TestCommonProtocol(t *testing.T) {
	tests := []struct{ newest, oldest, theirNewest, theirOldest, want int }{
		{1, 1, 1, 1, 1},
		{1, 1, 4, 1, 1}, // theirs is newer and still knows ours
		{4, 1, 1, 1, 1}, // back to an older one
		{4, 2, 3, 1, 3},
		{4, 3, 2, 1, 0},
		{1, 1, 3, 2, 0},
	}
	for _, tt := range tests {
		got, err := common(tt.newest, tt.oldest, tt.theirNewest, tt.theirOldest)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%+v: %d, %v", tt, got, err)
		}
	}
}

// TestNewerProtocolIsSkipped sends what this build does not know.
func TestNewerProtocolIsSkipped(t *testing.T) {
	ours, theirs, err := packet.Pair(syscall.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	other, err := packet.Conn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, line := range []string{
		`{"step":"weather","of":{"a":[1]}}`, `{"step":"hello","protocol":7,"oldest":2,"colour":"red","version":"v9"}`,
	} {
		if _, err := other.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	m, _, err := await(t.Context(), ours, stepHello)
	if err != nil || m.Version != "v9" {
		t.Fatalf("await = %+v, %v", m, err)
	}
	if p, err := agree(m); err != nil || p != Protocol {
		t.Errorf("agree = %d, %v", p, err)
	}
}

func TestNothingIsInheritedThatSpeaksOfAnotherProcess(t *testing.T) {
	got := inherited([]string{"A=1", "WATCHDOG_PID=5", "LISTEN_FDS=2", "WATCHDOG_USEC=7", Variable + "=x"})
	if strings.Join(got, " ") != "A=1 WATCHDOG_USEC=7" {
		t.Errorf("inherited = %q", got)
	}
}

func TestInheritNothing(t *testing.T) {
	p, err := Inherit(t.Context(), func(string) string { return "" }, "v1")
	if p != nil || err != nil {
		t.Errorf("Inherit = %v, %v", p, err)
	}
	if _, err := Inherit(t.Context(), func(string) string { return "9" }, "v1"); err == nil {
		t.Error("Inherit of nonsense = nil")
	}
}
