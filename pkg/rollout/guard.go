package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

const (
	// settled is how many slots later the hosts have told of one.
	settled = 2
	// recent is how many slots a verdict tells of.
	recent = 10
	// fewAnswers are too few to say what 99 of 100 took.
	fewAnswers = 100
	// slowPart is the part of answers that may be slower than the limit: those beyond p99.
	slowPart = 0.01
)

// A Guard weighs what users see of a rollout, slot after slot. The zero Guard has seen nothing. It is one host's, and
// not for use at once.
type Guard struct {
	generation int64
	attempt    int
	slot       int64 // weighed last
	errors     evidence
	slow       evidence
	limit      time.Duration // what is slower counts as slow; 0: not known yet
	seen       []component.Slot
	before     component.Tally // of the old release, until it served no more
	apart      bool            // the old release serves nowhere any more
}

// Weigh takes in what hosts said of the slots that are over. It returns the record of a rollout that halts because
// users fare worse with the new release, if that is so beyond doubt.
func (g *Guard) Weigh(name string, v component.View, now time.Time) (component.Rollout, bool) {
	policy, r := v.Guarded(), v.Record()
	if !policy.On() || !goes(v) {
		*g = Guard{}
		return r, false
	}
	over := component.SlotAt(now) - settled
	if g.generation != r.Generation || g.attempt != r.Attempt {
		*g = Guard{generation: r.Generation, attempt: r.Attempt, slot: over}
	}
	if g.slot > over+recent { // the clock went back
		g.slot = over
	}
	g.look(name, v)
	for g.slot = max(g.slot, over-recent); g.slot < over; {
		g.slot++
		g.take(gather(name, v, g.slot), policy)
	}
	why := g.verdict(policy)
	if why == "" {
		return r, false
	}
	r.Status, r.Kind, r.Host, r.Reason, r.Log, r.Paused = component.RolloutHalted, component.GuardFail, "", why, nil, nil
	return r, true
}

// Next is when there is something new to weigh; zero when never.
func (g *Guard) Next() time.Time {
	if g.generation == 0 {
		return time.Time{}
	}
	return time.Unix(0, (g.slot+settled+1)*int64(component.SlotLength))
}

// told is what a host that runs says of the rollout of what is wanted, nil when nothing.
func told(host string, v component.View) *component.Traffic {
	if st := v.Hosts[host]; st.Target == v.Desired.Generation {
		return st.Traffic
	}
	return nil
}

// look notes what the old release had before, and whether it still serves. A host that tells nothing may serve it;
// one that is out of service takes no new connections, whatever it has.
func (g *Guard) look(name string, v component.View) {
	g.before, g.apart = component.Tally{}, true
	for _, h := range Hosts(name, v) {
		t := told(h, v)
		if t != nil {
			g.before = g.before.Plus(t.Before)
		}
		_, out := v.Drained[h]
		g.apart = g.apart && (out || t != nil && !t.Old)
	}
	g.errors.learn(failures(g.before))
	if g.limit > 0 {
		g.slow.learn(slowness(g.before, g.limit))
	}
}

// gather adds up what the hosts say of a slot.
func gather(name string, v component.View, slot int64) component.Slot {
	sum := component.Slot{Slot: slot}
	for _, h := range Hosts(name, v) {
		s := told(h, v).In(slot)
		sum.New, sum.Old = sum.New.Plus(s.New), sum.Old.Plus(s.Old)
	}
	return sum
}

func failures(t component.Tally) rate { return rate{float64(t.Tries), float64(t.Failed())} }

func slowness(t component.Tally, limit time.Duration) rate {
	return rate{float64(t.Answers()), float64(t.Slower(limit))}
}

// take weighs a slot.
func (g *Guard) take(s component.Slot, policy component.Guard) {
	if s.New.Tries+s.Old.Tries == 0 {
		return
	}
	g.seen = append(g.seen, s)
	g.seen = g.seen[max(0, len(g.seen)-recent):]
	g.weigh(&g.errors, failures(s.New), failures(s.Old), failures(g.before), policy.Errors.Part())
	if g.limit > 0 {
		g.weigh(&g.slow, slowness(s.New, g.limit), slowness(s.Old, g.limit), slowness(g.before, g.limit), slowPart)
	}
	if g.before.Answers() >= fewAnswers && (g.limit == 0 || !g.apart) { // for the slots to come
		g.limit = policy.LatencyP99.Times(g.before.P99())
	}
}

