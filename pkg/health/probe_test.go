package health

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
)

// A check that cannot be run is a failed check (GW4).
func TestProbeThatCannotRun(t *testing.T) {
	ok := component.ProbeTarget{ID: containerID, Addr: "127.0.0.1"}
	with := func(addr string) component.ProbeTarget { return component.ProbeTarget{ID: containerID, Addr: addr} }
	tests := []struct {
		name   string
		target component.ProbeTarget
		check  component.Check
		want   string
	}{
		{"no kind", ok, component.Check{}, "Unknown health check: "},
		{"unknown kind", ok, component.Check{Kind: "ftp", Port: 80}, "Unknown health check: ftp"},
		{"kind in upper case", ok, component.Check{Kind: "HTTP", Port: 80}, "Unknown health check: HTTP"},
		{"http without port", ok, component.Check{Kind: "http"}, "http: no port"},
		{"https without port", ok, component.Check{Kind: "https"}, "https: no port"},
		{"tcp without port", ok, component.Check{Kind: "tcp"}, "tcp: no port"},
		{"grpc without port", ok, component.Check{Kind: "grpc"}, "grpc: no port"},
		{"port too high", ok, component.Check{Kind: "tcp", Port: 65536}, "tcp: 65536 is not a port"},
		{"port below zero", ok, component.Check{Kind: "http", Port: -1}, "http: -1 is not a port"},
		{"no address", with(""), component.Check{Kind: "tcp", Port: 80}, "tcp: container has no address"},
		{"name for an address", with("localhost"), component.Check{Kind: "tcp", Port: 80}, `tcp: "localhost" is not the address of a container`},
		{"any address", with("0.0.0.0"), component.Check{Kind: "http", Port: 80}, `http: "0.0.0.0" is not the address of a container`},
		{"any address, IPv6", with("::"), component.Check{Kind: "grpc", Port: 80}, `grpc: "::" is not the address of a container`},
		{"connections that nobody counts", ok, component.Check{Kind: "connection"}, "connections: nobody counts them"},
		{"exec without command", ok, component.Check{Kind: "exec"}, "exec: no command"},
		{"exec of nothing", ok, component.Check{Kind: "exec", Command: []string{""}}, "exec: no command"},
		{"exec of blanks", ok, component.Check{Kind: "exec", ExecCommand: "  # nothing"}, "exec: no command"},
		{"exec with an open quote", ok, component.Check{Kind: "exec", ExecCommand: `sh -c "x`}, `exec: split "sh -c \"x": EOF found when expecting closing quote`},
		{"exec without engine", ok, component.Check{Kind: "exec", Command: []string{"x"}}, `exec ["x"]: no engine to ask`},
		{"docker without engine", ok, component.Check{Kind: "docker"}, "docker health: no engine to ask"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			verify(t, New(Options{}).Probe(t.Context(), tt.target, tt.check), tt.want)
		})
	}
}

func TestProbeExec(t *testing.T) {
	hang := func(ctx context.Context, _ []string) (int, string, error) { <-ctx.Done(); return 0, "", ctx.Err() }
	says := func(code int, output string, err error) func(context.Context, []string) (int, string, error) {
		return func(context.Context, []string) (int, string, error) { return code, output, err }
	}
	wants := func(want ...string) func(context.Context, []string) (int, string, error) {
		return func(_ context.Context, argv []string) (int, string, error) {
			if strings.Join(argv, "|") != strings.Join(want, "|") {
				return 99, strings.Join(argv, "|"), nil
			}
			return 0, "", nil
		}
	}
	tests := []struct {
		name  string
		exec  func(context.Context, []string) (int, string, error)
		check component.Check
		want  string
	}{
		{"argv as it is", wants("a", "b c", "$X"), component.Check{Command: []string{"a", "b c", "$X"}}, ""},
		{"string split like a shell does", wants("sh", "-c", "exit 0", "it's"), component.Check{ExecCommand: `sh -c 'exit 0' it\'s`}, ""},
		{"argv wins over the string", wants("a"), component.Check{Command: []string{"a"}, ExecCommand: "b"}, ""},
		{"exit code", says(1, "", nil), component.Check{Command: []string{"/bin/x"}}, `exec ["/bin/x"]: exit code 1`},
		{"first line of the output", says(3, "\n \r\n no database\x1b[31m\nmore", nil), component.Check{Command: []string{"/bin/x", "y z"}}, `exec ["/bin/x" "y z"]: exit code 3: no database[31m`},
		{"long output", says(1, strings.Repeat("ä", 300), nil), component.Check{Command: []string{"x"}}, `exec ["x"]: exit code 1: ` + strings.Repeat("ä", 200) + "…"},
		{"error of the engine", says(0, "", errors.New("no such container")), component.Check{Command: []string{"x"}}, `exec ["x"]: no such container`},
		{"too slow", hang, component.Check{Command: []string{"x"}}, `exec ["x"]: no answer within 2s`},
		{"too slow for its own bound", hang, component.Check{Command: []string{"x"}, RequestTimeout: component.Duration(time.Minute)}, `exec ["x"]: no answer within 1m0s`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.check.Kind = component.CheckExec
				err := New(Options{Runner: fakeRunner{exec: tt.exec}}).Probe(t.Context(), component.ProbeTarget{ID: containerID}, tt.check)
				verify(t, err, tt.want)
			})
		})
	}
}

