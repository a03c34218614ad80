package etcdstate_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// lose lets host a take a turn, and its lease end in the middle of it.
func lose(t *testing.T, f *fleet, a, b *host, g int64) {
	t.Helper()
	a.takeTurn(t, "web", g)
	eventually(t, "turn seen by the other host", func() bool { return slices.Contains(b.View("web").Turn.Holders, a.name) })
	a.stop(t)
	f.revoke(t, a.name)
	eventually(t, "free turn", func() bool { return len(b.View("web").Turn.Holders) == 0 })
}

func TestHostLostInItsTurnTakesASlot(t *testing.T) {
	f := newFleet(t)
	a := f.host(t, "a", etcdstate.StoreOptions{TTL: 30 * time.Second})
	b := f.host(t, "b", etcdstate.StoreOptions{})
	g := f.ready(t, "web", "sha256:aa")
	lose(t, f, a, b, g)
	if d := cmp.Diff([]string{"a"}, b.View("web").Lost("b")); d != "" {
		t.Fatalf("lost hosts (-want +got):\n%s", d)
	}
	wantErr(t, "TakeTurn of the only slot", b.TakeTurn(t.Context(), "web", 1, b.View("web")), component.ErrTurnTaken)
	wantNil(t, "TakeTurn of a second slot", b.TakeTurn(t.Context(), "web", 2, b.View("web")))
	wantNil(t, "EndTurn", b.EndTurn(t.Context(), "web", status("b", g), nil))
	if d := cmp.Diff([]string{"a"}, b.View("web").Lost("b")); d != "" {
		t.Fatalf("lost hosts after another's turn (-want +got):\n%s", d)
	}

	// It is back: it may take the turn itself, and its end leaves nothing behind.
	again := f.host(t, "a", etcdstate.StoreOptions{})
	again.takeTurn(t, "web", g)
	wantNil(t, "EndTurn of the host that is back", again.EndTurn(t.Context(), "web", status("a", g), nil))
	eventually(t, "no lost host", func() bool { return len(b.View("web").Changing) == 0 })
	wantNil(t, "TakeTurn", b.TakeTurn(t.Context(), "web", 1, b.View("web")))
}

func TestReturnedHostSaysSo(t *testing.T) {
	f := newFleet(t)
	a := f.host(t, "a", etcdstate.StoreOptions{TTL: 30 * time.Second})
	b := f.host(t, "b", etcdstate.StoreOptions{})
	lose(t, f, a, b, f.ready(t, "web", "sha256:aa"))
	again := f.host(t, "a", etcdstate.StoreOptions{})
	at := again.View("web").Changing["a"]
	wantNil(t, "Returned of another revision", again.Returned(t.Context(), "web", at-1))
	if len(again.View("web").Changing) != 1 {
		t.Fatal("a trace of another revision was taken away")
	}
	wantNil(t, "Returned", again.Returned(t.Context(), "web", at))
	wantNil(t, "Returned again", again.Returned(t.Context(), "web", at))
	eventually(t, "no lost host", func() bool { return len(b.View("web").Changing) == 0 })
}

// A turn to repair leaves no trace: no rollout waits for its host.
func TestRepairLeavesNoTrace(t *testing.T) {
	f := newFleet(t)
	a := f.host(t, "a", etcdstate.StoreOptions{TTL: 30 * time.Second})
	b := f.host(t, "b", etcdstate.StoreOptions{})
	g := f.ready(t, "web", "sha256:aa")
	eventually(t, "state", func() bool { return a.View("web").Desired.Generation == g })
	wantNil(t, "PutRollout", a.PutRollout(t.Context(), "web", component.Rollout{Generation: g, Status: component.RolloutDone}, a.View("web")))
	lose(t, f, a, b, g)
	if len(b.View("web").Changing) != 0 {
		t.Errorf("lost hosts: %v", b.View("web").Changing)
	}
}

