package rollout_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// guarded is hosts whose users behave by chance: the first ones serve the new release, the rest the old one.
type guarded struct {
	view  component.View
	guard rollout.Guard
	rnd   *rand.Rand
	slot  int64
	fresh int // hosts on the new release
}

// guardedFleet is a rollout under a guard on so many hosts, of which the first ones serve the new release.
func guardedFleet(hosts, fresh int, policy component.Guard, seed uint64) *guarded {
	g := &guarded{rnd: rand.New(rand.NewPCG(seed, 7)), slot: 1000, fresh: fresh}
	g.view = component.View{
		Desired:  component.Desired{Status: component.StatusReady, Generation: 7, Spec: &component.Spec{Name: "web", Rollout: component.RolloutPolicy{Guard: policy}}},
		Rollout:  component.Rollout{Generation: 7, Status: component.RolloutProgressing},
		Machines: map[string]component.Machine{}, Hosts: map[string]component.HostStatus{},
	}
	for i := range hosts {
		h := string(rune('a' + i))
		g.view.Machines[h] = component.Machine{Components: []string{"web"}}
		g.view.Hosts[h] = component.HostStatus{Target: 7, Traffic: &component.Traffic{}}
	}
	return g
}

// users are what those of one host see in a slot.
type users struct {
	tries int
	fails float64       // probability
	takes time.Duration // at the median, 0 for no answers; 99 of 100 take less than about four times as long
}

func (g *guarded) tally(u users) component.Tally {
	t := component.Tally{Tries: int64(u.tries), Latency: map[int64]int64{}}
	for range u.tries {
		if g.rnd.Float64() < u.fails {
			t.Errors++
		}
		if u.takes > 0 {
			eighths := math.Round(math.Log2(float64(u.takes.Microseconds()))*8 + 6*g.rnd.NormFloat64())
			t.Latency[int64(math.Exp2(eighths/8))]++
		}
	}
	return t
}

// pass lets a slot pass in which users of both releases see something, and has it judged.
func (g *guarded) pass(old, fresh users) (component.Rollout, bool) {
	g.slot++
	for i, h := range rollout.Hosts("web", g.view) {
		if g.view.Hosts[h].Traffic == nil {
			continue
		}
		t := *g.view.Hosts[h].Traffic
		s := component.Slot{Slot: g.slot}
		if t.Old = i >= g.fresh; t.Old {
			s.Old = g.tally(old)
			t.Before = t.Before.Plus(s.Old)
		} else {
			s.New = g.tally(fresh)
		}
		t.Slots = append(slices.Clone(t.Slots[max(0, len(t.Slots)-3):]), s)
		g.view.Hosts[h] = component.HostStatus{Target: 7, Traffic: &t}
	}
	return g.guard.Weigh("web", g.view, time.Unix(0, (g.slot+2)*int64(component.SlotLength)+1))
}

// until lets slots pass until the guard trips, and returns how many that took, at most so many.
func (g *guarded) until(most int, old, fresh func(slot int) users) (int, component.Rollout) {
	for i := 1; i <= most; i++ {
		if r, trips := g.pass(old(i), fresh(i)); trips {
			return i, r
		}
	}
	return most + 1, component.Rollout{}
}

func always(u users) func(int) users { return func(int) users { return u } }

func both() component.Guard { return component.Guard{Errors: 100, LatencyP99: 200} }

// TestGuardRarelyHaltsASoundRelease measures false alarms over seeded rollouts in which users of both releases fare alike,
// whatever that is, or the new release is as bad as is tolerated. The bound is 1 % of the rollouts for all judges.
func TestGuardRarelyHaltsASoundRelease(t *testing.T) {
	const fast = 20 * time.Millisecond
	outage := func(u users) func(int) users {
		return func(slot int) users {
			if slot%30 >= 20 {
				u.fails, u.takes = 0.7, 4*u.takes
			}
			return u
		}
	}
	const runs, slots = 400, 60
	tests := []struct {
		name         string
		hosts, fresh int
		runs         int
		old, new     func(int) users
	}{
		{"healthy", 4, 1, runs, always(users{20, 0.002, 0}), always(users{20, 0.002, 0})},
		{"as bad as tolerated", 4, 2, runs, always(users{20, 0.01, 0}), always(users{20, 0.02, 0})},
		{"both bad", 4, 2, runs, always(users{20, 0.4, 0}), always(users{20, 0.4, 0})},
		{"both bad for a while", 4, 1, runs, outage(users{20, 0.001, 0}), outage(users{20, 0.001, 0})},
		{"few users", 4, 1, runs, always(users{1, 0.05, 0}), always(users{1, 0.05, 0})},
		{"old one serves nowhere any more", 2, 2, runs, nil, always(users{20, 0.005, 0})},
		{"healthy latency", 3, 1, runs / 10, always(users{20, 0, fast}), always(users{20, 0, fast})},
		{"both slow for a while", 3, 1, runs / 10, outage(users{20, 0, fast}), outage(users{20, 0, fast})},
		{"latency, old one serves nowhere any more", 2, 2, runs / 10, nil, always(users{20, 0, fast})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			alarms := 0
			for seed := range tt.runs {
				g := guardedFleet(tt.hosts, 0, both(), uint64(seed))
				if tt.old == nil {
					for i := range 30 {
						g.pass(tt.new(i), users{})
					}
				}
				g.fresh, g.guard = tt.fresh, rollout.Guard{}
				old := tt.old
				if old == nil {
					old = tt.new
				}
				if n, r := g.until(slots, old, tt.new); n <= slots {
					alarms++
					t.Logf("seed %d: after %d slots: %s", seed, n, r.Reason)
				}
			}
			t.Logf("%d false alarms in %d rollouts of %d slots", alarms, tt.runs, slots)
			if alarms > max(1, tt.runs/100) {
				t.Errorf("%d false alarms in %d rollouts", alarms, tt.runs)
			}
		})
	}
}

