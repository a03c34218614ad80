package etcdstate_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/faulttest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// TestLostReplies lets requests through and loses their answers: what was committed is recognised
// and never done twice.
func TestLostReplies(t *testing.T) {
	f := newFleet(t)
	p := faulttest.Start(t, f.member.Endpoint())
	h := f.hostVia(t, p.Addr(), "h1", etcdstate.StoreOptions{TTL: 30 * time.Second})
	h.awaitReachable(t, true)
	client := dial(t, etcdstate.Config{Endpoints: []string{p.Addr()}})
	g := f.ready(t, "web", "sha256:aa")
	eventually(t, "generation", func() bool { return h.View("web").Desired.Generation == g })

	steps := []struct {
		name    string
		key     string
		marker  string // in the request whose answer gets lost, so that reads before it are answered
		do      func() error
		version int64 // of the key afterwards: how often it was written
	}{
		{"TakeTurn", key("web", "turns/0"), "turns/0", func() error { return h.TakeTurn(t.Context(), "web", 1, h.View("web")) }, 1},
		{"Publish", key("web", "hosts/h1"), "hosts/h1", func() error { return h.Publish(t.Context(), "web", status("h1", 1)) }, 1},
		{"PutRollout", key("web", "rollout"), "web/rollout", func() error {
			return h.PutRollout(t.Context(), "web", component.Rollout{Generation: g, Status: component.RolloutProgressing, Reason: "x"}, h.View("web"))
		}, 2},
		{"EndTurn", key("web", "hosts/h1"), "hosts/h1", func() error {
			return h.EndTurn(t.Context(), "web", status("h1", g), &component.Rollout{Generation: g, Status: component.RolloutDone})
		}, 2},
		{"PublishMachine", machineKey("h1"), "10.9.8.7", func() error {
			return h.PublishMachine(t.Context(), component.Machine{IP: "10.9.8.7"})
		}, 2},
		{"SetDesired", key("web", "state"), "maintenance", func() error {
			_, err := client.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusStopped, Reason: "maintenance"})
			return err
		}, 2},
		{"PutConfig", "/gantryd/projects/p/config", "postgres", func() error {
			return client.PutConfig(t.Context(), "p", []byte(`{"components":[{"name":"db","repo":"postgres"}]}`))
		}, 1},
		{"Adopt", "/gantryd/projects/p/adopted", "adopter", func() error { return client.Adopt(t.Context(), "p", "adopter") }, 1},
	}
	for _, tt := range steps {
		_, err := client.Project(t.Context(), "p") // both connections are up
		wantNil(t, "Project", err)
		at := modRevision(t, f.raw, tt.key)
		p.SetAfter(tt.marker, faulttest.Faults{Down: faulttest.Way{Lose: true}})
		result := make(chan error, 1)
		go func() { result <- tt.do() }()
		eventually(t, tt.name+" committed", func() bool { return modRevision(t, f.raw, tt.key) != at })
		select {
		case err := <-result:
			t.Fatalf("%s = %v, its answer should be lost", tt.name, err)
		case <-time.After(50 * time.Millisecond):
		}
		p.Set(faulttest.Faults{})
		wantNil(t, tt.name, <-result)
		resp, err := f.raw.Get(t.Context(), tt.key)
		wantNil(t, "Get", err)
		if v := resp.Kvs[0].Version; v != tt.version {
			t.Errorf("%s: key was written %d times, want %d", tt.name, v, tt.version)
		}
	}
	if v := f.get(t, key("web", "turns/0")); v != nil {
		t.Errorf("turn = %s after its end", v)
	}
	if s := h.View("web").Rollout.Status; s != component.RolloutDone {
		t.Errorf("Rollout.Status = %q", s)
	}
}

func modRevision(t *testing.T, c *clientv3.Client, key string) int64 {
	t.Helper()
	resp, err := c.Get(t.Context(), key)
	wantNil(t, "Get", err)
	if len(resp.Kvs) == 0 {
		return 0
	}
	return resp.Kvs[0].ModRevision
}

// TestUnknownEndOfATurnIsRepeatable loses the answer for longer than the command timeout.
func TestUnknownEndOfATurnIsRepeatable(t *testing.T) {
	f := newFleet(t)
	p := faulttest.Start(t, f.member.Endpoint())
	h := f.hostVia(t, p.Addr(), "h1", etcdstate.StoreOptions{TTL: 30 * time.Second})
	h.awaitReachable(t, true)
	g := f.ready(t, "web", "sha256:aa")
	h.takeTurn(t, "web", g)
	p.Set(faulttest.Faults{Down: faulttest.Way{Lose: true}})
	done := &component.Rollout{Generation: g, Status: component.RolloutDone}
	wantErr(t, "EndTurn", h.EndTurn(t.Context(), "web", status("h1", g), done), component.ErrUnreachable)
	if v := f.get(t, key("web", "turns/0")); v != nil {
		t.Fatalf("turn = %s, the request did not arrive", v)
	}
	p.Set(faulttest.Faults{})
	wantNil(t, "EndTurn again", h.EndTurn(t.Context(), "web", status("h1", g), done))
	wantErr(t, "EndTurn once more", h.EndTurn(t.Context(), "web", status("h1", g), done), component.ErrTurnLost)
	if v := h.View("web"); v.Turn.State == component.TurnMine || v.Hosts["h1"].Generation != g {
		t.Errorf("view = %+v", v)
	}
}

