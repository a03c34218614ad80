package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gantryd/gantryd/pkg/component"
)

// refused says whether err is one of the answers a store gives to a host that came too late.
func refused(err error) bool {
	return errors.Is(err, component.ErrTurnTaken) || errors.Is(err, component.ErrTurnLost) || errors.Is(err, component.ErrChanged)
}

func record(generation int64, status component.RolloutStatus) *component.Rollout {
	return &component.Rollout{Generation: generation, Status: status}
}

func testTakeTurn(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	v := r.View("web")
	wantEqual(t, "Turn.State", v.Turn.State, component.TurnMine)
	wantEqual(t, "Turn.Generation", v.Turn.Generation, g)
	wantEqual(t, "Turn.Holders", v.Turn.Holders, []string{r.name})
	wantEqual(t, "Rollout.Generation", v.Rollout.Generation, g)
	wantEqual(t, "Rollout.Status", v.Rollout.Status, component.RolloutProgressing)
	if v.RolloutRevision == 0 {
		t.Error("RolloutRevision = 0 with a record")
	}
}

func testTakeTurnKeepsRecord(t *testing.T, s *suite) {
	r := s.hosts[0]
	for _, status := range []component.RolloutStatus{component.RolloutHalted, component.RolloutDone} {
		g := s.ready(t, "web", "sha256:aa")
		wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(g, status), r.View("web")))
		wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
		v := r.View("web")
		wantEqual(t, "Turn.State", v.Turn.State, component.TurnMine)
		wantEqual(t, "Rollout.Status", v.Rollout.Status, status)
		wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, g), nil))
	}
}

func testTakeTurnTwice(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	wantNil(t, "TakeTurn again", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	v := r.View("web")
	wantEqual(t, "Turn.Holders", v.Turn.Holders, []string{r.name})
	wantEqual(t, "Turn.Generation", v.Turn.Generation, g)
}

func testTakeTurnNewer(t *testing.T, s *suite) {
	r := s.hosts[0]
	s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	g := s.ready(t, "web", "sha256:bb")
	if v := r.View("web"); v.Turn.State != component.TurnMine || v.Turn.Generation >= g {
		t.Fatalf("Turn after a newer state = %+v, want the older one", v.Turn)
	}
	wantNil(t, "TakeTurn for the newer one", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	v := r.View("web")
	wantEqual(t, "Turn.Holders", v.Turn.Holders, []string{r.name})
	wantEqual(t, "Turn.Generation", v.Turn.Generation, g)
	wantEqual(t, "Rollout.Generation", v.Rollout.Generation, g)
}

func testTurnStateChanged(t *testing.T, s *suite) {
	r := s.hosts[0]
	s.ready(t, "web", "sha256:aa")
	at := r.View("web")
	s.set(t, "web", ready("sha256:bb"))
	wantErr(t, "TakeTurn on an old view", r.TakeTurn(t.Context(), "web", 1, at), component.ErrChanged)
	wantEqual(t, "Turn.State", r.View("web").Turn.State, component.TurnWaiting)
	wantEqual(t, "RolloutRevision", r.View("web").RolloutRevision, int64(0))
}

func testTurnRolloutChanged(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	at := r.View("web")
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(g, component.RolloutHalted), at))
	wantErr(t, "TakeTurn on an old view", r.TakeTurn(t.Context(), "web", 1, at), component.ErrChanged)
	wantEqual(t, "Rollout.Status", r.View("web").Rollout.Status, component.RolloutHalted)
	wantEqual(t, "Turn.State", r.View("web").Turn.State, component.TurnWaiting)
}

func testEndTurn(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	st, rec := serving(r.name, g), record(g, component.RolloutHalted)
	rec.Kind, rec.Host, rec.Reason = component.UpdateFail, r.name, "not ready"
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", st, rec))
	v := r.View("web")
	wantEqual(t, "Hosts", v.Hosts, map[string]component.HostStatus{r.name: st})
	wantEqual(t, "Rollout", v.Rollout, *rec)
	wantEqual(t, "Turn.State", v.Turn.State, component.TurnWaiting)
	wantEqual(t, "Turn.Holders", len(v.Turn.Holders), 0)
}

