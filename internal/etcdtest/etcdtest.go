package etcdtest

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// A Member is one etcd member in this process.
type Member struct {
	Options etcdstate.ServerOptions // those of its next start
	server  *etcdstate.Server
	client  *clientv3.Client // for what is asked often; nil before the first time
}

// Start runs a single member until the test ends.
func Start(tb testing.TB) *Member {
	tb.Helper()
	return StartWith(tb, etcdstate.ServerOptions{})
}

// StartWith runs a single member with o until the test ends; directory and addresses are filled in.
func StartWith(tb testing.TB, o etcdstate.ServerOptions) *Member {
	tb.Helper()
	o.DataDir, o.ListenClient = tb.TempDir(), porttest.Addr(tb)
	m := &Member{Options: o}
	m.Start(tb)
	return m
}

// Cluster runs n members of one cluster until the test ends.
func Cluster(tb testing.TB, n int) []*Member {
	tb.Helper()
	members, cluster := make([]*Member, n), make([]string, n)
	for i := range members {
		name, peer := fmt.Sprintf("m%d", i), porttest.Addr(tb)
		cluster[i] = name + "=http://" + peer
		members[i] = &Member{Options: etcdstate.ServerOptions{
			Name: name, DataDir: tb.TempDir(), ListenClient: porttest.Addr(tb), ListenPeer: peer,
		}}
	}
	var g errgroup.Group
	for _, m := range members {
		m.Options.InitialCluster = strings.Join(cluster, ",")
		g.Go(func() error { return m.start(tb) })
	}
	if err := g.Wait(); err != nil {
		tb.Fatal(err)
	}
	return members
}

// Start starts a member that is stopped, on the data and address it had.
func (m *Member) Start(tb testing.TB) {
	tb.Helper()
	if err := m.start(tb); err != nil {
		tb.Fatal(err)
	}
}

func (m *Member) start(tb testing.TB) error {
	m.Options.ReadyTimeout = 30 * time.Second
	if m.Options.Log == nil && os.Getenv("ETCDTEST_LOG") != "" {
		m.Options.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s, err := etcdstate.StartServer(tb.Context(), m.Options)
	if err != nil {
		return err
	}
	m.server = s
	tb.Cleanup(m.Stop)
	return nil
}

// Stop stops the member at once; its data stays.
func (m *Member) Stop() {
	if m.server == nil {
		return
	}
	_ = m.server.Close() // it ends with the test anyway
	m.server = nil
}

// Wipe deletes the data of a member that is stopped.
func (m *Member) Wipe(tb testing.TB) {
	tb.Helper()
	if err := os.RemoveAll(m.Options.DataDir); err != nil {
		tb.Fatal(err)
	}
}

// Endpoint is host:port of the member, also while it is stopped.
func (m *Member) Endpoint() string { return m.Options.ListenClient }

// Endpoints are those of all members.
func Endpoints(members ...*Member) []string {
	var es []string
	for _, m := range members {
		es = append(es, m.Endpoint())
	}
	return es
}

// Client is a client of the member until the test ends.
func (m *Member) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{m.Endpoint()}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// own is a client that all questions share, until the test that asked first ends.
func (m *Member) own(tb testing.TB) *clientv3.Client {
	tb.Helper()
	if m.client == nil {
		m.client = m.Client(tb)
		tb.Cleanup(func() { m.client = nil })
	}
	return m.client
}
