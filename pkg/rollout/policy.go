package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// goes reports whether the rollout of what is wanted goes on: it neither halted nor ended.
func goes(v component.View) bool {
	return v.Desired.Status == component.StatusReady && v.Desired.Generation != 0 && v.Record().Status == component.RolloutProgressing
}

// fleet counts the hosts of the component that are in service, those that were lost in a turn too.
func fleet(name string, v component.View) int {
	n := 0
	for h, m := range v.Machines {
		if slices.Contains(m.Components, name) && !v.Skips(h) {
			n++
		}
	}
	for h := range v.Changing {
		if m, ok := v.Machines[h]; (!ok || !slices.Contains(m.Components, name)) && !v.Skips(h) {
			n++
		}
	}
	return n
}

// of is how many hosts of the component s is. To count them all takes long in a big fleet.
func of(s component.Share, name string, v component.View) int {
	if s >= 0 {
		return s.Of(0)
	}
	return s.Of(fleet(name, v))
}

// canariesOf is how many hosts change before the others; 0 when all are alike.
func canariesOf(name string, v component.View) int {
	if v.Spec().Rollout.Canary == 0 {
		return 0
	}
	return v.Canary(fleet(name, v))
}

// Hosts of a fleet of no more than few need not be patient.
const few = 8

// Patience is the time over which the hosts of a fleet spread what all of them would else do at once, when
// another's turn begins or ends: to look whether it is theirs now. The one that looks first has it, so the
// longer the queue, the less of it passes.
func Patience(v component.View) time.Duration {
	if len(v.Machines) <= few {
		return 0
	}
	return time.Duration(len(v.Machines)) * time.Millisecond
}

// Slots is the number of hosts that may change at the same time, at least 1.
func Slots(name string, v component.View) int {
	return max(1, of(v.Spec().Rollout.MaxParallel, name, v))
}

// SlotsFor is how many turns may be taken when host takes one for what a says. One for the pre-deploy task is
// the only one. It disturbs nobody, so a repair does not wait for it.
func SlotsFor(name, host string, v component.View, a component.Action) int {
	switch n := Slots(name, v); {
	case a.Task:
		return 1
	case a.Repair && v.Turn.Tasker != "" && v.Turn.Tasker != host:
		return n + 1
	default:
		return n
	}
}

// Awaited reports whether the other hosts wait for this one, which took a turn and has not ended it, should
// it be lost.
func Awaited(host string, v component.View) bool {
	_, marked := v.Changing[host]
	return marked && v.Waits()
}

// Hold says why host is not to take a turn for an update now, although one may be free; empty when it
// may. That all turns are taken is no such reason: it ends by itself.
func Hold(name, host string, v component.View) string {
	if out := Out(host, v); out != "" && (!v.Desired.NeedsTask(v.Rollout) || !Awaited(host, v)) { // it ends what it began
		return out
	}
	if !goes(v) {
		return ""
	}
	r := v.Record()
	if r.Paused != nil {
		return "paused by " + word(*r.Paused)
	}
	if follows(v) {
		return "component " + v.Desired.Follows + " comes first"
	}
	if n, canaries := canariesOf(name, v), canariesThatCount(v); n > 0 && len(canaries) >= n && !slices.Contains(r.Canaries, host) {
		if AwaitsPromotion(name, v) {
			return "the canaries serve: waits for promote"
		}
		return "canaries first: waits for " + strings.Join(canaries, ", ")
	}
	v.Turn.Repair = false // what is asked is whether an update may begin
	slots, task := Slots(name, v), v.Desired.NeedsTask(v.Rollout)
	if task {
		slots = 1
	}
	if lost := v.Lost(host); len(lost) > 0 && len(v.Busy(host)) >= slots {
		return "host " + strings.Join(lost, ", ") + " was lost in its turn: waits until it is back, or forgotten"
	}
	if t := v.Turn.Tasker; task && t != "" && t != host {
		return "pre-deploy task on " + t
	}
	return ""
}

