package component

import "slices"

// KeepReleases is how many of a component's past states are kept with how they ended.
const KeepReleases = 50

// Outcome is how the rollout of a past state ended.
type Outcome string

// The outcomes.
const (
	OutcomeDone       Outcome = "done"       // every host came to it
	OutcomeHalted     Outcome = "halted"     // a host failed, or an operator aborted it; then something else was asked for
	OutcomeRolledBack Outcome = "rolledback" // the state after it went back
	OutcomeSuperseded Outcome = "superseded" // something else was asked for before it came to an end
	OutcomeStopped    Outcome = "stopped"    // it was a stop
	OutcomeKilled     Outcome = "killed"     // it was a kill
	OutcomeOpen       Outcome = "open"       // it is what is asked for now, and its rollout has not ended
)

// A Past is one entry of a component's history: a state that was asked for and how its rollout ended.
type Past struct {
	Generation int64   `json:"generation"`
	Desired    Desired `json:"desired"`
	Rollout    Rollout `json:"rollout,omitzero"` // the record as it was last; zero when no host had begun
	Outcome    Outcome `json:"outcome"`
}

// Ended says how the rollout of d stands, or stood when next took its place; a next without status is
// none. r is the last record, which may be one of an older generation.
func Ended(d Desired, r Rollout, next Desired) Outcome {
	switch d.Status {
	case StatusStopped:
		return OutcomeStopped
	case StatusKilled:
		return OutcomeKilled
	case StatusReady:
	}
	replaced := next.Status != ""
	if replaced && next.Source != 0 {
		return OutcomeRolledBack
	}
	if r.Generation == d.Generation {
		switch r.Status {
		case RolloutDone:
			return OutcomeDone
		case RolloutHalted:
			return OutcomeHalted
		case RolloutProgressing:
		}
	}
	if replaced {
		return OutcomeSuperseded
	}
	return OutcomeOpen
}

// BackFrom chooses what a rollback of now goes to: the newest past state that every host came to and
// that asks for other containers than now does. After a stop or kill the same containers will do.
func BackFrom(now Desired, past []Past) (Past, bool) {
	past = slices.Clone(past)
	slices.SortFunc(past, func(a, b Past) int { return int(b.Generation - a.Generation) })
	for _, p := range past {
		if p.Outcome != OutcomeDone || p.Generation >= now.Generation || p.Desired.lacks() != "" {
			continue
		}
		if now.Status == StatusReady && now.Spec != nil && p.Desired.Release().Hash() == now.Release().Hash() {
			continue
		}
		return p, true
	}
	return Past{}, false
}

// BackTogether chooses what a component goes back to when the release of several that it is part of failed:
// one that was down before is down again. entries are its history, the present first; config is as in
// Past.Back.
func BackTogether(entries []Past, config *Spec) (Desired, bool) {
	if len(entries) < 2 {
		return Desired{}, false
	}
	if d := entries[1].Desired; d.Status == StatusStopped || d.Status == StatusKilled { // nobody's word to cut who is connected
		return Desired{Status: StatusStopped, Command: "rollback", Source: entries[1].Generation}, true
	}
	p, ok := BackFrom(Desired{Generation: entries[0].Generation}, entries[1:]) // also to what needs no other containers
	return p.Back(config), ok
}

// Back is the state that brings the release of p back, to be completed with who asks for it and why. It
// has the settings of config, the stored one if there is any, that need no other container: they were
// changed since, and going back to a release is not to undo them.
func (p Past) Back(config *Spec) Desired {
	spec := p.Desired.Spec
	if spec != nil && config != nil {
		steered := spec.Steered(*config)
		spec = &steered
	}
	return Desired{
		Status: StatusReady, ImageID: p.Desired.ImageID, Image: p.Desired.Image, Spec: spec,
		Restart: p.Desired.Restart, Command: "rollback", Source: p.Generation,
		Prepared: p.Desired.prepared(p.Rollout) || p.Outcome == OutcomeDone,
	}
}