// weigh adds to e, comparing with what the old release had in the same slot, or once it serves nowhere with what it had
// before.
func (g *Guard) weigh(e *evidence, fresh, old, before rate, tolerance float64) {
	switch {
	case tolerance == 0:
	case old.tries > 0 || !g.apart:
		e.weigh(fresh, old, tolerance)
	default:
		e.weighAgainst(fresh, atMost(before), tolerance)
	}
}

// verdict says why the release is not good enough; empty when it is, or nobody can tell.
func (g *Guard) verdict(policy component.Guard) string {
	fresh, old, when := g.compared()
	switch {
	case policy.Errors > 0 && g.errors.value() >= alarm:
		return fmt.Sprintf("guard: of the new release %s failed, of the one before %s %s; at most %s more may",
			portion(fresh), portion(old), when, policy.Errors)
	case policy.LatencyP99 > 0 && g.slow.value() >= alarm:
		return fmt.Sprintf("guard: 99 of 100 answers of the new release took up to %s (%d answers), of the one before up to %s %s (%d); at most %s as long may they",
			short(fresh.P99()), fresh.Answers(), short(old.P99()), when, old.Answers(), policy.LatencyP99)
	}
	return ""
}

// compared is what both releases had lately, of the old one at the same time or before.
func (g *Guard) compared() (fresh, old component.Tally, when string) {
	n := len(g.seen)
	past := n > 0 && g.apart && g.seen[n-1].Old.Tries == 0
	for _, s := range g.seen {
		if !past || s.Old.Tries == 0 {
			fresh, old = fresh.Plus(s.New), old.Plus(s.Old)
		}
	}
	if past {
		return fresh, g.before, "before"
	}
	return fresh, old, "at the same time"
}

// short is d for people.
func short(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

// portion says how many failed, and how.
func portion(t component.Tally) string {
	if t.Tries == 0 {
		return "none of 0"
	}
	text := fmt.Sprintf("%.1f%% of %d", 100*float64(t.Failed())/float64(t.Tries), t.Tries)
	var how []string
	for _, kind := range []struct {
		n    int64
		what string
	}{{t.Errors, "answered 5xx"}, {t.Broken, "without an answer"}, {t.Unreached, "not connected"}} {
		if kind.n > 0 {
			how = append(how, fmt.Sprintf("%d %s", kind.n, kind.what))
		}
	}
	if len(how) > 0 {
		text += " (" + strings.Join(how, ", ") + ")"
	}
	return text
}

// UsersSee says what users see of a guarded rollout, of both releases, in the last slots that hosts told of; empty when that
// is nothing.
func UsersSee(name string, v component.View) string {
	if !v.Guarded().On() || !goes(v) {
		return ""
	}
	fresh, old, before := component.Tally{}, component.Tally{}, component.Tally{}
	for _, h := range Hosts(name, v) {
		t := told(h, v)
		if t == nil {
			continue
		}
		before = before.Plus(t.Before)
		for _, s := range t.Slots {
			fresh, old = fresh.Plus(s.New), old.Plus(s.Old)
		}
	}
	when := "at the same time"
	if old.Tries == 0 {
		old, when = before, "before"
	}
	if fresh.Tries == 0 {
		return ""
	}
	text := fmt.Sprintf("users saw %s of the new release fail lately, of the one before %s %s", portion(fresh), portion(old), when)
	if fresh.Answers() > 0 && old.Answers() > 0 {
		text += fmt.Sprintf("; 99 of 100 answers took up to %s, before up to %s", short(fresh.P99()), short(old.P99()))
	}
	return text
}

// watched is for how long the rollout is watched once every host serves the release: not at all when it is not
// guarded, or there is nothing to compare it with.
func watched(name string, v component.View) time.Duration {
	policy := v.Guarded()
	if !policy.On() {
		return 0
	}
	compared := slices.ContainsFunc(Hosts(name, v), func(h string) bool {
		t := told(h, v)
		return t != nil && t.Before.Tries > 0
	})
	if !compared {
		return 0
	}
	return policy.Within()
}

// Watches reports whether every host serves the release, and the guard still watches it.
func Watches(name string, v component.View) bool {
	return goes(v) && Done(name, v) && watched(name, v) > 0
}
