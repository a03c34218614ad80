package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ends is a connection through a proxy, seen from both sides.
type ends struct {
	proxy          *Proxy
	client, server *net.TCPConn
}

func newEnds(t *testing.T) ends {
	t.Helper()
	accepted := make(chan *net.TCPConn, 1)
	done := make(chan struct{})
	target := backend(t, func(c *net.TCPConn) {
		accepted <- c
		<-done
	})
	t.Cleanup(func() { close(done) }) // before the backend waits for its connections
	p := newProxy(t)
	apply(t, p, tcp("A", target))
	e := ends{proxy: p, client: connect(t, addrOf(t, p))}
	_, _ = io.WriteString(e.client, "!") // once it arrives the connection is open for the proxy, too
	e.server = <-accepted
	_ = e.server.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(e.server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return e
}

// what reads c to its end and says what came: the bytes and how it ended.
func what(c net.Conn) string {
	b, err := io.ReadAll(c)
	switch {
	case err == nil:
		return string(b) + "|end"
	case errors.Is(err, syscall.ECONNRESET):
		return string(b) + "|reset"
	}
	return fmt.Sprintf("%s|%v", b, err)
}

// outcomeAt connects to addr and says what comes, as what does. A reset may be there before the
// client knows that it is connected.
func outcomeAt(addr string) string { return outcomeOf(addr, "") }

// outcomeOf is outcomeAt of a client that says something first.
func outcomeOf(addr, said string) string {
	c, err := net.DialTimeout("tcp", addr, patience)
	if errors.Is(err, syscall.ECONNRESET) {
		return "|reset"
	}
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if said == "" { // to write nothing would take note of a reset, and a read would see the end
		return what(c)
	}
	if _, err = io.WriteString(c, said); errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return "|reset"
	}
	return what(c)
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// TestCloseOrders is the contract about how a connection ends. Each step is done once the one
// before was seen on the other side.
func TestCloseOrders(t *testing.T) {
	write := func(c net.Conn, s string) { _, _ = io.WriteString(c, s) }
	tests := []struct {
		name string
		do   func(e ends) []string
		want []string
	}{
		{"client ends first", func(e ends) []string {
			write(e.client, "question")
			_ = e.client.CloseWrite()
			server := what(e.server)
			write(e.server, "answer")
			_ = e.server.Close()
			return []string{server, what(e.client)}
		}, []string{"question|end", "answer|end"}},
		{"target ends first", func(e ends) []string {
			write(e.server, "hello")
			_ = e.server.CloseWrite()
			client := what(e.client)
			write(e.client, "bye")
			_ = e.client.Close()
			return []string{client, what(e.server)}
		}, []string{"hello|end", "bye|end"}},
		{"both end with data under way", func(e ends) []string {
			write(e.client, "a")
			write(e.server, "b")
			_ = e.client.CloseWrite()
			_ = e.server.CloseWrite()
			return []string{what(e.server), what(e.client)}
		}, []string{"a|end", "b|end"}},
		{"client ends without a word", func(e ends) []string {
			_ = e.client.CloseWrite()
			server := what(e.server)
			write(e.server, "late")
			_ = e.server.Close()
			return []string{server, what(e.client)}
		}, []string{"|end", "late|end"}},
		{"client resets", func(e ends) []string {
			reset(e.client)
			return []string{what(e.server)}
		}, []string{"|reset"}},
		{"target resets", func(e ends) []string {
			reset(e.server)
			return []string{what(e.client)}
		}, []string{"|reset"}},
		{"client resets after its end", func(e ends) []string {
			write(e.client, "question")
			_ = e.client.CloseWrite()
			server := what(e.server)
			reset(e.client)
			return []string{server, eventuallyWriteFails(e.server)}
		}, []string{"question|end", "broken"}},
		{"target resets after its end", func(e ends) []string {
			write(e.server, "hello")
			_ = e.server.CloseWrite()
			client := what(e.client)
			reset(e.server)
			return []string{client, eventuallyWriteFails(e.client)}
		}, []string{"hello|end", "broken"}},
		{"target says something and resets", func(e ends) []string {
			write(e.server, "no")
			one := make([]byte, 2)
			_, _ = io.ReadFull(e.client, one)
			reset(e.server)
			return []string{string(one), what(e.client)}
		}, []string{"no", "|reset"}},
		{"client closes while the target talks", func(e ends) []string {
			_ = e.client.Close()
			return []string{eventuallyWriteFails(e.server)}
		}, []string{"broken"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEnds(t)
			wantOpen(t, e.proxy, "A", 1)
			if diff := cmp.Diff(tt.want, tt.do(e)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			wantOpen(t, e.proxy, "A", 0)
		})
	}
}

// eventuallyWriteFails writes to c, slowly, until that is refused.
func eventuallyWriteFails(c net.Conn) string {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := c.Write([]byte("x")); errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return "broken"
		}
		<-tick.C
	}
	return "still open"
}

