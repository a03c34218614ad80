package etcdtest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// memberEnv holds the options of the member that a test binary is asked to be.
const memberEnv = "ETCDTEST_MEMBER"

// RunMember makes the test binary a member, when Processes started it as one, and says so. It is
// the first call of TestMain, which returns on true:
//
//	if etcdtest.RunMember() {
//		return
//	}
func RunMember() bool {
	text := os.Getenv(memberEnv)
	if text == "" {
		return false
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var o etcdstate.ServerOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		log.Error("options not read", "err", err)
		return true
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM) // this is a main
	defer stop()
	s, err := etcdstate.StartServer(ctx, o)
	if err != nil {
		log.Error("member not started", "err", err)
		return true
	}
	select {
	case <-ctx.Done():
	case <-s.Failed():
	}
	if err := s.Close(); err != nil {
		log.Error("member not closed", "err", err)
	}
	return true
}

// A Process is an etcd member in a process of its own, for what only a process can suffer.
type Process struct {
	options etcdstate.ServerOptions
	cmd     *exec.Cmd // nil while it does not run
}

// Processes runs n members of one cluster, each in its own process, until the test ends. The test
// binary's TestMain calls RunMember.
func Processes(tb testing.TB, n int) []*Process {
	tb.Helper()
	ps, cluster := make([]*Process, n), make([]string, n)
	for i := range ps {
		name, peer := fmt.Sprintf("m%d", i), porttest.Addr(tb)
		cluster[i] = name + "=http://" + peer
		ps[i] = &Process{options: etcdstate.ServerOptions{Name: name, DataDir: tb.TempDir(), ListenClient: porttest.Addr(tb), ListenPeer: peer}}
	}
	for _, p := range ps {
		p.options.InitialCluster = strings.Join(cluster, ",")
		p.Start(tb)
		tb.Cleanup(p.Kill)
	}
	for _, p := range ps {
		p.Status(tb)
	}
	return ps
}

// Start starts the process; it does not wait until the member is ready.
func (p *Process) Start(tb testing.TB) {
	tb.Helper()
	options, err := json.Marshal(p.options)
	if err != nil {
		tb.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(tb.Context()), self) // ended by Kill
	p.cmd.Env = append(os.Environ(), memberEnv+"="+string(options))
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
}

// Endpoint is host:port for clients.
func (p *Process) Endpoint() string { return p.options.ListenClient }

// Kill ends the process as a crash would; its data stays.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // an error means that it is gone
	_ = p.cmd.Wait()         // it says "killed", as wanted
	p.cmd = nil
}

// Freeze stops the process without ending it, Thaw lets it go on.
func (p *Process) Freeze(tb testing.TB) { p.signal(tb, syscall.SIGSTOP) }

// Thaw is the opposite of Freeze.
func (p *Process) Thaw(tb testing.TB) { p.signal(tb, syscall.SIGCONT) }

func (p *Process) signal(tb testing.TB, s os.Signal) {
	tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		tb.Fatal(err)
	}
}

// RSS is the resident memory of the process in bytes.
func (p *Process) RSS(tb testing.TB) int {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		tb.Skipf("no process status: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	tb.Fatal("no VmRSS in the process status")
	return 0
}

// Status waits until the member answers and returns what it says.
func (p *Process) Status(tb testing.TB) *clientv3.StatusResponse {
	tb.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{p.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	if _, err := c.Get(ctx, "x"); err != nil { // has a leader
		tb.Fatal(err)
	}
	resp, err := c.Status(ctx, p.Endpoint())
	if err != nil {
		tb.Fatal(err)
	}
	return resp
}
