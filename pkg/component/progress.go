package component

import (
	"slices"
	"strings"
)

// turnOf begins the Detail of a host that waits for the turn of another.
const turnOf = "turn of "

// Awaits is the Detail of st, with holder in place of the host whose turn was waited for when st was written:
// hosts do not write again because it is another's now.
func (st HostStatus) Awaits(holder string) string {
	if st.Step == StepWaiting && strings.HasPrefix(st.Detail, turnOf) {
		return turnOf + holder
	}
	return st.Detail
}

// Status is what a host says, and for whom it waits now.
func (v View) Status(host string) HostStatus {
	st := v.Hosts[host]
	if len(v.Turn.Holders) > 0 {
		st.Detail = st.Awaits(v.Turn.Holders[0])
	}
	return st
}

// Progress says what a host is doing for the wanted state, as HostStatus.Step and Detail, given what
// Next decided. host is its own name.
func Progress(host string, want Desired, have Observed, turn Turn, a Action) (step, detail string) {
	switch want.Status {
	case StatusStopped, StatusKilled:
		if slices.ContainsFunc(have.Containers, func(c Container) bool { return c.Stage < Stopped }) {
			return StepStopping, a.Reason
		}
		return StepStopped, ""
	case StatusReady:
	default:
		return StepIdle, ""
	}
	if r := have.Rollout; r.Generation == want.Generation && r.Status == RolloutHalted {
		switch {
		case r.Host == host:
			return StepFailed, r.Reason
		case have.Primary != "":
			return StepServing, "rollout halted: " + r.Reason
		}
		return StepWaiting, "rollout halted: " + r.Reason
	}
	if r := have.Rollout; r.Generation == want.Generation && slices.Contains(r.Failed, host) {
		return StepFailed, passedOver(have)
	}
	switch a.Verb {
	case RunTask, Prepared:
		return StepPreparing, "pre-deploy task"
	case Fail:
		return StepFailed, a.Reason
	case Pull:
		return StepPulling, ""
	case AwaitTurn:
		if len(turn.Holders) > 0 {
			return StepWaiting, turnOf + turn.Holders[0]
		}
		return StepWaiting, "turn"
	case Wait:
		return waits(have, a)
	case Start, Route:
		return StepStarting, ""
	default:
		if have.Primary == "" {
			return StepStarting, ""
		}
		return StepServing, have.Out
	}
}

// passedOver says why the rollout went on without this host.
func passedOver(have Observed) string {
	if have.Failure != nil {
		return have.Failure.Reason
	}
	return have.Rollout.Reason
}

// waits tells by what is waited for how far the host has come.
func waits(have Observed, a Action) (step, detail string) {
	c := have.container(a.Container)
	switch {
	case a.Task:
		return StepPreparing, a.Reason
	case a.Release != nil:
		return StepPulling, a.Reason
	case c != nil && c.Stage == Starting:
		return StepStarting, a.Reason
	case c != nil && c.Stage == Serving:
		return StepBaking, a.Reason
	}
	return StepWaiting, a.Reason
}
