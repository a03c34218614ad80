package health

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is the request timeout of attempts that are to be answered by a real server, however busy the machine is.
const patient = component.Duration(time.Minute)

const containerID = "4ae76210a4fe0000000000000000000000000000000000000000000000000000"

// at is a container that listens on addr.
func at(t testing.TB, addr net.Addr) (component.ProbeTarget, int) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return component.ProbeTarget{ID: containerID, Addr: host}, n
}

// listen opens a listener on the loopback address for the test.
func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// addrOf is addr as what a listener has.
func addrOf(t testing.TB, addr string) net.Addr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// raw serves each connection by handle, which gets a connection that the test's end closes.
func raw(t testing.TB, handle func(net.Conn)) net.Addr {
	t.Helper()
	ln := listen(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() { handle(conn) })
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
	return ln.Addr()
}

// web serves handler over http and counts the connections that are open.
func web(t testing.TB, handler http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	open := new(atomic.Int64)
	srv := httptest.NewUnstartedServer(handler)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	t.Cleanup(srv.Close)
	return srv, open
}

// eventually waits until ok, for at most 30 s.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30s", what)
		}
	}
}

// verify compares an error with the text wanted; "" wants none.
func verify(t testing.TB, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("got error %q, want %q", got, want)
	}
}

// A fakeRunner answers from functions; those that are nil must not be called.
type fakeRunner struct {
	exec   func(ctx context.Context, argv []string) (int, string, error)
	docker func(ctx context.Context) (string, string, error)
}

func (r fakeRunner) Exec(ctx context.Context, id string, argv []string) (int, string, error) {
	if id != containerID {
		return 0, "", errors.New("wrong container")
	}
	return r.exec(ctx, argv)
}

func (r fakeRunner) DockerHealth(ctx context.Context, id string) (string, string, error) {
	if id != containerID {
		return "", "", errors.New("wrong container")
	}
	return r.docker(ctx)
}

// A journal collects events, as one line each: after what time, kind, text, detail.
type journal struct {
	start time.Time
	lines []string
}

func newJournal() *journal { return &journal{start: time.Now()} }

func (j *journal) report(e component.Event) {
	line := time.Since(j.start).String() + " " + string(e.Kind) + ": " + e.Text
	if e.Detail != "" {
		line += " (" + e.Detail + ")"
	}
	if e.Container != containerID {
		line += " [container " + e.Container + "]"
	}
	j.lines = append(j.lines, line)
}

// texts are the events without their times.
func (j *journal) texts() []string {
	var out []string
	for _, l := range j.lines {
		_, text, _ := strings.Cut(l, " ")
		out = append(out, text)
	}
	return out
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