func testEndTurnNoRecord(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	before := r.View("web")
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, g), nil))
	v := r.View("web")
	wantEqual(t, "Rollout", v.Rollout, before.Rollout)
	wantEqual(t, "RolloutRevision", v.RolloutRevision, before.RolloutRevision)
	wantEqual(t, "Turn.State", v.Turn.State, component.TurnWaiting)
	wantNil(t, "TakeTurn again", r.TakeTurn(t.Context(), "web", 1, v))
}

func testEndTurnLost(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	wantErr(t, "EndTurn without a turn",
		r.EndTurn(t.Context(), "web", serving(r.name, g), record(g, component.RolloutDone)), component.ErrTurnLost)
	wantEqual(t, "Hosts", len(r.View("web").Hosts), 0)
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, g), nil))
	wantErr(t, "second EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, g+1), nil), component.ErrTurnLost)
	wantEqual(t, "generation in Hosts", r.View("web").Hosts[r.name].Generation, g)
}

func testEndTurnKeepsHalt(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(g, component.RolloutHalted), r.View("web")))
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, g), record(g, component.RolloutDone)))
	v := r.View("web")
	wantEqual(t, "Rollout.Status", v.Rollout.Status, component.RolloutHalted)
	wantEqual(t, "Turn.State", v.Turn.State, component.TurnWaiting)
	wantEqual(t, "generation in Hosts", v.Hosts[r.name].Generation, g)
}

func testEndTurnNewerRecord(t *testing.T, s *suite) {
	r := s.hosts[0]
	first := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	second := s.ready(t, "web", "sha256:bb")
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(second, component.RolloutProgressing), r.View("web")))
	wantNil(t, "EndTurn", r.EndTurn(t.Context(), "web", serving(r.name, first), record(first, component.RolloutHalted)))
	v := r.View("web")
	wantEqual(t, "Rollout", v.Rollout, *record(second, component.RolloutProgressing))
	wantEqual(t, "Turn.State", v.Turn.State, component.TurnWaiting)
	wantEqual(t, "generation in Hosts", v.Hosts[r.name].Generation, first)
}

func testPutRollout(t *testing.T, s *suite) {
	r := s.hosts[0]
	g := s.ready(t, "web", "sha256:aa")
	first := r.View("web")
	wantNil(t, "PutRollout", r.PutRollout(t.Context(), "web", *record(g, component.RolloutProgressing), first))
	v := r.View("web")
	wantEqual(t, "Rollout", v.Rollout, *record(g, component.RolloutProgressing))
	wantErr(t, "PutRollout on an old record",
		r.PutRollout(t.Context(), "web", *record(g, component.RolloutDone), first), component.ErrChanged)
	wantNil(t, "PutRollout on the new one", r.PutRollout(t.Context(), "web", *record(g, component.RolloutDone), v))
	stale := r.View("web")
	s.ready(t, "web", "sha256:bb")
	wantErr(t, "PutRollout on an old state",
		r.PutRollout(t.Context(), "web", *record(g, component.RolloutHalted), stale), component.ErrChanged)
	wantEqual(t, "Rollout.Status", r.View("web").Rollout.Status, component.RolloutDone)
}

func testPublishInTurn(t *testing.T, s *suite) {
	r := s.hosts[0]
	s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", r.TakeTurn(t.Context(), "web", 1, r.View("web")))
	for i := range int64(3) {
		wantNil(t, "Publish", r.Publish(t.Context(), "web", serving(r.name, i)))
		wantEqual(t, "generation in Hosts", r.View("web").Hosts[r.name].Generation, i)
	}
	wantEqual(t, "Turn.State", r.View("web").Turn.State, component.TurnMine)
}

