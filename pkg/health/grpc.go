package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/gantryd/gantryd/pkg/component"
)

// probeGRPC asks the standard health service (grpc.health.v1), in plain text; it passes on SERVING.
func (p *Prober) probeGRPC(ctx context.Context, t component.ProbeTarget, port int, service string) error {
	addr, err := authority(t, port)
	if err != nil {
		return fmt.Errorf("grpc: %w", err)
	}
	what := "grpc " + addr
	if service != "" {
		what += fmt.Sprintf(" service %q", service)
	}
	// Connecting first tells a refused connection from a bad answer, and costs no client when
	// nobody listens.
	conn, err := p.connect(ctx, addr)
	if err != nil {
		return fmt.Errorf("%s: %w", what, reason(ctx, err))
	}
	defer func() { _ = conn.Close() }()
	answer, err := askGRPC(ctx, addr, conn, service)
	if err != nil {
		return fmt.Errorf("%s: %w", what, reason(ctx, err))
	}
	if answer != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s: %s", what, answer)
	}
	return nil
}

// askGRPC makes one call over conn.
func askGRPC(ctx context.Context, addr string, conn net.Conn, service string) (grpc_health_v1.HealthCheckResponse_ServingStatus, error) {
	var used atomic.Bool
	client, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errHungUp // one connection per probe
			}
			return conn, nil
		}),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithUserAgent(userAgent),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return 0, err
	}
	defer func() { _ = client.Close() }()
	resp, err := grpc_health_v1.NewHealthClient(client).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		s := status.Convert(err)
		return 0, errors.New(s.Code().String() + ": " + firstLine(s.Message()))
	}
	return resp.GetStatus(), nil
}