func TestUnreachableAtStart(t *testing.T) {
	f := newFleet(t)
	g := f.ready(t, "web", "sha256:aa")
	p := faulttest.Start(t, f.member.Endpoint())
	p.Set(faulttest.Faults{Deny: true})
	start := time.Now()
	h := f.hostVia(t, p.Addr(), "h1", etcdstate.StoreOptions{})
	err := h.Publish(t.Context(), "web", status("h1", 1))
	wantErr(t, "Publish", err, component.ErrUnreachable)
	eventually(t, "3 s", func() bool { return time.Since(start) > 3*time.Second })
	if n, most := p.Dials(), 2+int(time.Since(start)/time.Second); n > most {
		t.Errorf("%d dials in %s, want at most %d", n, time.Since(start), most)
	}
	c := h.Cluster()
	if c.Reachable || c.ID != "" || len(h.Names()) != 0 {
		t.Errorf("Cluster = %+v, Names = %v", c, h.Names())
	}
	if s := h.View("web").Turn.State; s != component.TurnUnreachable {
		t.Errorf("Turn.State = %v, want unreachable", s)
	}
	p.Set(faulttest.Faults{})
	h.awaitReachable(t, true)
	eventually(t, "state and what was published meanwhile", func() bool {
		v := h.View("web")
		return v.Desired.Generation == g && v.Hosts["h1"].Generation == 1
	})
}

// TestSilentEtcd drops every packet: a turn is trusted until its lease may have ended, not longer.
func TestSilentEtcd(t *testing.T) {
	f := newFleet(t)
	p := faulttest.Start(t, f.member.Endpoint())
	const ttl = 15 * time.Second // a third until it looks and a fifth until it gives up leave seconds to spare
	h := f.hostVia(t, p.Addr(), "h1", etcdstate.StoreOptions{TTL: ttl})
	h.awaitReachable(t, true)
	g := f.ready(t, "web", "sha256:aa")
	h.takeTurn(t, "web", g)
	p.Set(faulttest.Faults{Up: faulttest.Way{Lose: true}, Down: faulttest.Way{Lose: true}})
	start := time.Now()
	h.awaitReachable(t, false)
	noticed := time.Since(start)
	if noticed > ttl {
		t.Errorf("noticed after %s", noticed)
	}
	if s := h.View("web").Turn.State; s != component.TurnMine {
		t.Errorf("Turn.State while the lease lasts = %v, want mine", s)
	}
	if d := h.View("web").Desired; d.Generation != g {
		t.Errorf("Desired = %+v, want the last seen", d)
	}
	var trusted time.Duration // at least; how late this test looks is not the store's doing
	eventually(t, "end of trust", func() bool {
		asked := time.Since(start)
		s := h.View("web").Turn.State
		if s == component.TurnMine {
			trusted = asked
		}
		return s == component.TurnUnreachable
	})
	if trusted > ttl {
		t.Errorf("trusted for %s, the lease lasts %s", trusted, ttl)
	}
	eventually(t, "lease ended in etcd", func() bool { return f.get(t, machineKey("h1")) == nil })
	p.Set(faulttest.Faults{})
	h.awaitReachable(t, true)
	eventually(t, "no turn", func() bool { return h.View("web").Turn.State == component.TurnWaiting })
	h.takeTurn(t, "web", g)
}

func TestCompactionWhileTheWatchIsSilent(t *testing.T) {
	f := newFleet(t)
	p := faulttest.Start(t, f.member.Endpoint())
	h := f.hostVia(t, p.Addr(), "h1", etcdstate.StoreOptions{TTL: 30 * time.Second})
	h.awaitReachable(t, true)
	f.ready(t, "gone", "sha256:aa")
	first := f.ready(t, "web", "sha256:aa")
	eventually(t, "generation", func() bool { return h.View("web").Desired.Generation == first })
	p.Set(faulttest.Faults{Up: faulttest.Way{Lose: true}, Down: faulttest.Way{Lose: true}})
	var last int64
	for i := range 20 {
		last = f.ready(t, "web", fmt.Sprintf("sha256:%02d", i))
	}
	_, err := f.raw.Delete(t.Context(), key("gone", "state"))
	wantNil(t, "Delete", err)
	_, err = f.raw.Compact(t.Context(), last+1)
	wantNil(t, "Compact", err)
	p.Set(faulttest.Faults{})
	eventually(t, "newest generation", func() bool {
		return h.View("web").Desired.Generation == last && len(h.Names()) == 1
	})
}