func TestForget(t *testing.T) {
	f := newFleet(t)
	a := f.host(t, "a", etcdstate.StoreOptions{TTL: 30 * time.Second})
	b := f.host(t, "b", etcdstate.StoreOptions{})
	g := f.ready(t, "web", "sha256:aa")
	a.takeTurn(t, "web", g)
	_, _, err := f.client.Forget(t.Context(), "p", "a")
	wantErr(t, "Forget of a host that is alive", err, etcdstate.ErrAlive)
	eventually(t, "turn of another host", func() bool { return slices.Equal(b.View("web").Turn.Holders, []string{"a"}) })
	a.stop(t)
	f.revoke(t, "a")
	eventually(t, "free turn", func() bool { return len(b.View("web").Turn.Holders) == 0 })
	waited, _, err := f.client.Forget(t.Context(), "p", "a")
	wantNil(t, "Forget", err)
	if !slices.Equal(waited, []string{"web"}) {
		t.Errorf("waited for it: %v", waited)
	}
	if waited, _, err = f.client.Forget(t.Context(), "p", "a"); err != nil || waited != nil {
		t.Errorf("Forget again = %v, %v", waited, err)
	}
	eventually(t, "no lost host", func() bool { return len(b.View("web").Changing) == 0 })
	wantNil(t, "TakeTurn", b.TakeTurn(t.Context(), "web", 1, b.View("web")))
}

// A canary that is gone for good is waited for no longer: another host becomes one. What the record says
// else stays.
func TestForgetCanary(t *testing.T) {
	f := newFleet(t)
	a := f.host(t, "a", etcdstate.StoreOptions{TTL: 30 * time.Second})
	b := f.host(t, "b", etcdstate.StoreOptions{})
	g := f.readyWith(t, "web", "sha256:aa", component.RolloutPolicy{Canary: 1})
	other := f.ready(t, "db", "sha256:aa")
	for _, h := range []*host{a, b} {
		for _, name := range []string{"web", "db"} {
			wantNil(t, "PublishMachine", h.PublishMachine(t.Context(), component.Machine{Components: []string{"web", "db"}}))
			eventually(t, "state", func() bool { return h.View(name).Desired.Generation != 0 })
		}
	}
	a.takeTurn(t, "web", g)
	wantNil(t, "EndTurn", a.EndTurn(t.Context(), "web", status("a", g), nil))
	eventually(t, "canary", func() bool { return slices.Equal(b.View("web").Rollout.Canaries, []string{"a"}) })
	_, _, err := f.client.Forget(t.Context(), "p", "a")
	wantErr(t, "Forget of a host that is alive", err, etcdstate.ErrAlive)
	a.stop(t)
	f.revoke(t, "a")
	eventually(t, "end of the host", func() bool { return len(b.View("web").Machines) == 1 })
	p, err := f.client.Project(t.Context(), "p")
	wantNil(t, "Project", err)
	if d := cmp.Diff(map[string][]string{"a": {"web"}}, rollout.LostHosts(p.Components)); d != "" {
		t.Errorf("lost hosts (-want +got):\n%s", d)
	}
	if rollout.Hold("web", "b", b.View("web")) == "" {
		t.Fatal("nobody waits for the canary")
	}

	waited, _, err := f.client.Forget(t.Context(), "p", "a")
	wantNil(t, "Forget", err)
	if !slices.Equal(waited, []string{"web"}) {
		t.Errorf("waited for it: %v", waited)
	}
	eventually(t, "no canary", func() bool { return len(b.View("web").Rollout.Canaries) == 0 })
	if why := rollout.Hold("web", "b", b.View("web")); why != "" {
		t.Errorf("still on hold: %s", why)
	}
	b.takeTurn(t, "web", g)
	if r := b.View("web").Rollout; r.Generation != g || !slices.Equal(r.Canaries, []string{"b"}) {
		t.Errorf("record = %+v", r)
	}
	if waited, _, err = f.client.Forget(t.Context(), "p", "a"); err != nil || waited != nil {
		t.Errorf("Forget again = %v, %v", waited, err)
	}
	if got := b.View("db").Desired.Generation; got != other {
		t.Errorf("generation of another component = %d, want %d", got, other)
	}
}

// Nobody knows when a lost host is back: what turns sick on another one is repaired meanwhile.
func TestRepairDoesNotWaitForALostHost(t *testing.T) {
	f := newFleet(t)
	a := f.host(t, "a", etcdstate.StoreOptions{TTL: 30 * time.Second})
	b := f.host(t, "b", etcdstate.StoreOptions{})
	lose(t, f, a, b, f.ready(t, "web", "sha256:aa"))
	at := b.View("web")
	wantErr(t, "TakeTurn for an update", b.TakeTurn(t.Context(), "web", 1, at), component.ErrTurnTaken)
	at.Turn.Repair = true
	wantNil(t, "TakeTurn to repair", b.TakeTurn(t.Context(), "web", 1, at))
	c := f.host(t, "c", etcdstate.StoreOptions{})
	eventually(t, "turn", func() bool { return slices.Contains(c.View("web").Turn.Holders, "b") })
	at = c.View("web")
	at.Turn.Repair = true
	wantErr(t, "second TakeTurn to repair", c.TakeTurn(t.Context(), "web", 1, at), component.ErrTurnTaken)
	wantNil(t, "EndTurn", b.EndTurn(t.Context(), "web", status("b", 0), nil))
	if d := cmp.Diff([]string{"a"}, b.View("web").Lost("b")); d != "" {
		t.Errorf("lost hosts after the repair (-want +got):\n%s", d)
	}
}

