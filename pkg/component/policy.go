package component

import (
	"maps"
	"slices"
	"time"
)

// Policies of a rollout.
const (
	OnFailureHalt     = "halt"
	OnFailureRollback = "rollback"
	OnLostWait        = "wait"
	OnLostContinue    = "continue"

	// DefaultProgressDeadline is how long nothing may come further in a rollout, besides what ready
	// checks and bake take.
	DefaultProgressDeadline = 10 * time.Minute
)

// ProgressWithin is the longest time in which no host of a rollout comes further.
func (s Spec) ProgressWithin() time.Duration {
	if s.Rollout.ProgressDeadline > 0 {
		return time.Duration(s.Rollout.ProgressDeadline)
	}
	return DefaultProgressDeadline + s.ReadyWithin() + s.Bake()
}

// Spec is the configuration that is wanted: that of the state, or for a state by hand the project's.
func (v View) Spec() Spec {
	switch {
	case v.Desired.Spec != nil:
		return *v.Desired.Spec
	case v.Config != nil:
		return *v.Config
	}
	return Spec{}
}

// Record is the rollout record of the wanted generation; when there is none yet, the one it will have.
func (v View) Record() Rollout {
	if v.Rollout.Generation == v.Desired.Generation {
		return v.Rollout
	}
	return Rollout{Generation: v.Desired.Generation, Status: RolloutProgressing}
}

// Canary is how many of so many hosts change before the others; 0 when all are alike. A rollback does
// not wait for anybody's word: its release has proven itself.
func (v View) Canary(hosts int) int {
	if v.Desired.Source != 0 || v.Record().Promoted != nil {
		return 0
	}
	return v.Spec().Rollout.Canary.Of(hosts)
}

// Waits reports whether the hosts wait for one that is lost in its turn. They do as long as the rollout goes
// on, unless its policy is to continue or it is an automatic rollback: what it takes away may be what the
// host was lost to, and the others are not to stay on it.
func (v View) Waits() bool {
	return v.Record().Status == RolloutProgressing && !v.Desired.Automatic && v.Spec().Rollout.OnHostLost != OnLostContinue
}

// Lost are the hosts besides self that took a turn for an update and were gone before its end, as
// long as they are waited for. One that is drained is not, unless its pre-deploy task may run on.
func (v View) Lost(self string) []string {
	if !v.Waits() {
		return nil
	}
	var lost []string
	for _, h := range slices.Sorted(maps.Keys(v.Changing)) {
		if _, drained := v.Drained[h]; drained && !v.Desired.NeedsTask(v.Rollout) {
			continue
		}
		if h != self && !slices.Contains(v.Turn.Holders, h) {
			lost = append(lost, h)
		}
	}
	return lost
}

// Busy are the hosts besides self that may not be disturbed by one more turn: those with a turn and those
// that were lost in one. A turn to repair, as v.Turn.Repair says, takes nothing away that is sound, and so
// does not wait for lost hosts: nobody knows when they are back.
func (v View) Busy(self string) []string {
	var busy []string
	for _, h := range v.Turn.Holders {
		if h != self {
			busy = append(busy, h)
		}
	}
	if v.Turn.Repair {
		return busy
	}
	return append(busy, v.Lost(self)...)
}

// Forgotten is the record without a host that is gone for good, and whether that is another record than
// there is. Canaries are waited for; who failed is part of the story.
func (v View) Forgotten(host string) (Rollout, bool) {
	r := v.Record()
	if r.Status == RolloutDone || !slices.Contains(r.Canaries, host) {
		return v.Rollout, false
	}
	r.Canaries = slices.DeleteFunc(slices.Clone(r.Canaries), func(h string) bool { return h == host })
	return r, true
}

// Taken is the record once the host has taken a turn for what is wanted, and whether that is another
// record than there is. A turn to repair changes none, and one for the pre-deploy task makes no
// canary. v.Turn says what the turn is for.
func (v View) Taken(host string, now time.Time) (Rollout, bool) {
	r, changed := v.Record(), v.Rollout.Generation != v.Desired.Generation
	if changed {
		r.At = now
	}
	if v.Turn.Repair {
		return v.Rollout, false
	}
	if r.Status == RolloutProgressing && !v.Turn.Task && v.Canary(1) > 0 && !slices.Contains(r.Canaries, host) {
		r.Canaries, changed = append(slices.Clone(r.Canaries), host), true
	}
	return r, changed
}

// Marked reports whether a turn taken now is one for an update, of which a trace stays when its host
// is lost.
func (v View) Marked() bool { return v.Record().Status == RolloutProgressing && !v.Turn.Repair }

// After is the record once a host reported news, and whether that is another record than r. It stays
// when it says more: one of a newer generation or try, or a halt. A failed host is passed over as long
// as no more than maxFailures have failed; not so when the pre-deploy task failed, which is for all of
// them. That it succeeded is added to whatever the record says.
func (r Rollout) After(news Rollout, maxFailures int) (Rollout, bool) {
	switch {
	case r.Generation > news.Generation, r.Generation == news.Generation && r.Attempt > news.Attempt:
		return r, false
	case r.Generation < news.Generation:
		r = Rollout{Generation: news.Generation, Status: RolloutProgressing, At: news.At, Attempt: news.Attempt}
	}
	if news.Prepared != nil { // it is so whatever was said meanwhile
		r.Prepared = news.Prepared
		return r, true
	}
	if r.Status == RolloutHalted && news.Status != RolloutHalted {
		return r, false
	}
	if news.Status == RolloutHalted && news.Host != "" && news.Kind != PreDeployFail {
		failed := slices.Clone(r.Failed)
		if !slices.Contains(failed, news.Host) {
			failed = append(failed, news.Host)
		}
		if len(failed) <= maxFailures && r.Status != RolloutHalted {
			r.Failed, r.Reason, r.Log = failed, news.Reason, news.Log // the last one; status tells all of them
			return r, true
		}
	}
	r.Status, r.Kind, r.Host, r.Reason, r.Log, r.At, r.Paused = news.Status, news.Kind, news.Host, news.Reason, news.Log, news.At, nil
	return r, true
}