// TestServerRestart stops etcd for a while: the lease survives, and so does the turn.
func TestServerRestart(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{TTL: 15 * time.Second})
	g := f.ready(t, "web", "sha256:aa")
	h.takeTurn(t, "web", g)
	id := h.Cluster().ID
	f.member.Stop()
	h.awaitReachable(t, false)
	wantErr(t, "Publish", h.Publish(t.Context(), "web", status("h1", 7)), component.ErrUnreachable)
	f.member.Start(t)
	start := time.Now()
	h.awaitReachable(t, true)
	t.Logf("reachable %s after etcd was back", time.Since(start).Round(time.Millisecond))
	eventually(t, "turn", func() bool { return h.View("web").Turn.State == component.TurnMine })
	if got := h.Cluster().ID; got != id {
		t.Errorf("ID after a restart = %q, before %q", got, id)
	}
	next := f.ready(t, "web", "sha256:bb")
	eventually(t, "next generation", func() bool { return h.View("web").Desired.Generation == next })
	wantNil(t, "EndTurn", h.EndTurn(t.Context(), "web", status("h1", g), nil))
}

// TestDataLost starts etcd empty, at the same address: the same cluster to etcd, other data to us.
func TestDataLost(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{TTL: brief})
	for range 50 {
		f.ready(t, "web", "sha256:aa")
	}
	g := f.ready(t, "web", "sha256:aa")
	wantNil(t, "Publish", h.Publish(t.Context(), "web", status("h1", 7)))
	eventually(t, "generation", func() bool { return h.View("web").Desired.Generation == g })
	before := h.Cluster()
	f.member.Stop()
	h.awaitReachable(t, false)
	f.member.Wipe(t)
	f.member.Start(t)
	h.awaitReachable(t, true)
	eventually(t, "status published again", func() bool { return f.get(t, key("web", "hosts/h1")) != nil })
	after := h.Cluster()
	if after.ID == before.ID {
		t.Errorf("ID = %q, as before the data was lost", after.ID)
	}
	if after.Revision >= before.Revision || h.View("web").Desired.Generation != 0 {
		t.Errorf("Cluster = %+v before, %+v after; Desired = %+v", before, after, h.View("web").Desired)
	}
	wantNil(t, "Adopt", f.client.Adopt(t.Context(), "p", "tester"))
	eventually(t, "adoption", func() bool { return h.Cluster().Adoption.Cluster == after.ID })
}

// TestProjectDeleted deletes all keys of the project at once.
func TestProjectDeleted(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{TTL: brief})
	g := f.ready(t, "web", "sha256:aa")
	eventually(t, "generation", func() bool { return h.View("web").Desired.Generation == g })
	before := h.Cluster().ID
	_, err := f.raw.Delete(t.Context(), "/gantryd/projects/p/", clientv3.WithPrefix())
	wantNil(t, "Delete", err)
	eventually(t, "empty project", func() bool {
		if h.View("web").Desired.Generation != 0 {
			return false
		}
		if h.Cluster().ID == before {
			t.Fatal("the state went while the data had its old ID")
		}
		return true
	})
	h.awaitReachable(t, true)
}

// TestOlderData brings back the data of an earlier time.
func TestOlderData(t *testing.T) {
	f := newFleet(t)
	first := f.ready(t, "web", "sha256:aa")
	h := f.host(t, "h1", etcdstate.StoreOptions{TTL: brief})
	f.member.Stop()
	backup := t.TempDir()
	wantNil(t, "copy", os.CopyFS(backup, os.DirFS(f.member.Options.DataDir)))
	f.member.Start(t)
	h.awaitReachable(t, true)
	for range 50 {
		f.ready(t, "web", "sha256:bb")
	}
	last := f.ready(t, "web", "sha256:cc")
	eventually(t, "newest generation", func() bool { return h.View("web").Desired.Generation == last })
	before := h.Cluster()
	f.member.Stop()
	h.awaitReachable(t, false)
	f.member.Wipe(t)
	wantNil(t, "restore", os.CopyFS(f.member.Options.DataDir, os.DirFS(backup)))
	f.member.Start(t)
	eventually(t, "older generation", func() bool { return h.View("web").Desired.Generation == first })
	if after := h.Cluster(); after.Revision >= before.Revision {
		t.Errorf("Revision = %d, was %d with newer data", after.Revision, before.Revision)
	}
	h.awaitReachable(t, true)
	h.takeTurn(t, "web", first)
}