func TestHalfOpenConnectionGoesOn(t *testing.T) {
	t.Parallel()
	e := newEnds(t)
	_ = e.client.CloseWrite()
	if got := what(e.server); got != "|end" {
		t.Fatalf("target saw %q, want the end", got)
	}
	during(t, 300*time.Millisecond, "half-open connection ended", func() bool {
		n, _ := e.proxy.Conns("A")
		return n == 1
	})
	for i := range 3 {
		msg := fmt.Sprintf("part %d", i)
		if _, err := io.WriteString(e.server, msg); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(msg))
		if _, err := io.ReadFull(e.client, got); err != nil || string(got) != msg {
			t.Fatalf("client read %q, %v, want %q", got, err, msg)
		}
	}
}

// A patient connection waits for each step of a transfer anew, however long the whole takes.
type patient struct{ c *net.TCPConn }

// Read implements io.Reader.
func (p patient) Read(b []byte) (int, error) {
	_ = p.c.SetReadDeadline(time.Now().Add(patience))
	return p.c.Read(b)
}

// Write implements io.Writer.
func (p patient) Write(b []byte) (int, error) {
	_ = p.c.SetWriteDeadline(time.Now().Add(patience))
	return p.c.Write(b)
}

func TestBytesArriveUnchanged(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	e := newEnds(t)
	var wg sync.WaitGroup
	send := func(c *net.TCPConn, seed byte) (sum [32]byte) {
		h := sha256.New()
		src := io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(patient{c}, h)}, src, make([]byte, 97<<10)); err != nil {
			t.Error(err)
		}
		_ = c.CloseWrite()
		return [32]byte(h.Sum(nil))
	}
	receive := func(c *net.TCPConn) (sum [32]byte) {
		h := sha256.New()
		if _, err := io.Copy(h, patient{c}); err != nil {
			t.Error(err)
		}
		return [32]byte(h.Sum(nil))
	}
	var up, down, gotUp, gotDown [32]byte
	wg.Go(func() { up = send(e.client, 1) })
	wg.Go(func() { down = send(e.server, 2) })
	wg.Go(func() { gotUp = receive(e.server) })
	wg.Go(func() { gotDown = receive(e.client) })
	wg.Wait()
	if up != gotUp || down != gotDown {
		t.Error("bytes changed on the way")
	}
	wantOpen(t, e.proxy, "A", 0)
}

// TestSlowReaderStopsTheWriter: the proxy takes no more than a few buffers for a peer that does not
// read, and delivers all of it once it does.
func TestSlowReaderStopsTheWriter(t *testing.T) {
	t.Parallel()
	e := newEnds(t)
	_ = e.server.SetReadBuffer(16 << 10)
	_ = e.client.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	var sent int
	chunk := bytes.Repeat([]byte("z"), 64<<10)
	for {
		n, err := e.client.Write(chunk)
		sent += n
		if err != nil {
			break
		}
		if sent > 256<<20 {
			t.Fatal("the proxy took 256 MiB that nobody reads")
		}
	}
	_ = e.client.CloseWrite()
	got, err := io.Copy(io.Discard, struct{ io.Reader }{e.server})
	if err != nil || got != int64(sent) {
		t.Errorf("target read %d bytes, %v, want %d", got, err, sent)
	}
}

// TestIdleConnectionCostsTwoDescriptors: the proxy's own, in this process beside the peers' two.
func TestIdleConnectionCostsTwoDescriptors(t *testing.T) {
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	addr := addrOf(t, p)
	wantAnswer(t, connect(t, addr), "warm", "a warm")
	before := map[string]bool{}
	for _, file := range files(t) {
		before[file] = true
	}
	const n = 50
	for range n {
		wantAnswer(t, connect(t, addr), "hi", "a hi")
	}
	got := 0
	for _, file := range files(t) { // whatever of earlier tests was closed meanwhile
		if !before[file] {
			got++
		}
	}
	if got != 4*n {
		t.Errorf("%d connections cost %d descriptors, want %d: two at the peers, two in the proxy", n, got, 4*n)
	}
	if got := p.buffers.Lent(); got != 0 {
		t.Errorf("%d large buffers are lent to idle connections", got)
	}
}

// files are what the descriptors of this process stand for, the name of each as the kernel says it.
func files(t testing.TB) []string {
	t.Helper()
	const dir = "/proc/self/fd/"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Skip("cannot list descriptors:", err)
	}
	var all []string
	for _, e := range entries {
		if file, err := os.Readlink(dir + e.Name()); err == nil { // else it is that of the list itself
			all = append(all, file)
		}
	}
	return all
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("cannot count descriptors:", err)
	}
	return len(entries)
}

func TestConnectionsTellsWhatIsGoingOn(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	apply(t, p, tcp("A", named(t, "a")))
	start := time.Now()
	c := connect(t, addrOf(t, p))
	wantAnswer(t, c, "hello", "a hello")
	eventually(t, "bytes are counted", func() bool {
		infos := p.Connections("A")
		return len(infos) == 1 && infos[0].BytesIn == 6 && infos[0].BytesOut == 8
	})
	info := p.Connections("A")[0]
	if info.Client != c.LocalAddr().String() {
		t.Errorf("client %s, want %s", info.Client, c.LocalAddr())
	}
	if info.Age <= 0 || info.Age > time.Since(start) || info.Idle > info.Age+time.Second {
		t.Errorf("age %v, idle %v", info.Age, info.Idle)
	}
	if got := p.Connections("B"); len(got) != 0 {
		t.Errorf("connections of an unknown ID: %v", got)
	}
}
