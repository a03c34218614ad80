package etcdstate_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/internal/faulttest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// crowd registers five machines that come before all others by name.
func crowd(t *testing.T, f *fleet) {
	t.Helper()
	for i := range 5 {
		f.put(t, machineKey(fmt.Sprintf("0%d", i)), `{"status":"running","components":["web"]}`)
	}
}

func TestHostBeyondTheJudgesSeesWhatSteersIt(t *testing.T) {
	f := newFleet(t)
	crowd(t, f)
	g := f.ready(t, "web", "sha256:aa")
	a, b := f.host(t, "a", etcdstate.StoreOptions{}), f.host(t, "b", etcdstate.StoreOptions{})
	judge := f.host(t, "00a", etcdstate.StoreOptions{})
	a.takeTurn(t, "web", g)
	eventually(t, "turn of the other host", func() bool { return len(b.View("web").Turn.Holders) == 1 })
	wantErr(t, "TakeTurn", b.TakeTurn(t.Context(), "web", 1, b.View("web")), component.ErrTurnTaken)
	wantNil(t, "EndTurn", a.EndTurn(t.Context(), "web", status("a", g), nil))
	eventually(t, "free turn", func() bool { return len(b.View("web").Turn.Holders) == 0 })
	eventually(t, "a's words at the judge", func() bool { return judge.View("web").Hosts["a"].Generation == g })
	if v := judge.View("web"); v.Partial {
		t.Error("a judge sees a part only")
	}
	if v := b.View("web"); !v.Partial || len(v.Hosts) != 0 {
		t.Errorf("host b: partial = %v, hosts = %v; want only its own words", v.Partial, v.Hosts)
	}
	wantNil(t, "Publish", b.Publish(t.Context(), "web", status("b", g)))
	if v := b.View("web"); len(v.Hosts) != 1 || v.Hosts["b"].Generation != g {
		t.Errorf("hosts = %v, want b's own words", v.Hosts)
	}
	// A state by hand, of a component that no config knows.
	f.put(t, key("extra", "state"), `{"status":"stopped"}`)
	eventually(t, "a new component", func() bool { return b.View("extra").Desired.Status == component.StatusStopped })
	f.ready(t, "extra", "sha256:bb")
	eventually(t, "its next state", func() bool { return b.View("extra").Desired.ImageID == "sha256:bb" })
}

func TestHostBecomesAJudgeWhenOthersLeave(t *testing.T) {
	f := newFleet(t)
	crowd(t, f)
	g := f.ready(t, "web", "sha256:aa")
	a := f.host(t, "a", etcdstate.StoreOptions{})
	b := f.host(t, "b", etcdstate.StoreOptions{})
	wantNil(t, "Publish", b.Publish(t.Context(), "web", status("b", g)))
	if !a.View("web").Partial {
		t.Fatal("the sixth host is a judge")
	}
	if _, err := f.raw.Delete(t.Context(), machineKey("00")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a whole view", func() bool { v := a.View("web"); return !v.Partial && v.Hosts["b"].Generation == g })
	f.put(t, machineKey("00"), `{"status":"running"}`)
	eventually(t, "a view in part", func() bool { v := a.View("web"); return v.Partial && len(v.Hosts) == 0 })
}

// A host that alone runs a component is its judge, however many come before it.
func TestEachComponentHasJudges(t *testing.T) {
	f := newFleet(t)
	crowd(t, f)
	f.ready(t, "web", "sha256:aa")
	g := f.ready(t, "db", "sha256:bb")
	a, b, c := f.host(t, "a", etcdstate.StoreOptions{}), f.host(t, "b", etcdstate.StoreOptions{}), f.host(t, "c", etcdstate.StoreOptions{})
	wantNil(t, "PublishMachine", a.PublishMachine(t.Context(), component.Machine{Components: []string{"web"}}))
	wantNil(t, "PublishMachine", b.PublishMachine(t.Context(), component.Machine{Components: []string{"db"}}))
	wantNil(t, "PublishMachine", c.PublishMachine(t.Context(), component.Machine{Components: []string{"db"}}))
	wantNil(t, "Publish", c.Publish(t.Context(), "db", status("c", g)))
	eventually(t, "words of another host that runs it", func() bool { v := b.View("db"); return !v.Partial && v.Hosts["c"].Generation == g })
	eventually(t, "a view in part", func() bool { return a.View("web").Partial })
}

// Hosts beyond the judges do not follow all keys as of one revision; the turn is exclusive all the same.
func TestHostsBeyondTheJudgesNeverBothHaveTheTurn(t *testing.T) {
	f := newFleet(t)
	crowd(t, f)
	g := f.ready(t, "web", "sha256:aa")
	var hosts []*host
	for _, name := range []string{"a", "b", "c"} {
		hosts = append(hosts, f.host(t, name, etcdstate.StoreOptions{}))
	}
	const rounds = 20
	var mu sync.Mutex
	holder, turns := "", 0
	race := func(h *host) {
		for {
			mu.Lock()
			over := turns >= rounds
			mu.Unlock()
			if over {
				return
			}
			err := h.TakeTurn(t.Context(), "web", 1, h.View("web"))
			if errors.Is(err, component.ErrTurnTaken) || errors.Is(err, component.ErrChanged) {
				<-time.After(time.Millisecond) // the others are to get on, too
				continue
			}
			if err != nil {
				t.Errorf("TakeTurn = %v", err)
				return
			}
			mu.Lock()
			if holder != "" {
				t.Errorf("%s and %s have the turn", holder, h.name)
			}
			holder, turns = h.name, turns+1
			mu.Unlock()
			if err := h.Publish(t.Context(), "web", status(h.name, g)); err != nil {
				t.Errorf("Publish in the turn = %v", err)
			}
			mu.Lock()
			holder = ""
			mu.Unlock()
			if err := h.EndTurn(t.Context(), "web", status(h.name, g), nil); err != nil {
				t.Errorf("EndTurn = %v", err)
				return
			}
		}
	}
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() { race(h) })
	}
	wg.Wait()
}

