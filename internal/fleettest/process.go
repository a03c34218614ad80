package fleettest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tailLen is how much of a log is printed when a test fails.
const tailLen = 8000

// Longest waits, on a machine that has other things to do, too.
const (
	// Soon is for what an event is to bring about: what only the next resync sees, every 30 s, give or take a
	// fifth, comes too late.
	Soon = 23 * time.Second
	// Finally is for what takes several steps: starts of programs, whole rollouts, ends of leases.
	Finally = 3 * time.Minute
)

// stopWithin is how long a process may take to end after SIGTERM.
const stopWithin = time.Minute

// environment is the test's own with more. The race detector's runtime would wait a second at the end of
// each program.
func environment(more []string) []string {
	return slices.Concat(os.Environ(), []string{"GORACE=atexit_sleep_ms=0"}, more)
}

// A Process is a program in the background that can be started again. Its output of all runs goes to
// one log.
type Process struct {
	name  string
	argv  []string
	env   []string // besides the test's own
	ready string   // what its output says once it works
	path  string   // of its log

	now     *run           // nil while it does not run
	earlier []*run         // that a successor has replaced, and which may finish connections
	wg      sync.WaitGroup // whoever waits for processes
	begun   int            // length of the log when it was started last
}

// A run is one process.
type run struct {
	process *os.Process
	ended   chan struct{}
	code    int // once ended is closed
}

// watch waits for a process in the background.
func (p *Process) watch(process *os.Process) *run {
	r := &run{process: process, ended: make(chan struct{})}
	p.wg.Go(func() {
		defer close(r.ended)
		if state, err := process.Wait(); err == nil {
			r.code = state.ExitCode()
		}
	})
	return r
}

// PID is the process that runs.
func (p *Process) PID() int { return p.now.process.Pid }

// Replaced notes that the process has handed over to another one, which has its place from now on.
func (p *Process) Replaced(t testing.TB, pid int) {
	t.Helper()
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	p.earlier = append(p.earlier, p.now)
	p.now = p.watch(process)
}

// Earlier are the processes that were replaced and run on, to finish connections.
func (p *Process) Earlier() (pids []int) {
	for _, r := range p.earlier {
		select {
		case <-r.ended:
		default:
			pids = append(pids, r.process.Pid)
		}
	}
	return pids
}

// newProcess describes a process that ends with the test.
func newProcess(t testing.TB, name string, argv, env []string, ready string) *Process {
	t.Helper()
	p := &Process{name: name, argv: argv, env: env, ready: ready, path: filepath.Join(t.TempDir(), name+".log")}
	t.Cleanup(func() {
		if _, err := p.end(syscall.SIGTERM); err != nil {
			t.Errorf("stop %s: %v", p.name, err)
		}
		p.inspect(t)
	})
	return p
}

// inspect fails the test when the log tells of a fault, and prints the log of a failed test.
func (p *Process) inspect(t testing.TB) {
	log := p.Log()
	for _, fault := range []string{"WARNING: DATA RACE", "\npanic: ", "fatal error: "} {
		if i := strings.Index(log, fault); i >= 0 {
			t.Errorf("%s: %s", p.name, log[i:min(len(log), i+tailLen)])
		}
	}
	if t.Failed() {
		t.Logf("the end of the log of %s:\n%s", p.name, log[max(0, len(log)-tailLen):])
	}
}

// Launch starts the process without waiting for it.
func (p *Process) Launch(t testing.TB) {
	t.Helper()
	if p.now != nil {
		t.Fatalf("%s runs already", p.name)
	}
	p.begun = len(p.Log())
	log, err := os.OpenFile(p.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = environment(p.env)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	p.now = p.watch(cmd.Process)
}

// Start starts the process and waits until it works.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	p.Launch(t)
	p.works(t)
}

// works waits until the process says that it works.
func (p *Process) works(t testing.TB) {
	t.Helper()
	Await(t, Finally, p.name+" works", func() error {
		if !p.Running() {
			t.Fatalf("%s ended with %d:\n%s", p.name, p.now.code, p.Fresh())
		}
		if !strings.Contains(p.Fresh(), p.ready) {
			return errors.New("it does not say so")
		}
		return nil
	})
}

// Running reports whether the process runs.
func (p *Process) Running() bool {
	if p.now == nil {
		return false
	}
	select {
	case <-p.now.ended:
		return false
	default:
		return true
	}
}

// Stop ends the process as a service manager does, and fails the test when it does not end well.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	if code, err := p.end(syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("stop %s: exit code %d, %v", p.name, code, err)
	}
}

// Kill ends the process in the middle of whatever it does.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	if _, err := p.end(syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", p.name, err)
	}
}

// Wait waits until the process has ended by itself, and returns its exit code.
func (p *Process) Wait(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-p.now.ended:
		code := p.now.code
		p.now = nil
		return code
	case <-time.After(within):
		t.Fatalf("%s still runs after %v", p.name, within)
		return 0
	}
}

// end sends the signal and waits. A process that does not run is no error. Processes that it replaced end
// with it.
func (p *Process) end(sig syscall.Signal) (code int, err error) {
	if p.now == nil {
		return 0, nil
	}
	r := p.now
	_ = r.process.Signal(sig) // gone already when this fails
	select {
	case <-r.ended:
	case <-time.After(stopWithin):
		err = fmt.Errorf("it runs on %v after %v", stopWithin, sig)
		_ = r.process.Kill()
		<-r.ended
	}
	for _, old := range p.earlier {
		_ = old.process.Kill() // gone already when this fails
	}
	p.wg.Wait()
	p.now, p.earlier = nil, nil
	return r.code, err
}

// Log is all that the process has said, over all of its runs.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.path)
	if err != nil {
		return ""
	}
	return string(b)
}

// Fresh is what the process has said since it was started last.
func (p *Process) Fresh() string { return p.Log()[p.begun:] }

// A Result is what a command said and how it ended.
type Result struct {
	Args     []string
	Code     int
	Out, Err string
	Took     time.Duration
}

// String is the result for people.
func (r Result) String() string {
	return fmt.Sprintf("gantryd %s: exit code %d after %v\n%s%s", strings.Join(r.Args, " "), r.Code, r.Took.Round(time.Millisecond), r.Out, r.Err)
}

// runCommand runs argv to its end. Args are what the result shows.
func runCommand(t testing.TB, argv, args, env []string) Result {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), argv[0], slices.Concat(argv[1:], args)...)
	cmd.Env = environment(env)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	begin := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("run %q: %v", args, err)
	}
	r := Result{Args: args, Code: cmd.ProcessState.ExitCode(), Out: out.String(), Err: errOut.String(), Took: time.Since(begin)}
	if strings.Contains(r.Err, "WARNING: DATA RACE") || strings.Contains(r.Err, "panic: ") {
		t.Errorf("%v", r)
	}
	return r
}

// Await looks every 20 ms until look returns nil, and fails the test with its last word when that takes
// longer than within.
func Await(t testing.TB, within time.Duration, what string, look func() error) {
	t.Helper()
	end := time.After(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("wait until %s: not after %v: %v", what, within, err)
		}
	}
}

// Pass lets d go by; it is for tests whose subject is time, such as a fault that lasts.
func Pass(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal("the test is over")
	}
}
