package config

import (
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
	if least := s.ReadyWithin() + s.Bake(); r.ProgressDeadline > 0 && time.Duration(r.ProgressDeadline) <= least {
		m.add(at+".progressDeadline", "%s is not longer than what ready checks and bake may take, %s", r.ProgressDeadline, least)
	}
}