func word(w component.Word) string {
	if w.Reason == "" {
		return w.By
	}
	return w.By + ": " + w.Reason
}

// serves reports whether the host has brought what is wanted up.
func serves(host string, v component.View) bool {
	st := v.Hosts[host]
	return st.Generation == v.Desired.Generation && st.Step == component.StepServing
}

// AwaitsPromotion reports whether the canaries are done and the other hosts wait for a word.
func AwaitsPromotion(name string, v component.View) bool {
	r, n := v.Record(), canariesOf(name, v)
	canaries := canariesThatCount(v)
	if n == 0 || !goes(v) || len(canaries) < n {
		return false
	}
	return !slices.ContainsFunc(canaries, func(h string) bool { return !serves(h, v) && !slices.Contains(r.Failed, h) })
}

// canariesThatCount are the canaries but those that were drained before they served it: others take their place.
// Who does not hear the words of all hosts leaves that to those who do.
func canariesThatCount(v component.View) []string {
	r := v.Record()
	return slices.DeleteFunc(slices.Clone(r.Canaries), func(h string) bool {
		return !v.Partial && v.Skips(h) && !serves(h, v) && !slices.Contains(r.Failed, h)
	})
}

// Mark is the same for two views between which the rollout came no further: no host was done, none
// had another's turn, and nobody said anything. Once every host serves, what is left is the watch: repairs and words that
// change nothing do not begin it anew.
func Mark(name string, v component.View) string {
	r := v.Record()
	if Done(name, v) {
		return fmt.Sprint(v.Desired.Generation, r.Attempt, r.Failed, "served")
	}
	var done []string
	for _, h := range Awaits(name, v) {
		if serves(h, v) {
			done = append(done, h)
		}
	}
	holders := slices.Sorted(slices.Values(v.Turn.Holders))
	return fmt.Sprint(v.Desired.Generation, r.Status, r.Attempt, r.Paused != nil, r.Promoted != nil, r.Prepared != nil, r.Begun, r.Canaries, r.Failed, done, holders)
}

// SteadyFor is how long the same hosts must have run before what all of them failed at halts: a host whose
// daemon starts anew, or whose lease ended for a moment, is back before.
const SteadyFor = 30 * time.Second

// Waited is for how long things have been as they are, as the host that judges has seen it.
type Waited struct {
	Mark  time.Duration // the rollout has had the same Mark
	Hosts time.Duration // the same Hosts run the component
}

// Judge returns the record to write about the rollout, if any, after things have been as they are for so
// long: it is done, and was watched; its canaries are promoted, or it comes no further and halts.
func Judge(name string, v component.View, waited Waited) (component.Rollout, bool) {
	if Done(name, v) {
		r := v.Record()
		if waited.Mark < watched(name, v) {
			return component.Rollout{}, false
		}
		r.Status, r.Paused = component.RolloutDone, nil
		return r, true
	}
	if r := v.Record(); goes(v) && allFailed(name, v) && waited.Hosts >= SteadyFor {
		r.Status, r.Kind, r.Paused = component.RolloutHalted, component.UpdateFail, nil
		r.Reason = "every host failed: " + r.Reason
		return r, true
	}
	limit, by := deadline(name, v)
	if limit == 0 || waited.Mark < limit {
		return component.Rollout{}, false
	}
	r := v.Record()
	if by == forPromotion {
		r.Promoted = &component.Word{By: "autoPromote", Reason: "the canaries served for " + limit.String()}
		return r, true
	}
	r.Status, r.Kind = component.RolloutHalted, component.UpdateFail
	r.Reason = "no progress for " + limit.String() + ": " + strings.Join(behind(name, v), "; ")
	return r, true
}

// allFailed reports whether there are hosts, and all of them were passed over.
func allFailed(name string, v component.View) bool {
	hosts := Awaits(name, v)
	return len(hosts) > 0 && !slices.ContainsFunc(hosts, func(h string) bool { return !slices.Contains(v.Record().Failed, h) })
}

