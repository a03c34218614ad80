package fleettest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
)

// asStorm in the environment makes the test binary a storm of clients; its value is stormOptions as JSON.
const asStorm = "FLEETTEST_STORM"

// stormOptions say what the clients do, to a TCP echo.
type stormOptions struct {
	Addr    string
	Streams int           // connections that live through, every byte compared
	Pause   time.Duration // between two messages of a stream
	Short   int           // clients that connect, say a byte, hear it, and close, again and again
	Rate    int           // connections a second of all of them; 0: as many as there can be
}

// A stormReport is what they saw.
type stormReport struct {
	Streams, Messages int
	Bytes             int64
	Short             int
	Lasted            time.Duration
	Longest           time.Duration // of a short connection, or a message there and back
	Late              []time.Duration
	Failures          []string
}

// storm is the program: it goes on until its standard input ends.
func storm(text string) int {
	var o stormOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &stormy{o: o}
	begin := time.Now()
	var wg sync.WaitGroup
	var open sync.WaitGroup
	open.Add(o.Streams)
	for range o.Streams {
		wg.Go(func() { s.stream(ctx, open.Done) })
	}
	open.Wait()
	for range o.Short {
		wg.Go(func() { s.shorts(ctx) })
	}
	fmt.Println("begun")
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	wg.Wait()
	s.r.Lasted = time.Since(begin)
	if json.NewEncoder(os.Stdout).Encode(s.r) != nil {
		return 1
	}
	return 0
}

type stormy struct {
	o stormOptions

	mu sync.Mutex
	r  stormReport
}

// late is from when on an answer is listed.
const late = 50 * time.Millisecond

func (s *stormy) note(took time.Duration, err error, f func(*stormReport)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.r)
	s.r.Longest = max(s.r.Longest, took)
	if took > late && len(s.r.Late) < 10000 {
		s.r.Late = append(s.r.Late, took)
	}
	if err != nil && len(s.r.Failures) < 20 {
		s.r.Failures = append(s.r.Failures, fmt.Sprintf("%s %v", time.Now().Format("15:04:05.000"), err))
	}
}

// stream sends random messages of random lengths over one connection and compares what comes back.
func (s *stormy) stream(ctx context.Context, open func()) {
	c, err := net.DialTimeout("tcp", s.o.Addr, fleettest.Soon)
	open()
	if err != nil {
		s.note(0, fmt.Errorf("open stream: %w", err), func(*stormReport) {})
		return
	}
	defer c.Close()
	source := rand.NewChaCha8([32]byte{byte(rand.IntN(256)), byte(rand.IntN(256)), byte(rand.IntN(256))})
	sent, got := make([]byte, 16<<10), make([]byte, 16<<10)
	for {
		select {
		case <-ctx.Done():
			s.note(0, nil, func(r *stormReport) { r.Streams++ })
			return
		case <-time.After(s.o.Pause/2 + rand.N(s.o.Pause)):
		}
		n := 1 + rand.IntN(len(sent))
		_, _ = source.Read(sent[:n])
		begin := time.Now()
		err := roundTrip(c, sent[:n], got[:n])
		s.note(time.Since(begin), err, func(r *stormReport) { r.Messages++; r.Bytes += int64(n) })
		if err != nil {
			return
		}
	}
}

func roundTrip(c net.Conn, sent, got []byte) error {
	if err := c.SetDeadline(time.Now().Add(fleettest.Soon)); err != nil {
		return err
	}
	if _, err := c.Write(sent); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(sent, got) {
		return errors.New("corrupt")
	}
	return nil
}

func (s *stormy) shorts(ctx context.Context) {
	tick := time.NewTicker(max(1, time.Duration(s.o.Short)*time.Second/time.Duration(max(1, s.o.Rate))))
	defer tick.Stop()
	for ctx.Err() == nil {
		if s.o.Rate > 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		begin := time.Now()
		c, err := net.DialTimeout("tcp", s.o.Addr, fleettest.Soon)
		if err == nil {
			err = roundTrip(c, []byte{7}, make([]byte, 1))
			c.Close()
		}
		s.note(time.Since(begin), err, func(r *stormReport) { r.Short++ })
	}
}

// A weather is a storm in the network of an Engine.
type weather struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bytes.Buffer
	lines io.ReadCloser
}

// startStorm lets the clients loose in the network that inside leads to.
func startStorm(t *testing.T, inside []string, o stormOptions) *weather {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := append(append([]string(nil), inside...), exe)
	w := &weather{cmd: exec.CommandContext(t.Context(), argv[0], argv[1:]...), out: &bytes.Buffer{}}
	w.cmd.Env = append(os.Environ(), asStorm+"="+string(text))
	w.cmd.Stderr = os.Stderr
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if w.lines, err = w.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len("begun\n"))
	if _, err := io.ReadFull(w.lines, b); err != nil || string(b) != "begun\n" {
		t.Fatalf("start storm: %q, %v", b, err)
	}
	return w
}