func TestProbeDocker(t *testing.T) {
	tests := []struct {
		name, status, log string
		err               error
		want              string
	}{
		{"healthy", "healthy", "fine", nil, ""},
		{"starting", "starting", "", nil, "docker health: starting"},
		{"unhealthy", "unhealthy", "curl: (7)\nmore", nil, "docker health: unhealthy: curl: (7)"},
		{"none", "none", "", nil, "docker health: the image has no HEALTHCHECK"},
		{"nothing", "", "", nil, "docker health: the image has no HEALTHCHECK"},
		{"error", "healthy", "", errors.New("engine is away"), "docker health: engine is away"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := fakeRunner{docker: func(context.Context) (string, string, error) { return tt.status, tt.log, tt.err }}
			err := New(Options{Runner: r}).Probe(t.Context(), component.ProbeTarget{ID: containerID}, component.Check{Kind: "docker"})
			verify(t, err, tt.want)
		})
	}
}

func TestProbeConnection(t *testing.T) {
	n := 2
	target := component.ProbeTarget{ID: containerID, Conns: func() int { return n }}
	check := component.Check{Kind: "connection"}
	verify(t, New(Options{}).Probe(t.Context(), target, check), "connections: 2 open")
	n = 0
	verify(t, New(Options{}).Probe(t.Context(), target, check), "")
}

func TestProbeGRPC(t *testing.T) {
	var open atomic.Int64
	ln := countingListener{listen(t), &open}
	states := health.NewServer()
	states.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	srv := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, states)
	bare := grpc.NewServer()
	bareLn := listen(t)
	done := make(chan error, 2)
	serve := func(s *grpc.Server, ln net.Listener) { done <- s.Serve(ln) }
	go serve(srv, ln)
	go serve(bare, bareLn)
	t.Cleanup(func() { srv.Stop(); bare.Stop(); <-done; <-done })

	target, port := at(t, ln.Addr())
	_, barePort := at(t, bareLn.Addr())
	addr := ln.Addr().String()
	tests := []struct {
		name  string
		check component.Check
		want  string
	}{
		{"serving", component.Check{Port: port}, ""},
		{"service not serving", component.Check{Port: port, Service: "down"}, "grpc " + addr + ` service "down": NOT_SERVING`},
		{"service unknown", component.Check{Port: port, Service: "what"}, "grpc " + addr + ` service "what": NotFound: unknown service`},
		{"no health service", component.Check{Port: barePort}, "grpc " + bareLn.Addr().String() + ": Unimplemented: unknown service grpc.health.v1.Health"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.check.Kind, tt.check.RequestTimeout = component.CheckGRPC, patient
			verify(t, New(Options{}).Probe(t.Context(), target, tt.check), tt.want)
			eventually(t, "no connection is left", func() bool { return open.Load() == 0 })
		})
	}
}

type countingListener struct {
	net.Listener
	open *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return &countingConn{Conn: conn, open: l.open}, nil
}

type countingConn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

func (c *countingConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// A server sees an orderly end, not a reset.
func TestProbeTCPSaysGoodbye(t *testing.T) {
	ends := make(chan error, 1)
	addr := raw(t, func(c net.Conn) {
		_, err := io.Copy(io.Discard, c)
		ends <- err
	})
	target, port := at(t, addr)
	verify(t, New(Options{}).Probe(t.Context(), target, component.Check{Kind: "tcp", Port: port, RequestTimeout: patient}), "")
	if err := <-ends; err != nil {
		t.Errorf("the server saw %v", err)
	}
}

// Polling a port of the ephemeral range on the loopback address may connect to itself, which must
// not pass.
func TestConnectionToItself(t *testing.T) {
	addr := addrOf(t, porttest.Addr(t))
	d := net.Dialer{
		LocalAddr: addr, // with a port of its own choice, Go itself tries again
		Control: func(_, _ string, c syscall.RawConn) (err error) { // a connection of an earlier test may linger at the port
			ctrlErr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
			return errors.Join(ctrlErr, err)
		},
	}
	conn, err := d.DialContext(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if !toItself(conn) {
		t.Error("not recognised")
	}
	other, err := dialTCP(t.Context(), raw(t, func(net.Conn) {}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if toItself(other) {
		t.Error("a connection to another socket is taken for one to itself")
	}
}

func FuzzArgv(f *testing.F) {
	for _, s := range []string{"", "sh -c 'exit 1'", `a "b c" d\ e # f`, `"`, `\`, "a\x00b", "\xff\xfe", "é ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args, err := argv(nil, line)
		if err == nil && (len(args) == 0 || args[0] == "") {
			t.Errorf("%q: no error and no command", line)
		}
	})
}

func FuzzFirstLine(f *testing.F) {
	for _, s := range []string{"", "\n\na\nb", "\x1b]0;x\a", "\u202eevil", "\xc3\x28", strings.Repeat("x", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := firstLine(s)
		if len([]rune(got)) > 201 || strings.TrimSpace(got) != got {
			t.Errorf("%q: got %q", s, got)
		}
		for _, r := range got {
			if r < ' ' || r == 0x7f || r == '\u202e' {
				t.Errorf("%q: got %q", s, got)
			}
		}
	})
}
