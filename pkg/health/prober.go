package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// A Runner does what only the engine can. Its methods must end soon after ctx ends, and may be
// called at once.
type Runner interface {
	// Exec runs a command in a running container and waits for it. output is what it wrote on both
	// streams, possibly cut. A command that could not be run is an error, not an exit code.
	Exec(ctx context.Context, containerID string, argv []string) (exitCode int, output string, err error)
	// DockerHealth is the verdict of the image's own HEALTHCHECK: "starting", "healthy", "unhealthy",
	// or "none" or "" when the container has no such check; log is what its last run wrote.
	DockerHealth(ctx context.Context, containerID string) (status, log string, err error)
}

// Options are what a Prober works with.
type Options struct {
	Runner Runner       // for checks and signals of kind exec and docker; without it they fail
	Log    *slog.Logger // nil logs nothing
}

// A Prober runs checks and sends signals. The zero Prober is not usable; see New.
type Prober struct {
	runner Runner
	log    *slog.Logger
	dial   dialFunc
	random func() float64 // in [0, 1)
}

// New returns a Prober. It holds no resources and need not be closed.
func New(o Options) *Prober {
	p := &Prober{runner: o.Runner, log: o.Log, dial: dialTCP, random: rand.Float64}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	return p
}

// Probe runs the check once, for at most its request timeout. Nil means that it passed. The error
// says what was tried and what came of it, such as
//
//	GET http://172.17.0.4:80/ping: 503 Service Unavailable
//	connect 172.17.0.4:80: connection refused
//	exec ["/bin/check"]: exit code 1: no database
func (p *Prober) Probe(ctx context.Context, t component.ProbeTarget, c component.Check) error {
	ctx, cancel := within(ctx, c.Within())
	defer cancel()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch c.Kind {
	case component.CheckHTTP, component.CheckHTTPS:
		return p.request(ctx, t, checkRequest(c))
	case component.CheckTCP:
		return p.probeTCP(ctx, t, c.Port)
	case component.CheckConnection:
		return probeConns(t)
	case component.CheckExec:
		return p.exec(ctx, t, c.Command, c.ExecCommand)
	case component.CheckDocker:
		return p.probeDocker(ctx, t)
	case component.CheckGRPC:
		return p.probeGRPC(ctx, t, c.Port, c.Service)
	}
	return fmt.Errorf("Unknown health check: %s", c.Kind) //nolint:staticcheck // the original's words
}

// within bounds an attempt; when the bound was reached, context.Cause says so.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %v", d))
}

// authority is the ip:port of the container that a check dials.
func authority(t component.ProbeTarget, port int) (string, error) {
	switch {
	case port == 0:
		return "", errors.New("no port")
	case port < 0 || port > 65535:
		return "", fmt.Errorf("%d is not a port", port)
	case t.Addr == "":
		return "", errors.New("container has no address")
	}
	ip, err := netip.ParseAddr(t.Addr)
	if err != nil || ip.IsUnspecified() || ip.IsMulticast() {
		return "", fmt.Errorf("%q is not the address of a container", t.Addr)
	}
	return netip.AddrPortFrom(ip, uint16(port)).String(), nil
}

// probeConns passes when the proxy holds no connection to the container.
func probeConns(t component.ProbeTarget) error {
	if t.Conns == nil {
		return errors.New("connections: nobody counts them")
	}
	if n := t.Conns(); n != 0 {
		return fmt.Errorf("connections: %d open", n)
	}
	return nil
}
