package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/gantryd/gantryd/internal/porttest"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(childEnv) != "":
		os.Exit(child())
	case os.Getenv(heirEnv) != "":
		os.Exit(heir())
	}
	goleak.VerifyTestMain(m)
}

// newProxy returns a proxy that is closed when the test ends.
func newProxy(t testing.TB) *Proxy {
	t.Helper()
	return newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler)})
}

func newProxyWith(t testing.TB, o Options) *Proxy {
	t.Helper()
	if o.Engine == "" && strings.HasPrefix(t.Name(), "TestGoroutines/") {
		o.Engine = Goroutines
	}
	p := New(context.Background(), o)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// apply makes ls the listeners of owner "test" and fails the test if that does not work.
func apply(t testing.TB, p *Proxy, ls ...Listener) {
	t.Helper()
	if err := p.Apply("test", ls); err != nil {
		t.Fatal(err)
	}
}

// tcp is a TCP listener to a target; id and target may be empty.
func tcp(id, target string) Listener {
	return Listener{
		Name: "a:1", Addrs: []string{"127.0.0.1:0"}, Kind: TCP,
		HoldMax: 100, HoldTimeout: time.Minute, TargetID: id, Target: target,
	}
}

func web1(id, target string) Listener {
	l := tcp(id, target)
	l.Kind = HTTP
	return l
}

func addrOf(t testing.TB, p *Proxy) string {
	t.Helper()
	addrs := p.Addr("a:1")
	if len(addrs) != 1 {
		t.Fatalf("addresses %q, want one", addrs)
	}
	return addrs[0]
}

// backend accepts connections and hands each to serve.
func backend(t testing.TB, serve func(c *net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// named answers each line with its name and the line, and ends when the client does.
func named(t testing.TB, name string) string {
	t.Helper()
	return backend(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if _, err := fmt.Fprintf(c, "%s %s", name, line); err != nil {
				return
			}
		}
	})
}

// alone makes l listen where nobody else does once it stops.
func alone(t testing.TB, l Listener) Listener {
	t.Helper()
	l.Addrs = []string{porttest.Addr(t)}
	return l
}

// deadPort is an address that refuses connections.
func deadPort(t testing.TB) string {
	t.Helper()
	return porttest.Refusing(t).Addr
}

func connect(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// ask sends a line and returns the answer without its end.
func ask(c net.Conn, line string) (string, error) {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	var b strings.Builder
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, one); err != nil {
			return b.String(), err
		}
		if one[0] == '\n' {
			return b.String(), nil
		}
		b.WriteByte(one[0])
	}
}

func wantAnswer(t testing.TB, c net.Conn, line, want string) {
	t.Helper()
	if got, err := ask(c, line); err != nil || got != want {
		t.Fatalf("ask %q = %q, %v, want %q", line, got, err, want)
	}
}

// patience is how long a test waits for what must come: on a busy machine much later than on this one.
const patience = time.Minute

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

func wantOpen(t testing.TB, p *Proxy, id string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d connections of %q", want, id), func() bool {
		n, _ := p.Conns(id)
		return n == want
	})
}

// during fails the test if ok becomes false within d.
func during(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(d)
	for ok() {
		select {
		case <-tick.C:
		case <-end:
			return
		}
	}
	t.Fatal(what)
}

// site is an HTTP target that says its name in the header Served-By.
func site(t testing.TB, name string, h http.HandlerFunc) (id, addr string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Served-By", name)
		if h != nil {
			h(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return name, s.Listener.Addr().String()
}

// browser is an HTTP client with connections of its own.
func browser(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// fullQueue is a listening socket nobody accepts from. fill reports whether another connection to it
// is neither accepted nor refused.
func fullQueue(t testing.TB) (addr string, fill func() bool) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.CloseOnExec(fd)
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr = fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	return addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return true
		}
		t.Cleanup(func() { _ = c.Close() })
		return false
	}
}

// randomClient makes one connection, uses it somehow, and closes it somehow.
func randomClient(addr string, rnd *rand.Rand) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return
	}
	c := conn.(*net.TCPConn)
	_ = c.SetDeadline(time.Now().Add(100 * time.Millisecond))
	for range rnd.IntN(4) {
		if _, err := ask(c, "x"); err != nil {
			break
		}
	}
	switch rnd.IntN(3) {
	case 0:
		_ = c.SetLinger(0)
	case 1:
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
	_ = c.Close()
}

func waitABit(rnd *rand.Rand) {
	<-time.After(time.Duration(rnd.IntN(3000)) * time.Microsecond)
}

// never is no deadline.
var never time.Time

// established counts the connections to addr that are open, as the kernel sees it.
func established(t testing.TB, addr string) int {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Skip("no connection table:", err)
	}
	a := netip.MustParseAddrPort(addr)
	ip := a.Addr().As4()
	to := fmt.Sprintf(" %02X%02X%02X%02X:%04X 01 ", ip[3], ip[2], ip[1], ip[0], a.Port())
	return strings.Count(string(table), to)
}
