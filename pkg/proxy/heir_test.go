package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// heirEnv makes the test binary be a proxy that takes over from another process and gives to a third
// one: a socket to take over from ("-": none), where to listen, and the target.
const heirEnv = "GANTRYD_TEST_HEIR"

// heir says where it listens once it serves. Each line of stdin names a socket where somebody takes over.
func heir() int {
	var from, addr, target string
	if _, err := fmt.Sscan(os.Getenv(heirEnv), &from, &addr, &target); err != nil {
		return 1
	}
	if err := serveAsHeir(context.Background(), from, addr, target); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveAsHeir(ctx context.Context, from, addr, target string) error {
	o := Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	var c *net.UnixConn
	if from != "-" {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: from, Net: "unix"})
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(os.Stdout, "waits")
		if c, err = ln.AcceptUnix(); err != nil {
			return err
		}
		if o.Inherit, err = Receive(ctx, c); err != nil {
			return err
		}
	}
	p := New(ctx, o)
	l := tcp("A", target)
	l.Addrs = []string{addr}
	if err := p.Apply("test", []Listener{l}); err != nil {
		return err
	}
	for c != nil { // until there are no more connections
		if _, err := c.Write([]byte{1}); err != nil {
			return err
		}
		s, err := Receive(ctx, c)
		if err != nil {
			return err
		}
		if _, n := s.Counts(); n == 0 {
			break
		}
		if err := p.Adopt(s); err != nil {
			return err
		}
	}
	p.Settle()
	_, _ = fmt.Fprintln(os.Stdout, p.Addr("a:1")[0])
	var to string
	if _, err := fmt.Fscanln(os.Stdin, &to); errors.Is(err, io.EOF) {
		return p.Close()
	}
	if err := giveTo(ctx, p, to); err != nil {
		return err
	}
	return p.Shutdown(ctx)
}

// giveTo hands everything to the heir that waits at a socket.
func giveTo(ctx context.Context, p *Proxy, to string) error {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: to, Net: "unix"})
	if err != nil {
		return err
	}
	s, err := p.Export(ctx)
	if err != nil {
		return err
	}
	pass := func(s *State) (bool, error) {
		if err := s.Send(ctx, c); err != nil {
			return false, err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return true, err
	}
	if _, err := pass(s); err != nil {
		p.Resume(s)
		return err
	}
	if _, err := p.Move(ctx, pass); err != nil {
		return err
	}
	p.Release(s)
	return (&State{}).Send(ctx, c)
}

// A reign is one process that serves.
type reign struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	logged bytes.Buffer
}

func newReign(t testing.TB, from, addr, target string) *reign {
	t.Helper()
	r := &reign{cmd: exec.CommandContext(context.Background(), os.Args[0])}
	r.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", heirEnv, from, addr, target), "GOMAXPROCS=4")
	r.cmd.Stderr = &r.logged
	stdin, err := r.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.stdin, r.stdout = stdin, bufio.NewReader(stdout)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = r.cmd.Wait() })
	return r
}

// line is what the process says next.
func (r *reign) line(t testing.TB) string {
	t.Helper()
	s, err := r.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("proxy: %v\n%s", err, &r.logged)
	}
	return strings.TrimSpace(s)
}

// TestProcessesTakeOver passes streams from process to process: none is cut, no byte changes, and new
// clients are served all the time. GANTRYD_TEST_STREAMS is how many there are (100).
func TestProcessesTakeOver(t *testing.T) {
	streams, reigns := 100, 6
	if s := os.Getenv("GANTRYD_TEST_STREAMS"); s != "" {
		streams, _ = strconv.Atoi(s)
	}
	target := backend(t, func(c *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) })
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	now := newReign(t, "-", "127.0.0.1:0", target)
	addr := now.line(t)
	var (
		wg    sync.WaitGroup
		stop  = make(chan struct{})
		stall atomic.Int64
		done  atomic.Int64
	)
	for i := range streams {
		wg.Go(func() { runStream(t, addr, uint64(i), stop, &stall, &done) })
	}
	wg.Go(func() { // new clients
		for n := 0; !closed(stop); n++ {
			start := time.Now()
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			if got, err := ask(c, "x"); err != nil || got != "x" {
				t.Errorf("new client %d: %q, %v", n, got, err)
			}
			_ = c.Close()
			longest(&stall, time.Since(start))
		}
	})
	for i := range reigns {
		before := done.Load()
		eventually(t, "streams go on", func() bool { return done.Load() > before+int64(streams) || t.Failed() })
		quiet := time.Duration(stall.Swap(0))
		at := filepath.Join(dir, strconv.Itoa(i))
		next := newReign(t, at, addr, target)
		_ = next.line(t)
		_, _ = fmt.Fprintln(now.stdin, at)
		if got := next.line(t); got != addr {
			t.Errorf("the next one listens on %s, want %s", got, addr)
		}
		if err := now.cmd.Wait(); err != nil {
			t.Errorf("old proxy: %v\n%s", err, &now.logged)
		}
		t.Logf("longest stall %v, before that %v", time.Duration(stall.Load()).Round(time.Millisecond), quiet.Round(time.Millisecond))
		now = next
	}
	close(stop)
	wg.Wait()
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// longest keeps the longest time seen.
func longest(at *atomic.Int64, d time.Duration) {
	for old := at.Load(); int64(d) > old; old = at.Load() {
		if at.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// runStream sends random bytes and expects each of them back.
func runStream(t *testing.T, addr string, seed uint64, stop chan struct{}, stall, done *atomic.Int64) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	rnd := rand.New(rand.NewPCG(seed, 7))
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	sent, got := make([]byte, 128<<10), make([]byte, 128<<10)
	for !closed(stop) {
		n := 1 + rnd.IntN(1<<uint(4+rnd.IntN(13)))
		_, _ = src.Read(sent[:n])
		start := time.Now()
		_ = c.SetDeadline(start.Add(patience))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Write(sent[:n]); err != nil {
				t.Errorf("write: %v", err)
			}
		})
		_, err := io.ReadFull(c, got[:n])
		wg.Wait()
		if err != nil || !bytes.Equal(got[:n], sent[:n]) {
			t.Errorf("%d bytes came back changed, %v", n, err)
			return
		}
		longest(stall, time.Since(start))
		done.Add(1)
		<-time.After(time.Duration(rnd.IntN(20)) * time.Millisecond)
	}
}
