package component

import (
	"slices"
	"time"
)

// sweep moves on what is on its way out already. It needs no turn and does not depend on the goal.
func sweep(want Desired, have Observed) Action {
	failed := 0
	for _, c := range slices.Backward(have.Containers) { // newest first
		if c.Failed {
			failed++
		}
		switch {
		case c.Busy:
		case c.Stage == Stopped && (!c.Failed || failed > KeepFailed):
			if c.Running { // it was seen between its creation and its start
				return Action{Verb: Stop, Container: c.ID}
			}
			return Action{Verb: Remove, Container: c.ID}
		case c.Stage == Stopped:
		case c.Stage != Draining && (!c.Failed || c.Stage != Starting):
		case want.Status == StatusKilled:
			return Action{Verb: Kill, Container: c.ID}
		case c.Stage == Starting, c.Conns == 0 && (c.Terminated || expired(want, c, have.Now)):
			return Action{Verb: Stop, Container: c.ID}
		case c.Conns > 0 && expired(want, c, have.Now):
			return Action{Verb: Cut, Container: c.ID}
		}
	}
	return Action{}
}

// retire returns the next step that gets rid of every container but the ones of hash that serve.
func retire(have Observed, how Status, hash string) Action {
	for _, c := range have.Containers {
		switch {
		case c.Busy || c.Stage > Serving:
		case c.ID == have.Primary && c.Hash == hash && hash != "":
		case how == StatusKilled && c.Running:
			return Action{Verb: Kill, Container: c.ID}
		case !c.Running, c.Stage == Starting:
			return Action{Verb: Stop, Container: c.ID}
		default:
			return Action{Verb: Drain, Container: c.ID}
		}
	}
	return Action{}
}

func expired(want Desired, c Container, now time.Time) bool {
	return c.Stage == Draining && want.DrainOver(c.DrainingSince, now)
}

// DrainDeadline is when the connections of a container that drains since the given time are cut, and
// its termination checks are waited for no longer; zero means never.
func (d Desired) DrainDeadline(since time.Time) time.Time {
	if d.Spec == nil || d.Spec.Drain.Timeout == 0 {
		return time.Time{}
	}
	return since.Add(time.Duration(d.Spec.Drain.Timeout))
}

// DrainOver reports whether that time has come.
func (d Desired) DrainOver(since, now time.Time) bool {
	at := d.DrainDeadline(since)
	return !at.IsZero() && !now.Before(at)
}

// drainDeadline is the next time at which some drain is over; zero when never.
func drainDeadline(want Desired, have Observed) time.Time {
	var at time.Time
	for _, c := range have.Containers {
		if c.Stage == Draining && !c.Busy {
			at = earliest(at, want.DrainDeadline(c.DrainingSince))
		}
	}
	return at
}

// retireUnproven clears what is left of a first release that failed. What serves goes on: there is
// nothing better.
func retireUnproven(have Observed) Action {
	for _, c := range have.Containers {
		switch {
		case c.Busy || c.Stage > Serving:
		case c.tookAlong():
			return c.clearAway()
		case !c.Running:
			return Action{Verb: Discard, Container: c.ID, Reason: c.Problem}
		case c.Stage == Starting:
			return Action{Verb: Stop, Container: c.ID}
		case c.ID != have.Primary && have.Primary != "":
			return Action{Verb: Drain, Container: c.ID}
		}
	}
	return Action{}
}
