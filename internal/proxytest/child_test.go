package proxytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy"
)

// settings are a child's, in childEnv.
type settings struct {
	Engine      string
	MaxConns    int
	Descriptors uint64        // its limit; 0 is the one of this process
	Connect     time.Duration // its ConnectTimeout; 0 is the default
}

// An order is what a child is told, one JSON value each.
type order struct {
	Op        string // apply, drain, conns, stats
	ID        string
	Listeners []proxy.Listener
}

// A report is the answer to an order.
type report struct {
	Err   string
	Conns int
	Addrs []string
	Stats stats
}

// stats are what a child has when it has been asked to tidy up.
type stats struct {
	Descriptors, Goroutines, Threads int
	Pipes                            int // descriptors of pipes; Descriptors are the others
	Heap, RSS                        int // bytes
	CPU                              time.Duration
}

// child is a proxy that obeys orders until there are no more.
func child(in io.Reader, out io.Writer) int {
	var s settings
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &s); err != nil {
		return 1
	}
	limit := syscall.Rlimit{Cur: s.Descriptors, Max: s.Descriptors}
	if s.Descriptors > 0 && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1
	}
	p := proxy.New(context.Background(), proxy.Options{
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), MaxConns: s.MaxConns, ConnectTimeout: s.Connect, Engine: s.Engine,
	})
	orders, reports := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if orders.Decode(&o) != nil {
			_ = p.Close()
			return 0
		}
		if reports.Encode(obey(p, o)) != nil {
			return 1
		}
	}
}

func obey(p *proxy.Proxy, o order) (r report) {
	switch o.Op {
	case "apply":
		if err := p.Apply("test", o.Listeners); err != nil {
			r.Err = err.Error()
		}
		for _, l := range o.Listeners {
			r.Addrs = append(r.Addrs, p.Addr(l.Name)...)
		}
	case "drain":
		p.Drain(o.ID)
	case "conns":
		r.Conns, _ = p.Conns(o.ID)
	case "stats":
		r.Stats = ownStats()
	default:
		r.Err = fmt.Sprintf("unknown order %q", o.Op)
	}
	return r
}

func ownStats() (s stats) {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.Heap, s.Goroutines = int(m.HeapAlloc), runtime.NumGoroutine()
	s.Descriptors, s.Pipes = ownDescriptors()
	if text, err := os.ReadFile("/proc/self/status"); err == nil {
		s.RSS = field(string(text), "VmRSS:") << 10
		s.Threads = field(string(text), "Threads:")
	}
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	s.CPU = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	return s
}

// ownDescriptors counts this process's descriptors. Pipes are apart: engines pool them for bulk, and how
// many there are at once is up to the scheduler.
func ownDescriptors() (others, pipes int) {
	const dir = "/proc/self/fd/"
	fds, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0
	}
	for _, fd := range fds {
		switch what, err := os.Readlink(dir + fd.Name()); {
		case err != nil: // that of the folder itself
		case strings.HasPrefix(what, "pipe:"):
			pipes++
		default:
			others++
		}
	}
	return others, pipes
}

// field is the number behind name.
func field(text, name string) (n int) {
	_, rest, _ := strings.Cut(text, name)
	_, _ = fmt.Sscan(rest, &n)
	return n
}

// A gate is a proxy in a process of its own, with one listener.
type gate struct {
	t       testing.TB
	mu      sync.Mutex // an order at a time
	orders  *json.Encoder
	reports *json.Decoder
	logged  *logs
	addr    string // where it listens
}

// logs are what a child said.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newGate starts a proxy that ends with the test. It forwards to target under the ID "0".
func newGate(t testing.TB, s settings, target string) *gate {
	t.Helper()
	config, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, logged: &logs{}}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+string(config))
	cmd.Stderr = g.logged
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.orders, g.reports = json.NewEncoder(in), json.NewDecoder(out)
	t.Cleanup(func() {
		_ = in.Close()
		stuck := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
		err := cmd.Wait()
		if !stuck.Stop() || err != nil {
			t.Errorf("proxy: %v, stuck at its end: %v\n%s", err, err != nil, g.logged)
		}
	})
	g.apply("0", target)
	return g
}

// do gives an order.
func (g *gate) do(o order) (report, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var r report
	if err := g.orders.Encode(o); err != nil {
		return r, err
	}
	if err := g.reports.Decode(&r); err != nil {
		return r, err
	}
	if r.Err != "" {
		return r, errors.New(r.Err)
	}
	return r, nil
}

func (g *gate) must(o order) report {
	g.t.Helper()
	r, err := g.do(o)
	if err != nil {
		g.t.Fatalf("%s: %v\n%s", o.Op, err, g.logged)
	}
	return r
}

// apply makes target, under that ID, the one that new connections go to.
func (g *gate) apply(id, target string) {
	g.t.Helper()
	l := proxy.Listener{
		Name: "a:1", Addrs: []string{"127.0.0.1:0"}, Kind: proxy.TCP,
		HoldMax: 1000, HoldTimeout: patience, TargetID: id, Target: target,
	}
	r := g.must(order{Op: "apply", Listeners: []proxy.Listener{l}})
	if len(r.Addrs) != 1 || g.addr != "" && r.Addrs[0] != g.addr {
		g.t.Fatalf("listens on %q, before on %q", r.Addrs, g.addr)
	}
	g.addr = r.Addrs[0]
}

func (g *gate) drain(id string) { g.t.Helper(); g.must(order{Op: "drain", ID: id}) }
func (g *gate) stats() stats    { g.t.Helper(); return g.must(order{Op: "stats"}).Stats }

func (g *gate) conns(id string) int { g.t.Helper(); return g.must(order{Op: "conns", ID: id}).Conns }

// awaitConns waits until so many connections are counted for id.
func (g *gate) awaitConns(id string, want int) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("%d connections of %q", want, id), func() bool { return g.conns(id) == want })
}

// eventually waits until ok, for as long as there is patience.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