// Due is how much longer things may stay as they are until Judge, which says nothing now, has something to
// say; 0 when it will not.
func Due(name string, v component.View, waited Waited) time.Duration {
	var due time.Duration
	if Done(name, v) {
		return max(0, watched(name, v)-waited.Mark)
	}
	if limit, _ := deadline(name, v); limit > 0 {
		due = limit - waited.Mark
	}
	if left := SteadyFor - waited.Hosts; goes(v) && allFailed(name, v) && (due == 0 || left < due) {
		due = left
	}
	return due
}

type purpose int

const (
	forProgress purpose = iota
	forPromotion
)

func deadline(name string, v component.View) (time.Duration, purpose) {
	switch {
	case !goes(v), v.Record().Paused != nil, follows(v), len(Awaits(name, v)) == 0:
		return 0, forProgress
	case AwaitsPromotion(name, v):
		return time.Duration(v.Spec().Rollout.AutoPromote), forPromotion
	}
	if v.Desired.NeedsTask(v.Rollout) {
		return v.Spec().ProgressWithin() + v.Spec().PreDeploy.Within(), forProgress
	}
	return v.Spec().ProgressWithin(), forProgress
}

// behind says of each host that is not done what it waits for.
func behind(name string, v component.View) []string {
	var out []string
	for _, h := range v.Lost("") {
		out = append(out, "host "+h+" was lost in its turn")
	}
	for _, h := range Awaits(name, v) {
		st := v.Status(h)
		switch {
		case serves(h, v), slices.Contains(v.Record().Failed, h):
		case st.Step == "":
			out = append(out, "host "+h+" says nothing")
		case st.Detail == "":
			out = append(out, "host "+h+": "+st.Step)
		default:
			out = append(out, "host "+h+": "+st.Step+": "+st.Detail)
		}
	}
	return out
}

// TryBackFor is how long a host tries to write an automatic rollback that the store refuses.
const TryBackFor = time.Minute

// Stays is the record of a rollout that halted and is not rolled back, because of why.
func Stays(v component.View, why string) component.Rollout {
	r := v.Rollout
	r.Stays, r.Reason = true, r.Reason+"; "+why
	return r
}

// GoesBack reports whether the rollout halted and the last good release is to be brought back: its policy says
// so, and there is something to bring back, or it is one of several that are one release. A rollback that
// fails halts.
func GoesBack(v component.View) bool {
	asked := v.Spec().Rollout.OnFailure == component.OnFailureRollback && v.Rollout.Kind != component.Skipped || len(v.Desired.Together) > 0
	return v.Desired.Status == component.StatusReady && v.Desired.Source == 0 && v.Desired.Generation != 0 &&
		v.Rollout.Generation == v.Desired.Generation && v.Rollout.Status == component.RolloutHalted && !v.Rollout.Stays && asked
}

// Returned are the hosts that took a turn, were gone before its end, and have no turn now.
func Returned(v component.View, host string) (revision int64, ok bool) {
	revision, ok = v.Changing[host]
	return revision, ok && !slices.Contains(v.Turn.Holders, host)
}

// LostHosts are the hosts that components wait for: those that were lost in a turn, and canaries whose daemon
// does not run.
func LostHosts(views map[string]component.View) map[string][]string {
	out := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(views)) {
		v := views[name]
		lost := lostCanaries(v)
		for h := range v.Changing {
			if !slices.Contains(v.Turn.Holders, h) && !slices.Contains(lost, h) && (!v.Skips(h) || slices.Contains(v.Lost(""), h)) {
				lost = append(lost, h)
			}
		}
		for _, h := range lost {
			out[h] = append(out[h], name)
		}
	}
	return out
}

// lostCanaries are the canaries that are waited for and whose daemon does not run.
func lostCanaries(v component.View) []string {
	if !goes(v) || v.Canary(1) == 0 {
		return nil
	}
	var lost []string
	for _, h := range v.Record().Canaries {
		if _, alive := v.Machines[h]; !alive && !slices.Contains(v.Record().Failed, h) && !v.Skips(h) {
			lost = append(lost, h)
		}
	}
	return lost
}