// stop ends the storm and returns what its clients saw.
func (w *weather) stop(t *testing.T) stormReport {
	t.Helper()
	w.stdin.Close()
	var r stormReport
	if err := json.NewDecoder(w.lines).Decode(&r); err != nil {
		t.Fatalf("read the storm's report: %v", err)
	}
	if err := w.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r stormReport) String() string {
	return fmt.Sprintf("%d streams with %d messages of %d MB, %d short connections (%d/s) in %v; longest answer %v, %d later than %v; %d failures",
		r.Streams, r.Messages, r.Bytes>>20, r.Short, int(float64(r.Short)/r.Lasted.Seconds()), r.Lasted.Round(100*time.Millisecond),
		r.Longest.Round(time.Millisecond), len(r.Late), late, len(r.Failures))
}

// setting is the number in a variable, or a default.
func setting(t *testing.T, name string, unset int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return unset
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// inAStorm is a daemon that serves an echo, in a network of its own that stands many connections.
func inAStorm(t *testing.T) (*fleettest.Fleet, *fleettest.Daemon, []string, string) {
	t.Helper()
	e := fleettest.StartEngine(t, fleettest.EngineOptions{})
	for _, s := range []string{"net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1024 65000"} {
		if out, err := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `exec "$@"`, "sh"}, append(e.Inside(), "sysctl", "-qw", s)...)...).CombinedOutput(); err != nil {
			t.Fatalf("sysctl %s: %v: %s", s, err, out)
		}
	}
	f := fleettest.New(t, fleettest.On(e))
	f.Port = 800 // below the ports of clients
	d := f.Daemon(t, "h1")
	d.Start(t)
	spec := f.Web()
	withEcho(&spec)
	f.Configure(t, spec)
	f.Release(t, "web", version("v1"))
	f.Update(t, "web")
	return f, d, e.Inside(), net.JoinHostPort(d.IP, strconv.Itoa(f.Port+1))
}

// TestManyUpgradesUnderFullLoad: GANTRYD_UPGRADES, GANTRYD_STREAMS and GANTRYD_RATE (0: no bound) make it longer.
func TestManyUpgradesUnderFullLoad(t *testing.T) {
	f, d, inside, addr := inAStorm(t)
	o := stormOptions{Addr: addr, Streams: setting(t, "GANTRYD_STREAMS", 200), Pause: 200 * time.Millisecond, Short: 16, Rate: setting(t, "GANTRYD_RATE", 500)}
	if r := d.Upgrade(t, f, ""); r.Code != 0 {
		t.Fatal(r)
	}
	w := startStorm(t, inside, o)
	var goroutines, descriptors []int
	for i := range setting(t, "GANTRYD_UPGRADES", count(10)) {
		if r := d.Upgrade(t, f, ""); r.Code != 0 {
			t.Fatalf("upgrade %d: %v", i, r)
		}
		descriptors = append(descriptors, descriptorsOf(t, d.PID())-2*o.Streams)
		goroutines = append(goroutines, threadsOf(t, d.PID()))
	}
	r := w.stop(t)
	t.Log(r)
	t.Logf("stalls by the daemons' own account: %v", stalls(d.Log()))
	t.Logf("descriptors besides the streams' %v, threads %v", descriptors, goroutines)
	for _, why := range r.Failures {
		t.Error(why)
	}
	if r.Streams != o.Streams || r.Short == 0 {
		t.Errorf("%d of %d streams came through", r.Streams, o.Streams)
	}
	if strings.Contains(d.Log(), "level=ERROR") {
		t.Error("a daemon logged an error")
	}
	fleettest.Await(t, fleettest.Soon, "no connection is left", func() error {
		if n := descriptorsOf(t, d.PID()); n > 60 {
			return fmt.Errorf("%d descriptors", n)
		}
		return nil
	})
}

// stalls are how long clients waited at each upgrade, as the daemons logged.
func stalls(log string) (out []string) {
	for line := range strings.Lines(log) {
		if _, v, ok := strings.Cut(line, "stalled="); ok {
			out = append(out, strings.Fields(v)[0])
		}
	}
	return out
}

func descriptorsOf(t *testing.T, pid int) int { return entries(t, fmt.Sprintf("/proc/%d/fd", pid)) }
func threadsOf(t *testing.T, pid int) int     { return entries(t, fmt.Sprintf("/proc/%d/task", pid)) }

func entries(t *testing.T, dir string) int {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestManyKillsUnderLoad: GANTRYD_KILLS makes it longer.
func TestManyKillsUnderLoad(t *testing.T) {
	_, d, inside, addr := inAStorm(t)
	w := startStorm(t, inside, stormOptions{Addr: addr, Short: 8, Pause: time.Second})
	for range setting(t, "GANTRYD_KILLS", count(5)) {
		d.Kill(t)
		d.Start(t)
		fleettest.Pass(t, 300*time.Millisecond)
	}
	r := w.stop(t)
	t.Log(r)
	for _, why := range r.Failures {
		if strings.Contains(why, "refused") {
			t.Error(why) // one that was established may end with its process
		}
	}
}
