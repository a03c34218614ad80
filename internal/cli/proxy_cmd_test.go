package cli

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy"
)

func TestProxyRefusesWhatItCannotForward(t *testing.T) {
	taken := listen(t)
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, exitUsage, "--listen and --target are needed"},
		{"no target", []string{"--listen", "127.0.0.1:0"}, exitUsage, "--listen is given 1 times and --target 0 times"},
		{"one target for two", []string{"--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--target", "127.0.0.1:9"}, exitUsage, "--listen is given 2 times"},
		{"name", []string{"--listen", "localhost:80", "--target", "127.0.0.1:9"}, exitUsage, `--listen "localhost:80": not an IP:PORT`},
		{"no port", []string{"--listen", "127.0.0.1:0", "--target", "127.0.0.1"}, exitUsage, `--target "127.0.0.1": not an IP:PORT`},
		{"port too high", []string{"--listen", "127.0.0.1:70000", "--target", "127.0.0.1:9"}, exitUsage, `--listen "127.0.0.1:70000": not an IP:PORT`},
		{"target without a port", []string{"--listen", "127.0.0.1:0", "--target", "127.0.0.1:0"}, exitUsage, `--target "127.0.0.1:0": connections need`},
		{"target anywhere", []string{"--listen", "127.0.0.1:0", "--target", ":80"}, exitUsage, `--target ":80": connections need`},
		{"negative wait", []string{"--listen", "127.0.0.1:0", "--target", "127.0.0.1:9", "--drain", "-1s"}, exitUsage, "--drain -1s: must not be negative"},
		{"argument", []string{"127.0.0.1:80"}, exitUsage, "unknown command"},
		{"port taken", []string{"--listen", taken.Addr().String(), "--target", "127.0.0.1:9"}, exitFailed, taken.Addr().String() + ": bind: address already in use"},
		{"address not here", []string{"--listen", "192.0.2.1:0", "--target", "127.0.0.1:9"}, exitFailed, "cannot assign requested address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := inProcess(t, Gantryd, "", nil, append([]string{"proxy"}, tt.args...)...)
			if o.code != tt.code || o.out != "" || !strings.Contains(o.err, tt.want) {
				t.Errorf("proxy %q = %+v, want code %d and %q", tt.args, o, tt.code, tt.want)
			}
		})
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// echo is the address of a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = l.Close() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	return l.Addr().String()
}

// A forwarder is a gantryd proxy in a process of its own.
type forwarder struct {
	cmd   *exec.Cmd
	addrs []string // in the order of the targets
	err   bytes.Buffer
}

func forward(t *testing.T, args ...string) *forwarder {
	t.Helper()
	f := &forwarder{cmd: command(t, "gantryd", nil, append([]string{"proxy"}, args...)...)}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.cmd.Stderr = &f.err
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.cmd.Process.Kill() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "Gantryd proxy running" {
			return f
		}
		f.addrs = append(f.addrs, strings.Fields(lines.Text())[2])
	}
	_ = f.cmd.Wait()
	t.Fatalf("proxy %q does not run: %s", args, f.err.String())
	return nil
}

func (f *forwarder) signal(t *testing.T) {
	t.Helper()
	if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// ends waits for the end of the process and returns its exit code.
func (f *forwarder) ends(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { _ = f.cmd.Process.Kill() })
	defer timer.Stop()
	_ = f.cmd.Wait() // the state tells
	return f.cmd.ProcessState.ExitCode()
}

// ping sends a word through the connection and wants it back.
func ping(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "ping"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "ping" {
		t.Fatalf("read %q, %v", b, err)
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// unheard waits until nobody listens at addr.
func unheard(t *testing.T, addr string) {
	t.Helper()
	within(t, 30*time.Second, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

func TestProxyDrains(t *testing.T) {
	t.Parallel()
	f := forward(t, "--listen", "127.0.0.1:0", "--target", echo(t), "--listen", "127.0.0.1:0", "--target", echo(t))
	if len(f.addrs) != 2 {
		t.Fatalf("it forwards from %q, want two addresses", f.addrs)
	}
	first, second := dial(t, f.addrs[0]), dial(t, f.addrs[1])
	ping(t, first)
	ping(t, second)
	f.signal(t)
	unheard(t, f.addrs[0])
	unheard(t, f.addrs[1])
	ping(t, first) // what is open goes on
	ping(t, second)
	_, _ = first.Close(), second.Close()
	if code := f.ends(t); code != exitOK || !strings.Contains(f.err.String(), " connections open, waiting up to 30s") {
		t.Errorf("exit code %d, %s", code, f.err.String())
	}
}

func TestProxyClosesWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	f := forward(t, "--listen", "127.0.0.1:0", "--target", echo(t), "--drain", "50ms")
	c := dial(t, f.addrs[0])
	ping(t, c)
	f.signal(t)
	if code := f.ends(t); code != exitFailed || !strings.Contains(f.err.String(), "gantryd: close connections that were open: not ended after 50ms") {
		t.Errorf("exit code %d, %s", code, f.err.String())
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}

func TestProxySecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	f := forward(t, "--listen", "127.0.0.1:0", "--target", echo(t), "--drain", "1h")
	c := dial(t, f.addrs[0])
	ping(t, c)
	f.signal(t)
	unheard(t, f.addrs[0])
	f.signal(t)
	if code := f.ends(t); code != exitFailed || !strings.Contains(f.err.String(), "another signal came") {
		t.Errorf("exit code %d, %s", code, f.err.String())
	}
}

func TestProxyForwardsRequests(t *testing.T) {
	t.Parallel()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	}))
	t.Cleanup(site.Close)
	f := forward(t, "--http", "--listen", "127.0.0.1:0", "--target", site.Listener.Addr().String())
	res, err := http.Get("http://" + f.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || string(b) != "127.0.0.1" {
		t.Errorf("answer %q, %v, want the client's address that only an HTTP proxy sends", b, err)
	}
	f.signal(t)
	if code := f.ends(t); code != exitOK {
		t.Errorf("exit code %d, %s", code, f.err.String())
	}
}

func TestProxyCompletion(t *testing.T) {
	for _, flag := range []string{"--listen", "--target", "--drain"} {
		if o := inProcess(t, Gantryd, "", nil, "__complete", "proxy", flag, ""); o.code != exitOK || !strings.HasPrefix(o.out, ":4\n") {
			t.Errorf("completion of %s = %+v, want no files", flag, o)
		}
	}
}

func TestRaiseProcs(t *testing.T) {
	for cpus, want := range map[int]int{1: proxy.LoopCount + spareProcs, 2: 4, 16: 18} {
		if got := leastProcs(cpus); got != want {
			t.Errorf("%d goroutines at once with %d processors, want %d", got, cpus, want)
		}
	}
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	env := func(value string) Env { return Env{Getenv: func(string) string { return value }} }
	tests := []struct {
		name      string
		set       string
		now, want int
	}{
		{"room beside the loops", "", 1, leastProcs(runtime.NumCPU())},
		{"more is left alone", "", runtime.NumCPU() + 10, runtime.NumCPU() + 10},
		{"the environment wins", "1", 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			runtime.GOMAXPROCS(tt.now)
			raiseProcs(env(tt.set))
			if got := runtime.GOMAXPROCS(0); got != tt.want {
				t.Errorf("GOMAXPROCS %d, want %d", got, tt.want)
			}
		})
	}
}
