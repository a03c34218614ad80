package etcdstate_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func TestSecondDaemonOfOneNameIsRefused(t *testing.T) {
	f := newFleet(t)
	const ttl = 10 * time.Second // the first one keeps its lease also on a machine that stands still now and then
	first := f.host(t, "h1", etcdstate.StoreOptions{TTL: ttl})
	wantNil(t, "PublishMachine", first.PublishMachine(t.Context(), component.Machine{IP: "10.0.0.7"}))
	start := time.Now()
	second := f.hostVia(t, f.member.Endpoint(), "h1", etcdstate.StoreOptions{TTL: ttl})
	var err error
	select {
	case err = <-second.ended:
	case <-time.After(patience):
		t.Fatal("the second daemon runs")
	}
	wantErr(t, "Run of the second", err, etcdstate.ErrHostTaken)
	for _, word := range []string{`"h1"`, "10.0.0.7", first.View("x").Machines["h1"].Nonce} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not name %q", err, word)
		}
	}
	if waited := time.Since(start); waited < ttl+2*time.Second {
		t.Errorf("refused after %s, a dead daemon's lease could have lasted longer", waited)
	}
	if second.Cluster().Reachable {
		t.Error("the refused daemon counts as reachable")
	}
	wantNil(t, "Publish of the first", first.Publish(t.Context(), "web", status("h1", 1)))
}

func TestRestartWithLeaseFileIsQuick(t *testing.T) {
	f := newFleet(t)
	o := etcdstate.StoreOptions{TTL: time.Minute, LeaseFile: filepath.Join(t.TempDir(), "lease")}
	old := f.host(t, "h1", o)
	old.takeTurn(t, "web", f.ready(t, "web", "sha256:aa"))
	old.stop(t)
	start := time.Now()
	h := f.host(t, "h1", o)
	if took := time.Since(start); took >= o.TTL/2 { // the old lease was renewed less than a third of it ago
		t.Errorf("registered after %s", took)
	}
	eventually(t, "free turn", func() bool { return len(h.View("web").Turn.Holders) == 0 })
	if s := h.View("web").Turn.State; s != component.TurnWaiting {
		t.Errorf("Turn.State = %v, want waiting", s)
	}
}

func TestRestartWithoutLeaseFileWaitsForTheLease(t *testing.T) {
	f := newFleet(t)
	o := etcdstate.StoreOptions{TTL: 2 * time.Second}
	f.host(t, "h1", o).stop(t)
	f.host(t, "h1", o)
}

func TestLeaseFileThatCannotBeReadOrWritten(t *testing.T) {
	f := newFleet(t)
	bad := filepath.Join(t.TempDir(), "lease")
	wantNil(t, "write", os.WriteFile(bad, []byte("not a lease"), 0o600))
	f.host(t, "h1", etcdstate.StoreOptions{LeaseFile: bad})
	f.host(t, "h2", etcdstate.StoreOptions{LeaseFile: filepath.Join(t.TempDir(), "no", "such", "dir")})
}

func TestMachineWrittenByHandIsTakenOver(t *testing.T) {
	f := newFleet(t)
	f.put(t, machineKey("h1"), `{"status":"running","components":[],"ip":"1.2.3.4"}`)
	h := f.host(t, "h1", etcdstate.StoreOptions{})
	if m := h.View("x").Machines["h1"]; m.Nonce == "" {
		t.Errorf("Machines[h1] = %+v, want ours", m)
	}
}

func TestDeregister(t *testing.T) {
	f := newFleet(t)
	file := filepath.Join(t.TempDir(), "lease")
	h := f.host(t, "h1", etcdstate.StoreOptions{LeaseFile: file})
	h.takeTurn(t, "web", f.ready(t, "web", "sha256:aa"))
	wantNil(t, "Publish", h.Publish(t.Context(), "web", status("h1", 1)))
	h.stop(t)
	wantNil(t, "Deregister", h.Deregister(t.Context()))
	for _, k := range []string{machineKey("h1"), key("web", "hosts/h1"), key("web", "turns/0")} {
		if v := f.get(t, k); v != nil {
			t.Errorf("%s = %s, want none", k, v)
		}
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("lease file: %v, want none", err)
	}
	wantNil(t, "second Deregister", h.Deregister(t.Context()))
}