func TestClusterLosesMembers(t *testing.T) {
	members := etcdtest.Cluster(t, 3)
	cfg := etcdstate.Config{Endpoints: etcdtest.Endpoints(members...)}
	client := dial(t, cfg)
	// Longer than a busy machine takes for several elections.
	h := run(t, "h1", newStore(t, dial(t, cfg), etcdstate.StoreOptions{Project: "p", Host: "h1", TTL: time.Minute}))
	h.awaitReachable(t, true)
	set := func(image string) int64 {
		t.Helper()
		g, err := client.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusReady, ImageID: image})
		wantNil(t, "SetDesired", err)
		return g
	}
	g := set("sha256:aa")
	h.takeTurn(t, "web", g)
	leader := etcdtest.Leader(t, cfg.Endpoints)
	members[leader].Stop()
	start := time.Now()
	g2 := set("sha256:bb")
	t.Logf("first write %s after the leader stopped", time.Since(start).Round(time.Millisecond))
	eventually(t, "generation after the leader stopped", func() bool { return h.View("web").Desired.Generation == g2 })
	t.Logf("seen after %s", time.Since(start).Round(time.Millisecond))
	if s := h.View("web").Turn.State; s != component.TurnMine {
		t.Errorf("Turn.State = %v, want mine", s)
	}
	wantNil(t, "Publish", h.Publish(t.Context(), "web", status("h1", 1)))

	next := (leader + 1) % 3
	members[next].Stop() // no majority any more
	_, err := client.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusStopped})
	wantErr(t, "SetDesired without a majority", err, component.ErrUnreachable)
	h.awaitReachable(t, false)
	members[next].Start(t)
	members[leader].Start(t)
	h.awaitReachable(t, true)
	g3 := set("sha256:cc")
	eventually(t, "generation after all came back", func() bool { return h.View("web").Desired.Generation == g3 })
	eventually(t, "turn", func() bool { return h.View("web").Turn.State == component.TurnMine })
}

// TestLeaderDies kills and freezes the leader of three processes while a host has a turn.
func TestLeaderDies(t *testing.T) {
	ps := etcdtest.Processes(t, 3)
	var cfg etcdstate.Config
	for _, p := range ps {
		cfg.Endpoints = append(cfg.Endpoints, p.Endpoint())
	}
	client := dial(t, cfg)
	o := etcdstate.StoreOptions{Project: "p", Host: "h1", TTL: time.Minute, Log: testLog(t)} // for several elections
	h := run(t, "h1", newStore(t, dial(t, cfg), o))
	h.awaitReachable(t, true)
	set := func(image string) int64 {
		t.Helper()
		g, err := client.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusReady, ImageID: image})
		wantNil(t, "SetDesired", err)
		return g
	}
	h.takeTurn(t, "web", set("sha256:aa"))
	for _, fault := range []struct {
		name       string
		hurt, heal func(*etcdtest.Process)
	}{
		{"killed", (*etcdtest.Process).Kill, func(p *etcdtest.Process) { p.Start(t) }},
		{"frozen", func(p *etcdtest.Process) { p.Freeze(t) }, func(p *etcdtest.Process) { p.Thaw(t) }},
	} {
		leader := ps[etcdtest.Leader(t, cfg.Endpoints)]
		fault.hurt(leader)
		start := time.Now()
		g := set("sha256:bb")
		wrote := time.Since(start)
		eventually(t, "generation", func() bool { return h.View("web").Desired.Generation == g })
		t.Logf("leader %s: written after %s, seen after %s", fault.name, wrote.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
		h.awaitReachable(t, true)
		wantNil(t, "Publish", h.Publish(t.Context(), "web", status("h1", g)))
		if s := h.View("web").Turn.State; s != component.TurnMine {
			t.Errorf("Turn.State = %v, want mine", s)
		}
		fault.heal(leader)
		leader.Status(t)
	}
}

// TestMemoryOfAMember measures what an embedded member costs.
func TestMemoryOfAMember(t *testing.T) {
	p := etcdtest.Processes(t, 1)[0]
	c := dial(t, etcdstate.Config{Endpoints: []string{p.Endpoint()}})
	var wg sync.WaitGroup
	for i := range 5 { // at once, so that a slow disk syncs several of them together
		wg.Go(func() {
			for n := range 600 { // of all, more than a snapshot's worth
				name := fmt.Sprintf("c%d-%d", i, n%10)
				if _, err := c.SetDesired(t.Context(), "p", name, component.Desired{Status: component.StatusReady}); err != nil {
					t.Errorf("SetDesired = %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("resident after 3000 writes: %.1f MB, of a test binary", float64(p.RSS(t))/1e6)
}
