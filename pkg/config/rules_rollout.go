package config

import (
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// policy checks what a rollout does when it fails, comes no further or loses a host.
func (m *mistakes) policy(at string, s component.Spec) {
	r := s.Rollout
	m.oneOf(at+".onFailure", r.OnFailure, component.OnFailureHalt, component.OnFailureRollback)
	m.oneOf(at+".onHostLost", r.OnHostLost, component.OnLostWait, component.OnLostContinue)
	if r.MaxFailures < 0 {
		m.add(at+".maxFailures", "%d is out of range: at least 0", r.MaxFailures)
	}
	if r.AutoPromote > 0 && r.Canary == 0 {
		m.add(at+".autoPromote", "there are no canaries to promote: give canary as well")
	}
	m.guard(at+".guard", s)
	if least := s.ReadyWithin() + s.Bake(); r.ProgressDeadline > 0 && time.Duration(r.ProgressDeadline) <= least {
		m.add(at+".progressDeadline", "%s is not longer than what ready checks and bake may take, %s", r.ProgressDeadline, least)
	}
}

// guard checks whether there is something to judge a release by.
func (m *mistakes) guard(at string, s component.Spec) {
	g := s.Rollout.Guard
	if g.Watch > 0 && !g.On() {
		m.add(at+".watch", "there is nothing to watch: give errors, latencyP99 or both as well")
	}
	if g.On() && len(s.Ports)+len(s.DefineComponentLinks) == 0 {
		m.add(at, "the component has neither ports nor links: the proxy sees nothing of what its users see")
	}
	http := slices.ContainsFunc(s.Ports, func(p component.Port) bool { return p.Kind == component.KindHTTP })
	if g.LatencyP99 > 0 && !http {
		m.add(at+".latencyP99", "no port is of kind http: only of requests is it known how long they took")
	}
}
