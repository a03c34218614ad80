package proxybench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/skiptest"
)

// asCommand in the environment makes the test binary the server or the generator.
const asCommand = "GANTRYD_PROXYBENCH_COMMAND"

// The server of a namespace.
const (
	serverPort = 7000
	serverAddr = "127.0.0.1:7000"
)

// A space is a network namespace with a server in it.
type space struct {
	pid   int // of the server, the first process there
	stdin io.WriteCloser
	out   *bufio.Scanner
}

// newSpace makes a namespace, until the test ends. Without the right to, the test is skipped, or fails
// when GANTRYD_REQUIRE lists fleet.
func newSpace(tb testing.TB) *space {
	tb.Helper()
	if os.Getuid() != 0 {
		skiptest.Missing(tb, "fleet", "a network namespace needs root")
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		skiptest.Missing(tb, "fleet", "%v", err)
	}
	cmd := self(context.Background(), tb, CommandServe, serverAddr) // ended below, by its input
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if err := cmd.Start(); err != nil {
		skiptest.Missing(tb, "fleet", "make network namespace: %v", err)
	}
	tb.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("server: %v: %s", err, errOut.String())
		}
	})
	s := &space{pid: cmd.Process.Pid, stdin: stdin, out: bufio.NewScanner(stdout)}
	if !s.out.Scan() || s.out.Text() != "ready" {
		tb.Fatalf("server does not start: %s", errOut.String())
	}
	return s
}

// self is the test binary as the server or the generator.
func self(ctx context.Context, tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "GORACE=atexit_sleep_ms=0") // the race detector would wait a second
	return cmd
}

// inside begins the command line of a process of the namespace.
func (s *space) inside() []string {
	return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", s.pid)}
}

// enter makes cmd a process of the namespace.
func (s *space) enter(tb testing.TB, cmd *exec.Cmd) {
	tb.Helper()
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Args = slices.Concat(s.inside(), []string{cmd.Path}, cmd.Args[1:])
	cmd.Path = nsenter
}

// counts is what the server has seen so far.
func (s *space) counts(tb testing.TB) Counts {
	tb.Helper()
	var c Counts
	if _, err := io.WriteString(s.stdin, "\n"); err != nil {
		tb.Fatal(err)
	}
	if !s.out.Scan() {
		tb.Fatal("the server says nothing")
	}
	if err := json.Unmarshal(s.out.Bytes(), &c); err != nil {
		tb.Fatal(err)
	}
	return c
}

// load does a job in the namespace, in a process of its own.
func (s *space) load(tb testing.TB, j Job) Result {
	tb.Helper()
	b, err := json.Marshal(j)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Minute)
	defer cancel()
	cmd := self(ctx, tb, CommandLoad, string(b))
	s.enter(tb, cmd)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		tb.Fatalf("%s of %s: %v: %s", j.Test, j.Addr, err, errOut.String())
	}
	var r Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		tb.Fatal(err)
	}
	return r
}

// A process is a proxy that runs in the namespace.
type process struct {
	cmd    *exec.Cmd
	errOut bytes.Buffer
	exited chan struct{}
	once   sync.Once
}

// start starts a process in the namespace, until stop or the end of the test.
func (s *space) start(tb testing.TB, cmd *exec.Cmd) *process {
	tb.Helper()
	s.enter(tb, cmd)
	p := &process{cmd: cmd, exited: make(chan struct{})}
	cmd.Stderr = &p.errOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(p.exited)
		_ = cmd.Wait() // nobody asks how it ended
	})
	tb.Cleanup(func() {
		p.stop()
		wg.Wait()
		if tb.Failed() {
			tb.Logf("%s: %s", cmd.Args, p.errOut.String())
		}
	})
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) stop() {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
		select {
		case <-p.exited:
		case <-time.After(3 * time.Second): // what it carries is a benchmark's
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
	})
}

// await waits until the server answers through addr, which p may be gone before.
func (s *space) await(tb testing.TB, p *process, addr string) {
	tb.Helper()
	end := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if r := s.load(tb, Job{Test: TestRequests, Addr: addr, Conns: 1, For: time.Millisecond, Warm: 5 * time.Millisecond}); r.Errors == 0 && r.Ops > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-p.exited:
			tb.Fatalf("%s ended: %s", p.cmd.Args, p.errOut.String())
		case <-end:
			tb.Fatalf("%s does not answer at %s: %s", p.cmd.Args, addr, p.errOut.String())
		}
	}
}