// Several hosts see a rollout halt; one of them writes the rollback, and it is written once.
func TestRollbackHappensOnce(t *testing.T) {
	f := newFleet(t)
	var hosts []*host
	for _, name := range []string{"a", "b", "c"} {
		hosts = append(hosts, f.host(t, name, etcdstate.StoreOptions{}))
	}
	good := f.ready(t, "web", "sha256:aa")
	a := hosts[0]
	eventually(t, "state", func() bool { return a.View("web").Desired.Generation == good })
	wantNil(t, "PutRollout", a.PutRollout(t.Context(), "web", component.Rollout{Generation: good, Status: component.RolloutDone}, a.View("web")))
	bad := f.ready(t, "web", "sha256:bb")
	eventually(t, "state", func() bool { return a.View("web").Desired.Generation == bad })
	halt := component.Rollout{Generation: bad, Status: component.RolloutHalted, Reason: "not ready: 503", Log: []string{"no key"}}
	wantNil(t, "PutRollout", a.PutRollout(t.Context(), "web", halt, a.View("web")))
	var wg sync.WaitGroup
	for _, h := range hosts {
		eventually(t, "halt", func() bool { return h.View("web").Rollout.Status == component.RolloutHalted })
		wg.Go(func() {
			at := h.View("web")
			for range 5 {
				d := component.Desired{By: "gantryd@" + h.name, Automatic: true, Operation: fmt.Sprintf("rollback-of-%d-0", bad), Reason: at.Rollout.Reason}
				if err := h.Rollback(t.Context(), "web", d, at); err != nil && !errors.Is(err, component.ErrChanged) {
					t.Errorf("Rollback = %v", err)
				}
			}
		})
	}
	wg.Wait()
	past, err := f.client.History(t.Context(), "p", "web")
	wantNil(t, "History", err)
	if len(past) != 3 {
		t.Fatalf("%d entries, want 3", len(past))
	}
	now, failed := past[0], past[1]
	if now.Desired.ImageID != "sha256:aa" || now.Desired.Source != good || !now.Desired.Automatic || now.Desired.Reason != "not ready: 503" {
		t.Errorf("present state = %+v", now.Desired)
	}
	if failed.Outcome != component.OutcomeRolledBack || !slices.Equal(failed.Rollout.Log, []string{"no key"}) {
		t.Errorf("what failed = %+v", failed)
	}
}

func TestSteer(t *testing.T) {
	f := newFleet(t)
	g := f.ready(t, "web", "sha256:aa")
	pause := func(v component.View) (component.Rollout, error) {
		r := v.Record()
		r.Paused = &component.Word{By: "ann"}
		return r, nil
	}
	got, err := f.client.Steer(t.Context(), "p", "web", pause)
	wantNil(t, "Steer", err)
	if got != g {
		t.Errorf("steered generation %d, want %d", got, g)
	}
	h := f.host(t, "a", etcdstate.StoreOptions{})
	if r := h.View("web").Rollout; r.Generation != g || r.Status != component.RolloutProgressing || r.Paused == nil || r.Paused.By != "ann" {
		t.Errorf("record = %+v", r)
	}
	no := errors.New("no")
	_, err = f.client.Steer(t.Context(), "p", "web", func(component.View) (component.Rollout, error) { return component.Rollout{}, no })
	wantErr(t, "Steer that is refused", err, no)

	// A host that has not seen the word cannot take a turn on what it saw before.
	at := h.View("web")
	_, err = f.client.Steer(t.Context(), "p", "web", func(v component.View) (component.Rollout, error) {
		r := v.Record()
		r.Reason = "another"
		return r, nil
	})
	wantNil(t, "Steer", err)
	wantErr(t, "TakeTurn on an old view", h.TakeTurn(t.Context(), "web", 1, at), component.ErrChanged)
}