func TestDeregisterWithoutEtcdIsBounded(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{})
	h.stop(t)
	f.member.Stop()
	start := time.Now()
	wantErr(t, "Deregister", h.Deregister(t.Context()), component.ErrUnreachable)
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("Deregister took %s", took)
	}
}

func TestLostLeaseLosesTheTurnAndPublishesAgain(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{TTL: brief})
	g := f.ready(t, "web", "sha256:aa")
	h.takeTurn(t, "web", g)
	wantNil(t, "Publish", h.Publish(t.Context(), "web", status("h1", 1)))
	wantNil(t, "PublishMachine", h.PublishMachine(t.Context(), component.Machine{IP: "10.0.0.7"}))
	before := h.count("")
	f.revoke(t, "h1")
	wantErr(t, "EndTurn", h.EndTurn(t.Context(), "web", status("h1", g), nil), component.ErrTurnLost)
	eventually(t, "machine and status again", func() bool {
		return f.get(t, machineKey("h1")) != nil && strings.Contains(string(f.get(t, key("web", "hosts/h1"))), `"generation":1`)
	})
	h.awaitReachable(t, true)
	v := h.View("web")
	if v.Turn.State != component.TurnWaiting || len(v.Turn.Holders) != 0 {
		t.Errorf("Turn = %+v, want none", v.Turn)
	}
	if ip := v.Machines["h1"].IP; ip != "10.0.0.7" {
		t.Errorf("IP after registering again = %q", ip)
	}
	if h.count("") == before {
		t.Error("the loss was not reported")
	}
	h.takeTurn(t, "web", g)
}

// TestWhatIsSaidAlreadyIsNotWritten publishes values that look different in Go and are the same in JSON.
func TestWhatIsSaidAlreadyIsNotWritten(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{})
	zone := time.FixedZone("elsewhere", 3600)
	st := status("h1", 1)
	st.Containers = []component.ContainerStatus{}
	st.Failure = &component.Failure{Generation: 1, At: time.Now().In(zone)}
	m := component.Machine{StartedAt: time.Now().In(zone), Links: map[string]string{}, Components: []string{}}
	for range 3 {
		st.At = time.Now()
		wantNil(t, "Publish", h.Publish(t.Context(), "web", st))
		wantNil(t, "PublishMachine", h.PublishMachine(t.Context(), m))
	}
	for k, want := range map[string]int64{key("web", "hosts/h1"): 1, machineKey("h1"): 2} {
		resp, err := f.raw.Get(t.Context(), k)
		wantNil(t, "Get", err)
		if v := resp.Kvs[0].Version; v != want {
			t.Errorf("%s was written %d times, want %d", k, v, want)
		}
	}
}

// TestKeysDeletedByHandComeBack deletes what a host published.
func TestKeysDeletedByHandComeBack(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{TTL: brief})
	wantNil(t, "Publish", h.Publish(t.Context(), "web", status("h1", 1)))
	for _, k := range []string{key("web", "hosts/h1"), machineKey("h1")} {
		_, err := f.raw.Delete(t.Context(), k)
		wantNil(t, "Delete", err)
		eventually(t, k, func() bool { return f.get(t, k) != nil })
	}
	eventually(t, "status after the machine", func() bool { return f.get(t, key("web", "hosts/h1")) != nil })
}

func TestStaleHolderIsFenced(t *testing.T) {
	f := newFleet(t)
	a := f.host(t, "a", etcdstate.StoreOptions{TTL: 2 * time.Minute}) // does not renew during the test
	b := f.host(t, "b", etcdstate.StoreOptions{})
	g := f.readyWith(t, "web", "sha256:aa", goesOn())
	a.takeTurn(t, "web", g)
	a.cancel() // a hung daemon: its view says Mine for ever
	<-a.ended
	f.revoke(t, "a")
	eventually(t, "free turn", func() bool { return len(b.View("web").Turn.Holders) == 0 })
	b.takeTurn(t, "web", g)
	if s := a.View("web").Turn.State; s != component.TurnMine {
		t.Fatalf("Turn.State of the hung daemon = %v, want its rumour", s)
	}
	wantErr(t, "Publish", a.Publish(t.Context(), "web", status("a", g)), component.ErrTurnLost)
	if v := f.get(t, key("web", "hosts/a")); v != nil {
		t.Errorf("a stale holder published %s", v)
	}
	halt := &component.Rollout{Generation: g, Status: component.RolloutHalted}
	wantErr(t, "EndTurn", a.EndTurn(t.Context(), "web", status("a", g), halt), component.ErrTurnLost)
	if s := b.View("web"); s.Turn.State != component.TurnMine || s.Rollout.Status != component.RolloutProgressing {
		t.Errorf("view of the holder = %+v", s)
	}
	wantNil(t, "EndTurn of the holder", b.EndTurn(t.Context(), "web", status("b", g), nil))
}