func testOtherSees(t *testing.T, s *suite) {
	a, b := s.hosts[0], s.hosts[1]
	g := s.ready(t, "web", "sha256:aa")
	mark := b.mark()
	wantNil(t, "TakeTurn", a.TakeTurn(t.Context(), "web", 1, a.View("web")))
	b.await(t, "turn and record of the other host", func() bool {
		v := b.View("web")
		return len(v.Turn.Holders) == 1 && v.Turn.Holders[0] == a.name && v.Rollout.Generation == g
	})
	wantEqual(t, "Turn.State", b.View("web").Turn.State, component.TurnWaiting)
	wantNil(t, "PublishMachine", a.PublishMachine(t.Context(), component.Machine{Status: "running", IP: "10.0.0.1"}))
	wantNil(t, "EndTurn", a.EndTurn(t.Context(), "web", serving(a.name, g), record(g, component.RolloutDone)))
	b.await(t, "result of the other host", func() bool {
		v := b.View("web")
		return v.Hosts[a.name].Generation == g && len(v.Turn.Holders) == 0 &&
			v.Rollout.Status == component.RolloutDone && v.Machines[a.name].IP == "10.0.0.1"
	})
	wantEqual(t, "RolloutRevision", b.View("web").RolloutRevision, a.View("web").RolloutRevision)
	b.await(t, "report", func() bool { return b.reported("web", mark) })
}

func testOneSlot(t *testing.T, s *suite) {
	a, b := s.hosts[0], s.hosts[1]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", a.TakeTurn(t.Context(), "web", 1, a.View("web")))
	b.await(t, "record", func() bool { return b.View("web").Rollout.Generation == g })
	wantErr(t, "TakeTurn of the other host", b.TakeTurn(t.Context(), "web", 1, b.View("web")), component.ErrTurnTaken)
	wantErr(t, "EndTurn of the other host", b.EndTurn(t.Context(), "web", serving(b.name, g), nil), component.ErrTurnLost)
	wantNil(t, "EndTurn", a.EndTurn(t.Context(), "web", serving(a.name, g), nil))
	b.await(t, "free turn", func() bool { return len(b.View("web").Turn.Holders) == 0 })
	if _, ok := b.View("web").Hosts[a.name]; !ok {
		t.Error("turn is free, the result of who had it is not there")
	}
	wantNil(t, "TakeTurn of the other host", b.TakeTurn(t.Context(), "web", 1, b.View("web")))
}

func testTwoSlots(t *testing.T, s *suite) {
	a, b := s.hosts[0], s.hosts[1]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", a.TakeTurn(t.Context(), "web", 2, a.View("web")))
	b.await(t, "record", func() bool { return b.View("web").Rollout.Generation == g })
	wantNil(t, "TakeTurn of the other host", b.TakeTurn(t.Context(), "web", 2, b.View("web")))
	for _, r := range s.hosts {
		r.await(t, "two holders", func() bool { return len(r.View("web").Turn.Holders) == 2 })
		wantEqual(t, "Turn.State", r.View("web").Turn.State, component.TurnMine)
	}
}

func testFewerSlots(t *testing.T, s *suite) {
	a, b := s.hosts[0], s.hosts[1]
	g := s.ready(t, "web", "sha256:aa")
	wantNil(t, "TakeTurn", a.TakeTurn(t.Context(), "web", 2, a.View("web")))
	b.await(t, "record", func() bool { return b.View("web").Rollout.Generation == g })
	wantNil(t, "TakeTurn of the other host", b.TakeTurn(t.Context(), "web", 2, b.View("web")))
	wantNil(t, "EndTurn", a.EndTurn(t.Context(), "web", serving(a.name, g), nil))
	wantErr(t, "TakeTurn of one slot while the other host has one",
		a.TakeTurn(t.Context(), "web", 1, a.View("web")), component.ErrTurnTaken)
}

func testRace(t *testing.T, s *suite) {
	s.ready(t, "web", "sha256:aa")
	var holders, turns atomic.Int32
	var wg sync.WaitGroup
	for _, r := range s.hosts {
		wg.Go(func() {
			for range 40 {
				if err := r.TakeTurn(t.Context(), "web", 1, r.View("web")); err != nil {
					if !refused(err) {
						t.Errorf("TakeTurn of host %q = %v", r.name, err)
					}
					continue
				}
				turns.Add(1)
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hosts have the turn", n)
				}
				holders.Add(-1)
				if err := r.EndTurn(t.Context(), "web", serving(r.name, 1), nil); err != nil {
					t.Errorf("EndTurn of host %q = %v", r.name, err)
				}
			}
		})
	}
	wg.Wait()
	if turns.Load() == 0 {
		t.Error("nobody ever got the turn")
	}
}
