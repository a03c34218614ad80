package app_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/app"
	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/localstate"
	"github.com/gantryd/gantryd/pkg/proxy"
)

// wholeHeir in the environment makes a new process of these tests a real daemon; its value is that one's data
// directory, and the address of etcd.
const wholeHeir = "APP_TEST_DAEMON"

// heirTTL is the life of its lease.
const heirTTL = 12 * time.Second

// newDaemon is a real daemon that takes over.
func newDaemon(text string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	dir, endpoint, _ := strings.Cut(text, " ")
	past, err := handover.Inherit(ctx, os.Getenv, "v2")
	if err != nil {
		return 2
	}
	d, err := app.New(ctx, app.Options{
		Project: "app-test", Host: "h1", Bind: "127.0.0.1", DataDir: dir, Log: slog.New(slog.DiscardHandler), Getenv: os.Getenv, Past: past,
	}, app.Fleet{Etcd: etcdstate.Config{Endpoints: []string{endpoint}}, LeaseTTL: heirTTL})
	if err != nil {
		return 3
	}
	if d.Run(ctx) != nil {
		return 4
	}
	return 0
}

// TestLeaseLivesWhileConnectionsMove has connections move for longer than the lease of the host lives: the new process
// renews it as soon as it is the owner, or the host would lose its turns and what it published.
func TestLeaseLivesWhileConnectionsMove(t *testing.T) {
	dockertest.Engine(t)
	m := etcdtest.Start(t)
	dir := t.TempDir()
	lock, err := localstate.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Leave() })
	heir, err := handover.Start(t.Context(), os.Args[:1], append(os.Environ(), wholeHeir+"="+dir+" "+m.Endpoint()), "v1", handover.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = heir.End(context.WithoutCancel(t.Context())) })
	lease, err := m.Client(t).Grant(t.Context(), int64(heirTTL/time.Second)) // the old process renews it no more
	if err != nil {
		t.Fatal(err)
	}
	estate, err := json.Marshal(map[string]any{"tenancy": etcdstate.Tenancy{Lease: int64(lease.ID), Nonce: "n", Machine: component.Machine{Status: "running"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := heir.Give(t.Context(), estate, lock.File()); err != nil {
		t.Fatal(err)
	}
	none := func(c *net.UnixConn) error { return (&proxy.State{}).Send(t.Context(), c) }
	if err := heir.Pass(t.Context(), none); err != nil {
		t.Fatal(err)
	}
	if err := heir.Go(nil); err != nil {
		t.Fatal(err)
	}
	if err := heir.Serving(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It waits for connections from here on.
	left := int64(heirTTL / time.Second)
	awaitThat(t, "the lease lives longer than it would by itself", func() bool {
		before := left
		resp, err := m.Client(t).TimeToLive(t.Context(), lease.ID)
		if err != nil || resp.TTL < 0 {
			t.Fatalf("the lease has ended: %+v, %v", resp, err)
		}
		left = resp.TTL
		return left > before
	})
	if err := heir.Move(none); err != nil {
		t.Errorf("the new process does not wait for connections any more: %v", err)
	}
	heir.Confirm()
	awaitThat(t, "the host is registered", func() bool {
		return len(m.All(t, "/gantryd/projects/app-test/machines/h1/state")) == 1
	})
	if err := heir.Terminate(t.Context()); err != nil {
		t.Error(err)
	}
}
