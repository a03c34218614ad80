package holder

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryd/gantryd/internal/control"
	"github.com/gantryd/gantryd/internal/packet"
	"github.com/gantryd/gantryd/internal/porttest"
)

// asHolder in the environment makes the test binary a holder; its value is how long it waits.
const asHolder = "hold-for="

func TestMain(m *testing.M) {
	if wait, ok := strings.CutPrefix(os.Args[len(os.Args)-1], asHolder); ok {
		os.Exit(hold(wait))
	}
	goleak.VerifyTestMain(m)
}

func hold(text string) int {
	wait, err := time.ParseDuration(text)
	if err != nil {
		return 2
	}
	l, err := net.FileListener(os.NewFile(3, "holder"))
	if err != nil {
		return 2
	}
	if Serve(context.Background(), l.(*net.UnixListener), wait, slog.New(slog.DiscardHandler)) != nil {
		return 1
	}
	return 0
}

// newKeeper is a daemon's keeper in dir that runs until stop is called.
func newKeeper(t *testing.T, dir, wait string) (k *Keeper, stop func()) {
	t.Helper()
	k, _, stop = nextKeeper(t, dir, wait)
	return k, stop
}

// nextKeeper is newKeeper with what was kept for it, which a daemon takes before the keeper runs.
func nextKeeper(t *testing.T, dir, wait string) (k *Keeper, kept []*os.File, stop func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k = New(dir, []string{exe, asHolder + wait}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(func() {
		stop()
		k.End(t.Context())
	})
	kept = k.Kept(ctx)
	wg.Go(func() { k.Run(ctx) })
	return k, kept, stop
}

// listen opens a socket and gives a duplicate to k.
func listen(t *testing.T, k *Keeper) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", porttest.Addr(t)) // nobody else's once it is closed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	tcp := l.(*net.TCPListener)
	f, err := tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	k.Opened(addr, f)
	return tcp, addr
}

