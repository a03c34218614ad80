package agent_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryd/gantryd/internal/agent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestServeEnds ends a server in both ways. The daemon closes its sockets when it ends, which may be before the
// server has heard of that: it is no failure.
func TestServeEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(l net.Listener, cancel context.CancelFunc)
	}{
		{"context over", func(_ net.Listener, cancel context.CancelFunc) { cancel() }},
		{"socket closed", func(l net.Listener, _ context.CancelFunc) { _ = l.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), agent.SocketName)
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			s := agent.NewServer(agent.Options{Version: "v1", Log: slog.New(slog.DiscardHandler)})
			go func() { ended <- s.Serve(ctx, l) }()
			if info, err := agent.NewClient(path).Ping(ctx); err != nil || info.Version != "v1" {
				t.Fatalf("Ping = %v, %v", info, err)
			}
			tt.end(l, cancel)
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("Serve = %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("Serve does not end")
			}
		})
	}
}