// A daemon that comes back to an etcd that is slow has much to say, and keeps its lease meanwhile.
func TestMuchToPublishDoesNotCostTheLease(t *testing.T) {
	const components = 40
	f := newFleet(t)
	p := faulttest.Start(t, f.member.Endpoint())
	p.Set(faulttest.Faults{Down: faulttest.Way{Delay: 250 * time.Millisecond}})
	h := newStore(t, dial(t, etcdstate.Config{Endpoints: []string{p.Addr()}}), etcdstate.StoreOptions{Project: "p", Host: "h1", TTL: 8 * time.Second})
	for i := range components { // what is said before there is a lease is said when there is one
		err := h.Publish(t.Context(), fmt.Sprintf("c%d", i), status("h1", 1))
		wantErr(t, "Publish", err, component.ErrUnreachable)
	}
	run(t, "h1", h)
	eventually(t, "registration", func() bool { return f.get(t, machineKey("h1")) != nil })
	registered := modRevision(t, f.raw, machineKey("h1"))
	for i := range components {
		k := key(fmt.Sprintf("c%d", i), "hosts/h1")
		eventually(t, k, func() bool { return f.get(t, k) != nil })
	}
	if now := modRevision(t, f.raw, machineKey("h1")); now != registered {
		t.Error("the host had to register again")
	}
}

// TestHostBeyondTheJudgesNoticesOlderData: what it follows is known in parts, and not as of one revision. The data that
// comes back is not older than its last list, only than what its watches told since.
func TestHostBeyondTheJudgesNoticesOlderData(t *testing.T) {
	f := newFleet(t)
	crowd(t, f)
	first := f.ready(t, "web", "sha256:aa")
	a := f.host(t, "a", etcdstate.StoreOptions{TTL: 10 * time.Second})
	backup := t.TempDir()
	f.member.Stop()
	wantNil(t, "copy", os.CopyFS(backup, os.DirFS(f.member.Options.DataDir)))
	a.awaitReachable(t, false)
	f.member.Start(t)
	a.awaitReachable(t, true)
	if !a.View("web").Partial {
		t.Fatal("the sixth host is a judge")
	}
	last := f.ready(t, "web", "sha256:bb")
	eventually(t, "newest generation", func() bool { return a.View("web").Desired.Generation == last })
	f.member.Stop()
	a.awaitReachable(t, false)
	f.member.Wipe(t)
	wantNil(t, "restore", os.CopyFS(f.member.Options.DataDir, os.DirFS(backup)))
	f.member.Start(t)
	eventually(t, "older generation", func() bool { return a.View("web").Desired.Generation == first })
}

// TestHostKnowsFromTheStartWhatSteersIt takes over from another process, so that nothing happens at its start which would
// make it look again. A component that is not in the config needs a link, which any host may come to serve.
func TestHostKnowsFromTheStartWhatSteersIt(t *testing.T) {
	f := newFleet(t)
	crowd(t, f)
	f.ready(t, "web", "sha256:aa")
	f.put(t, key("extra", "state"), `{"status":"ready","imageid":"sha256:bb","spec":{"name":"extra","requireComponentLinks":[{"name":"db","alias":"db"}]}}`)
	lease, err := f.raw.Grant(t.Context(), 60)
	wantNil(t, "Grant", err)
	m := component.Machine{Status: "running", Components: []string{"web"}, Nonce: "n"}
	_, err = f.raw.Put(t.Context(), machineKey("a"), jsonOf(t, m), clientv3.WithLease(lease.ID))
	wantNil(t, "Put", err)
	a := f.host(t, "a", etcdstate.StoreOptions{TTL: time.Minute, Inherit: &etcdstate.Tenancy{Lease: int64(lease.ID), Nonce: "n", Machine: m}})
	if !a.View("web").Partial {
		t.Fatal("the sixth host is a judge")
	}
	f.put(t, key("web", "turns/7"), `{"host":"00"}`) // its watches go on
	eventually(t, "turn of another host", func() bool { return len(a.View("web").Turn.Holders) == 1 })
	f.put(t, machineKey("z"), `{"status":"running"}`)
	eventually(t, "a machine beyond the judges", func() bool { _, ok := a.View("web").Machines["z"]; return ok })
}
