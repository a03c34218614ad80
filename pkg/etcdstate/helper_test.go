package etcdstate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// Waits are for machines that stand still for seconds now and then, as a busy disk makes them.
const (
	// patience bounds every wait; a passing test spends little of it.
	patience = time.Minute
	// unhurried is the command timeout of clients. Where a command is to fail, it is waited for.
	unhurried = 15 * time.Second
	// lasting is the TTL of leases that are to last: only what ends a lease on purpose ends it.
	lasting = 30 * time.Second
	// brief is the TTL of leases that are lost: a third of it goes by before a host looks.
	brief = 9 * time.Second
)

// testLog writes into the test's output.
func testLog(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// host is a store in its Run.
type host struct {
	*etcdstate.Store
	name   string
	cancel context.CancelFunc
	ended  chan error // gets what Run returned

	mu      sync.Mutex
	changes map[string]int
}

// run starts the store and ends it with the test.
func run(t *testing.T, name string, s *etcdstate.Store) *host {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	h := &host{Store: s, name: name, cancel: cancel, ended: make(chan error, 1), changes: map[string]int{}}
	var wg sync.WaitGroup
	wg.Go(func() { h.ended <- s.Run(ctx, h.changed) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return h
}

func (h *host) changed(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes[name]++
}

func (h *host) count(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changes[name]
}

// stop ends Run as a crash would: the lease stays.
func (h *host) stop(t *testing.T) {
	t.Helper()
	h.cancel()
	select {
	case err := <-h.ended:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Run = %v, want canceled", err)
		}
	case <-time.After(patience):
		t.Fatal("Run goes on")
	}
}

func (h *host) awaitReachable(t *testing.T, want bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("host %s reachable = %v", h.name, want), func() bool { return h.Cluster().Reachable == want })
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("no %s after %s", what, patience)
		}
	}
}

// fleet is a member, what looks behind the stores' backs, and an operator.
type fleet struct {
	member *etcdtest.Member
	raw    *clientv3.Client
	client *etcdstate.Client
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	return newFleetWith(t, etcdstate.ServerOptions{})
}

func newFleetWith(t *testing.T, o etcdstate.ServerOptions) *fleet {
	t.Helper()
	m := etcdtest.StartWith(t, o)
	return &fleet{member: m, raw: m.Client(t), client: dial(t, etcdstate.Config{Endpoints: []string{m.Endpoint()}})}
}

// host runs a store of project "p" over its own connection and waits until it is reachable.
func (f *fleet) host(t *testing.T, name string, o etcdstate.StoreOptions) *host {
	t.Helper()
	h := f.hostVia(t, f.member.Endpoint(), name, o)
	h.awaitReachable(t, true)
	return h
}

func (f *fleet) hostVia(t *testing.T, endpoint, name string, o etcdstate.StoreOptions) *host {
	t.Helper()
	o.Project, o.Host = "p", name
	c := dial(t, etcdstate.Config{Endpoints: []string{endpoint}})
	return run(t, name, newStore(t, c, o))
}

func (f *fleet) ready(t *testing.T, name, imageID string) int64 {
	t.Helper()
	return f.readyWith(t, name, imageID, component.RolloutPolicy{})
}

// goesOn is the policy of not waiting for a host that was lost in its turn.
func goesOn() component.RolloutPolicy {
	return component.RolloutPolicy{OnHostLost: component.OnLostContinue}
}

func (f *fleet) readyWith(t *testing.T, name, imageID string, p component.RolloutPolicy) int64 {
	t.Helper()
	g, err := f.client.SetDesired(t.Context(), "p", name, component.Desired{
		Status: component.StatusReady, ImageID: imageID, Spec: &component.Spec{Name: name, Repo: name, Rollout: p},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// get is a key as etcd has it, nil when it has none.
func (f *fleet) get(t *testing.T, key string) []byte {
	t.Helper()
	resp, err := f.raw.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return nil
	}
	return resp.Kvs[0].Value
}

func (f *fleet) put(t *testing.T, key, value string) int64 {
	t.Helper()
	resp, err := f.raw.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// revoke ends the lease of a host behind its back.
func (f *fleet) revoke(t *testing.T, host string) {
	t.Helper()
	resp, err := f.raw.Get(t.Context(), machineKey(host))
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) != 1 {
		t.Fatalf("host %q is not registered", host)
	}
	if _, err := f.raw.Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
}

func machineKey(host string) string { return "/gantryd/projects/p/machines/" + host + "/state" }

func key(component, rest string) string {
	return "/gantryd/projects/p/components/" + component + "/" + rest
}

func status(host string, generation int64) component.HostStatus {
	return component.HostStatus{Host: host, Generation: generation, Step: component.StepServing}
}

// takeTurn takes the only turn for the newest generation.
func (h *host) takeTurn(t *testing.T, name string, generation int64) {
	t.Helper()
	eventually(t, "generation", func() bool { return h.View(name).Desired.Generation == generation })
	if err := h.TakeTurn(t.Context(), name, 1, h.View(name)); err != nil {
		t.Fatalf("TakeTurn of %s = %v", h.name, err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s = %v, want %v", what, err, want)
	}
}

func wantNil(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s = %v", what, err)
	}
}

// quantile is the duration that p percent of ds do not exceed.
func quantile(ds []time.Duration, p int) time.Duration {
	s := slices.Sorted(slices.Values(ds))
	return s[min(len(s)-1, len(s)*p/100)].Round(time.Microsecond)
}