// process is the ID of the holder of dir, 0 when there is none.
func process(t *testing.T, dir string) int {
	t.Helper()
	c, err := control.Dial(t.Context(), "unixpacket", dir, Name)
	if err != nil {
		return 0
	}
	defer c.Close()
	if err := packet.Send(c, request{Do: doTake}); err != nil {
		return 0
	}
	for {
		var r reply
		files, err := packet.Receive(c, &r)
		packet.CloseAll(files)
		if err != nil || r.Last {
			return r.PID
		}
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

// holds waits until the holder of dir has n sockets.
func holds(t *testing.T, dir string, n int) {
	t.Helper()
	await(t, "the holder has its sockets", func() bool {
		k := New(dir, nil, slog.New(slog.DiscardHandler))
		files := k.Kept(t.Context())
		for _, f := range files {
			f.Close()
		}
		k.Detach()
		return len(files) == n
	})
}

func TestSocketsOutliveADaemon(t *testing.T) {
	dir := t.TempDir()
	k, stop := newKeeper(t, dir, "1m")
	l, addr := listen(t, k)
	_, other := listen(t, k)
	holds(t, dir, 2)
	k.Closed(other)
	holds(t, dir, 1)

	stop()
	k.Detach() // as the kernel does for a daemon that is killed
	l.Close()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatalf("connect while there is no daemon: %v", err)
	}
	defer c.Close()

	_, files, _ := nextKeeper(t, dir, "1m")
	if len(files) != 1 {
		t.Fatalf("%d sockets were kept, want 1", len(files))
	}
	again, err := net.FileListener(files[0])
	files[0].Close()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, err := again.Accept(); err != nil {
		t.Errorf("accept the client that waited: %v", err)
	} else {
		got.Close()
	}
}

func TestDaemonThatEndsWellLeavesNoHolder(t *testing.T) {
	dir := t.TempDir()
	k, stop := newKeeper(t, dir, "1m")
	l, addr := listen(t, k)
	holds(t, dir, 1)
	stop()
	k.End(t.Context())
	l.Close()
	await(t, "the port is closed", func() bool {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if pid := process(t, dir); pid != 0 {
		t.Errorf("holder %d lives", pid)
	}
}

func TestHolderLeavesWhenNoDaemonComesBack(t *testing.T) {
	dir := t.TempDir()
	k, stop := newKeeper(t, dir, "200ms")
	listen(t, k)
	holds(t, dir, 1)
	pid := process(t, dir)
	stop()
	k.Detach()
	await(t, "the holder has left", func() bool { // who connects to it to ask keeps it
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		return err != nil || strings.Contains(string(b), ") Z ")
	})
}

func TestHolderThatIsKilledIsReplaced(t *testing.T) {
	dir := t.TempDir()
	k, _ := newKeeper(t, dir, "1m")
	listen(t, k)
	listen(t, k)
	holds(t, dir, 2)
	first := process(t, dir)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "another holder", func() bool { pid := process(t, dir); return pid != 0 && pid != first })
	holds(t, dir, 2)
}

// TestHolderDropsWhatTheNextDaemonDoesNotKeep is about sockets that a holder has because the word to drop them was lost.
func TestHolderDropsWhatTheNextDaemonDoesNotKeep(t *testing.T) {
	dir := t.TempDir()
	k, stop := newKeeper(t, dir, "1m")
	_, addr := listen(t, k)
	listen(t, k)
	holds(t, dir, 2)
	stop()
	k.Detach()

	next, files, _ := nextKeeper(t, dir, "1m")
	for _, f := range files {
		if f != files[0] {
			f.Close()
			continue
		}
		next.Opened(addr, f)
	}
	holds(t, dir, 1)
}

// TestLostWordIsMadeUpFor loses the connection to the holder, and with it what is said meanwhile.
func TestLostWordIsMadeUpFor(t *testing.T) {
	dir := t.TempDir()
	k, _ := newKeeper(t, dir, "1m")
	_, addr := listen(t, k)
	listen(t, k)
	holds(t, dir, 2)
	first := process(t, dir)
	k.mu.Lock()
	k.hangUp()
	k.mu.Unlock()
	if !k.Closed(addr) {
		t.Error("clients of the address are not to be refused")
	}
	holds(t, dir, 1)
	listen(t, k)
	holds(t, dir, 2)
	if pid := process(t, dir); pid != first {
		t.Errorf("holder %d took the place of %d", pid, first)
	}
}

// TestEndWithoutConnection ends a daemon that has just lost its connection to the holder.
func TestEndWithoutConnection(t *testing.T) {
	dir := t.TempDir()
	k, stop := newKeeper(t, dir, "1m")
	l, addr := listen(t, k)
	holds(t, dir, 1)
	stop()
	k.mu.Lock()
	k.hangUp()
	k.mu.Unlock()
	k.End(t.Context())
	if pid := process(t, dir); pid != 0 {
		t.Errorf("holder %d lives", pid)
	}
	l.Close()
	await(t, "the port is closed", func() bool {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if k.Closed(addr) {
		t.Error("after the end somebody is to be refused")
	}
	k.End(t.Context()) // once more
}

// TestEndWithoutHolder ends a keeper that nobody ever held anything for.
func TestEndWithoutHolder(t *testing.T) {
	k := New(t.TempDir(), nil, slog.New(slog.DiscardHandler))
	if !k.Closed(netip.MustParseAddrPort("127.0.0.1:80")) {
		t.Error("clients of the address are not to be refused")
	}
	k.End(t.Context())
}

func TestStaleSocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, Name), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as after a reboot
	k, files, _ := nextKeeper(t, dir, "1m")
	if len(files) != 0 {
		t.Errorf("%d sockets from nobody", len(files))
	}
	listen(t, k)
	holds(t, dir, 1)
}

func TestTwoDaemonsOfOneMachine(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	x, _ := newKeeper(t, a, "1m")
	y, _ := newKeeper(t, b, "1m")
	listen(t, x)
	listen(t, y)
	listen(t, y)
	holds(t, a, 1)
	holds(t, b, 2)
	if process(t, a) == process(t, b) {
		t.Error("two data directories share a holder")
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k, _ := newKeeper(t, dir, "1m")
	listen(t, k)
	holds(t, dir, 1)
	info, err := os.Stat(filepath.Join(dir, Name))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v; want mode 0600", info, err)
	}
}

func TestManySockets(t *testing.T) {
	dir := t.TempDir()
	k, _ := newKeeper(t, dir, "1m")
	for range 150 { // more than fit in one packet
		listen(t, k)
	}
	holds(t, dir, 150)
}

func TestHolderThatCannotBeStarted(t *testing.T) {
	k := New(t.TempDir(), []string{"/nowhere/gantryd"}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	k.Run(ctx) // goes on trying, and ends with ctx
	k.End(t.Context())
}