// TestGuardFindsABadRelease measures how many slots of 2 s it takes to find what a release does to users.
func TestGuardFindsABadRelease(t *testing.T) {
	fine := users{20, 0.002, 20 * time.Millisecond}
	tests := []struct {
		name         string
		hosts, fresh int
		new          users
		most         int // slots, in 95 of 100 rollouts
		says         string
	}{
		{"every request fails", 3, 1, users{20, 1, 20 * time.Millisecond}, 4, "guard: of the new release 100.0% of"},
		{"one of five fails", 3, 1, users{20, 0.2, 20 * time.Millisecond}, 5, "answered 5xx"},
		{"one of twenty fails", 3, 2, users{20, 0.05, 20 * time.Millisecond}, 40, "at most 1% more may"},
		{"few users, all fail", 3, 1, users{3, 1, 20 * time.Millisecond}, 6, "100.0% of"},
		{"four times as slow", 3, 1, users{20, 0.002, 80 * time.Millisecond}, 8, "at most 2x as long may they"},
		{"every request fails, the old one is gone", 2, 2, users{20, 1, 20 * time.Millisecond}, 4, "before; at most"},
		{"four times as slow, the old one is gone", 2, 2, users{20, 0.002, 80 * time.Millisecond}, 10, "at most 2x"},
	}
	const runs = 40
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var took []int
			for seed := range runs {
				g := guardedFleet(tt.hosts, 0, both(), uint64(seed))
				for range 30 {
					if r, trips := g.pass(fine, fine); trips {
						t.Fatalf("seed %d: halted before the new release served: %s", seed, r.Reason)
					}
				}
				g.fresh = tt.fresh
				slots, r := g.until(120, always(fine), always(tt.new))
				took = append(took, slots)
				if slots <= 120 && !strings.Contains(r.Reason, tt.says) || slots > 120 {
					t.Fatalf("seed %d: reason %q, want %q in it", seed, r.Reason, tt.says)
				}
			}
			slices.Sort(took)
			t.Logf("slots: median %d, 95 of 100 within %d, all within %d", took[runs/2], took[runs*95/100], took[runs-1])
			if took[0] < 3 || took[runs*95/100] > tt.most {
				t.Errorf("slots %d to %d, want at least 3, and %d in 95 of 100 rollouts", took[0], took[runs*95/100], tt.most)
			}
		})
	}
}

// TestGuardStaysSilent lists rollouts in which every request to the new release fails, and none is halted.
func TestGuardStaysSilent(t *testing.T) {
	fails, fine := users{20, 1, 0}, users{20, 0, 0}
	tests := []struct {
		name   string
		change func(v *component.View)
		old    users
	}{
		{"off", func(v *component.View) { v.Desired.Spec.Rollout.Guard = component.Guard{} }, fine},
		{"a rollback", func(v *component.View) { v.Desired.Source = 3 }, fine},
		{"done", func(v *component.View) { v.Rollout.Status = component.RolloutDone }, fine},
		{"the old one fails as well", func(*component.View) {}, fails},
		{"nobody uses the old one", func(*component.View) {}, users{}},
		{"said of another generation", func(v *component.View) { v.Desired.Generation, v.Rollout.Generation = 8, 8 }, fine},
		{"only latency counts", func(v *component.View) { v.Desired.Spec.Rollout.Guard.Errors = 0 }, fine},
	}
	for _, tt := range tests {
		g := guardedFleet(3, 1, both(), 1)
		tt.change(&g.view)
		if n, r := g.until(40, always(tt.old), always(fails)); n <= 40 {
			t.Errorf("%s: halted after %d slots: %s", tt.name, n, r.Reason)
		}
	}
}

