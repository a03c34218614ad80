package etcdstate_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func TestServerThatCannotStart(t *testing.T) {
	running := etcdtest.Start(t)
	file := filepath.Join(t.TempDir(), "file")
	wantNil(t, "WriteFile", os.WriteFile(file, nil, 0o600))
	peer := porttest.Addr(t)
	tests := []struct {
		name string
		o    etcdstate.ServerOptions
		want string
	}{
		{"no directory", etcdstate.ServerOptions{}, "no data directory"},
		{"a file for a directory", etcdstate.ServerOptions{DataDir: file, ListenClient: "127.0.0.1:0"}, file},
		{"address in use", etcdstate.ServerOptions{DataDir: t.TempDir(), ListenClient: running.Endpoint()}, "address already in use"},
		{"not an address", etcdstate.ServerOptions{DataDir: t.TempDir(), ListenClient: "here"}, "listen address for clients"},
		{"one of several without an address for the others", etcdstate.ServerOptions{
			DataDir: t.TempDir(), ListenClient: "127.0.0.1:0", Name: "a", InitialCluster: "a=http://127.0.0.1:1,b=http://127.0.0.1:2",
		}, "listen-peer"},
		{"one of several at no address", etcdstate.ServerOptions{
			DataDir: t.TempDir(), ListenClient: "0.0.0.0:0", ListenPeer: "0.0.0.0:0", Name: "a", InitialCluster: "a=http://127.0.0.1:1,b=http://127.0.0.1:2",
		}, "others cannot reach"},
		{"missing certificate", etcdstate.ServerOptions{
			DataDir: t.TempDir(), ListenClient: "127.0.0.1:0", ClientTLS: etcdstate.ServerTLS{Cert: file + "x", Key: file + "x"},
		}, "no such file"},
		{"alone of two", etcdstate.ServerOptions{
			DataDir: t.TempDir(), ListenClient: "127.0.0.1:0", ListenPeer: peer, Name: "a", ReadyTimeout: time.Second,
			InitialCluster: "a=http://" + peer + ",b=http://127.0.0.1:1",
		}, "no leader yet"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := etcdstate.StartServer(t.Context(), tt.o)
			if err == nil {
				wantNil(t, "Close", s.Close())
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
		})
	}
}

func TestServerStartIsCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	peer := porttest.Addr(t)
	_, err := etcdstate.StartServer(ctx, etcdstate.ServerOptions{
		DataDir: t.TempDir(), ListenClient: "127.0.0.1:0", ListenPeer: peer, Name: "a",
		InitialCluster: "a=http://" + peer + ",b=http://127.0.0.1:1",
	})
	wantErr(t, "StartServer", err, context.DeadlineExceeded)
}

func TestServerClosesQuickly(t *testing.T) {
	f := newFleet(t)
	f.host(t, "h1", etcdstate.StoreOptions{}) // has a watch open
	start := time.Now()
	f.member.Stop()
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("closed after %s", took)
	}
	f.member.Start(t)
}

func TestServerIsQuietWhenAllIsWell(t *testing.T) {
	var out lockedBuffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	dir := filepath.Join(t.TempDir(), "data") // made by etcd, with the permissions it likes
	s, err := etcdstate.StartServer(t.Context(), etcdstate.ServerOptions{DataDir: dir, ListenClient: "127.0.0.1:0", Log: log})
	wantNil(t, "StartServer", err)
	if !strings.HasPrefix(s.ClientURL(), "http://127.0.0.1:") {
		t.Errorf("ClientURL = %q", s.ClientURL())
	}
	select {
	case <-s.Failed():
		t.Error("it failed")
	default:
	}
	wantNil(t, "Close", s.Close())
	wantNil(t, "second Close", s.Close())
	for line := range strings.Lines(out.String()) {
		if !strings.Contains(line, "took too long") && !strings.Contains(line, "slow") { // that is the machine
			t.Errorf("a good start and end are logged: %s", line)
		}
	}
}

// lockedBuffer is a buffer that several may write to.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}