// TestTurnsExcludeEachOther lets three hosts take and end turns while their leases are revoked at
// random, and then reads etcd's history: a result is published in the very revision that gives the
// publisher's turn up, and no turn is taken while another is there.
func TestTurnsExcludeEachOther(t *testing.T) {
	f := newFleet(t)
	g := f.readyWith(t, "web", "sha256:aa", goesOn())
	hosts := []*host{}
	for _, name := range []string{"a", "b", "c"} {
		hosts = append(hosts, f.host(t, name, etcdstate.StoreOptions{TTL: 2 * time.Second}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	const enough, each = 75, 5 // turns, and after how many of them a lease ends
	var taken atomic.Int32
	var wg sync.WaitGroup
	for _, h := range hosts {
		eventually(t, "generation", func() bool { return h.View("web").Desired.Generation == g })
		wg.Go(func() {
			for n := int64(1); ctx.Err() == nil; n++ {
				if h.TakeTurn(ctx, "web", 1, h.View("web")) != nil {
					pauseTest(ctx, time.Millisecond)
					continue
				}
				if taken.Add(1) >= enough {
					cancel()
				}
				pauseTest(ctx, time.Duration(rand.IntN(5))*time.Millisecond)
				st := status(h.name, n)
				st.Step = "ended" // told from what is published again after a lost lease
				_ = h.EndTurn(ctx, "web", st, &component.Rollout{Generation: g, Status: component.RolloutProgressing})
			}
		})
	}
	wg.Go(func() {
		for lost := int32(0); pauseTest(ctx, 5*time.Millisecond); {
			if taken.Load()/each <= lost { // a slow machine would lose leases faster than it takes turns
				continue
			}
			resp, err := f.raw.Get(ctx, machineKey(hosts[rand.IntN(len(hosts))].name))
			if err == nil && len(resp.Kvs) == 1 {
				if _, err := f.raw.Revoke(ctx, clientv3.LeaseID(resp.Kvs[0].Lease)); err == nil {
					lost++
				}
			}
		}
	})
	wg.Wait()
	checkTurnHistory(t, f)
}

// pauseTest waits and says whether ctx goes on.
func pauseTest(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func checkTurnHistory(t *testing.T, f *fleet) {
	t.Helper()
	now, err := f.raw.Get(t.Context(), "x")
	wantNil(t, "Get", err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const end = "/gantryd/projects/p/components/web/zzz"
	if f.put(t, end, "") <= now.Header.Revision {
		t.Fatal("no end of the history")
	}
	holder, turns := "", 0
	for resp := range f.raw.Watch(ctx, key("web", ""), clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithPrevKV()) {
		wantNil(t, "history", resp.Err())
		for _, e := range resp.Events {
			switch k := string(e.Kv.Key); {
			case k == key("web", "turns/0") && e.Type == clientv3.EventTypePut:
				if holder != "" {
					t.Fatalf("turn taken at %d while %s had it", e.Kv.ModRevision, holder)
				}
				holder, turns = string(e.Kv.Value), turns+1
			case k == key("web", "turns/0"):
				holder = ""
			case strings.HasPrefix(k, key("web", "turns/")) && !strings.HasPrefix(k, key("web", "turns/changing/")):
				t.Fatalf("key %s of a slot that is not offered", k)
			case k == end:
				if turns < 10 {
					t.Fatalf("only %d turns were taken", turns)
				}
				t.Logf("%d turns, %d revisions", turns, e.Kv.ModRevision)
				return
			}
		}
	}
	t.Fatal("history without its end")
}