// TestGuardJudgesEachTryAnew retries what was halted, with a release that is sound by now.
func TestGuardJudgesEachTryAnew(t *testing.T) {
	fails, fine := always(users{20, 1, 0}), always(users{20, 0, 0})
	g := guardedFleet(3, 1, both(), 1)
	n, r := g.until(10, fine, fails)
	if n > 10 || r.Status != component.RolloutHalted || r.Kind != component.GuardFail || r.Generation != 7 {
		t.Fatalf("after %d slots: %+v", n, r)
	}
	g.view.Rollout = r
	if r, err := rollout.Retry(g.view, component.Word{By: "me"}); err != nil {
		t.Fatal(err)
	} else {
		g.view.Rollout = r
	}
	if n, r := g.until(40, fine, fine); n <= 40 {
		t.Errorf("halted again after %d slots: %s", n, r.Reason)
	}
	if n, _ := g.until(12, fine, fails); n > 12 {
		t.Error("what is bad later is not found")
	}
}

// TestGuardKnowsWhetherTheOldReleaseServes has all users come to a bad release on all hosts but the last, which is as the
// case says. Only when that one serves the old release to nobody is the new one compared with what was before.
func TestGuardKnowsWhetherTheOldReleaseServes(t *testing.T) {
	tests := []struct {
		name  string
		last  func(*guarded)
		halts bool
	}{
		{"in service", func(*guarded) {}, false},
		{"drained", func(g *guarded) { g.view.Drained = map[string]component.HostDrain{"c": {}} }, true},
		{"tells nothing", func(g *guarded) { g.view.Hosts["c"] = component.HostStatus{Target: 6} }, false},
		{"drained, tells nothing", func(g *guarded) {
			g.view.Hosts["c"] = component.HostStatus{Target: 6}
			g.view.Drained = map[string]component.HostDrain{"c": {}}
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := guardedFleet(3, 0, both(), 1)
			g.until(30, always(users{20, 0, 0}), always(users{}))
			g.fresh = 2
			tt.last(g)
			n, r := g.until(12, always(users{}), always(users{20, 1, 0}))
			if halts := n <= 12; halts != tt.halts {
				t.Errorf("halts: %v (%s), want %v", halts, r.Reason, tt.halts)
			}
		})
	}
}

// A judge whose clock goes back, as those of the other hosts do, goes on weighing.
func TestGuardFollowsTheClock(t *testing.T) {
	g := guardedFleet(3, 1, both(), 1)
	g.until(10, always(users{20, 0, 0}), always(users{20, 0, 0}))
	g.slot -= 500
	if n, r := g.until(12, always(users{20, 0, 0}), always(users{20, 1, 0})); n > 12 {
		t.Errorf("not halted: %+v", r)
	}
}

// TestRolloutIsDoneOnceItWasWatched follows a rollout that every host came to.
func TestRolloutIsDoneOnceItWasWatched(t *testing.T) {
	g := guardedFleet(2, 0, both(), 1)
	g.pass(users{20, 0, 0}, users{})
	g.fresh = 2
	g.pass(users{}, users{20, 0, 0})
	for h, st := range g.view.Hosts {
		st.Generation, st.Step = 7, component.StepServing
		g.view.Hosts[h] = st
	}
	early := rollout.Waited{Mark: component.DefaultWatch - time.Second, Hosts: time.Hour}
	if r, ok := rollout.Judge("web", g.view, early); ok {
		t.Errorf("recorded %+v while it is watched", r)
	}
	if due := rollout.Due("web", g.view, early); due != time.Second {
		t.Errorf("looks again in %v, want 1s", due)
	}
	repaired := g.view
	repaired.Turn.Holders, repaired.Rollout.Paused = []string{"b"}, &component.Word{By: "me"}
	if rollout.Mark("web", repaired) != rollout.Mark("web", g.view) {
		t.Error("a repair, or a pause, begins the watch anew")
	}
	retried := g.view
	retried.Rollout.Attempt++
	if rollout.Mark("web", retried) == rollout.Mark("web", g.view) {
		t.Error("a new try is not watched anew")
	}
	why := strings.Join(rollout.Why("web", "", g.view, time.Now()), " ")
	if want := "Its rollout goes on: every host serves it, and the guard watches it for 1m0s; users saw 0.0% of 40 of the new release fail lately"; !strings.Contains(why, want) {
		t.Errorf("why: %s\nwant %q in it", why, want)
	}
	if r, ok := rollout.Judge("web", g.view, rollout.Waited{Mark: component.DefaultWatch}); !ok || r.Status != component.RolloutDone {
		t.Errorf("recorded %+v, %v after the watch, want done", r, ok)
	}
	for h, st := range g.view.Hosts { // nothing to compare with
		st.Traffic = nil
		g.view.Hosts[h] = st
	}
	if r, ok := rollout.Judge("web", g.view, rollout.Waited{}); !ok || r.Status != component.RolloutDone {
		t.Errorf("recorded %+v, %v with nothing to compare with, want done at once", r, ok)
	}
}
