package operator

import (
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// TestRestartedDaemonTellsNothingAgain looks at a host whose daemon is back with what it said before.
func TestRestartedDaemonTellsNothingAgain(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	says := func(failed time.Time) etcdstate.Project {
		return etcdstate.Project{
			Machines: map[string]component.Machine{"h1": {StartedAt: start}},
			Components: map[string]component.View{"web": {Hosts: map[string]component.HostStatus{
				"h1": {Step: component.StepFailed, Restarts: 2, Failure: &component.Failure{Reason: "exit code 3", At: failed}},
			}}},
		}
	}
	old, news := says(start.Add(-time.Minute)), says(start.Add(time.Minute))
	away := old
	away.Machines = nil
	tests := []struct {
		name          string
		before, after etcdstate.Project
		kind          string
		want          bool
	}{
		{"old restarts", etcdstate.Project{}, old, rollout.EventRestart, true},
		{"an old failure", etcdstate.Project{}, old, rollout.EventFailure, true},
		{"a failure of a host that is not back yet", etcdstate.Project{}, away, rollout.EventFailure, true},
		{"a new failure", etcdstate.Project{}, news, rollout.EventFailure, false},
		{"a restart of a host that is there", old, news, rollout.EventRestart, false},
		{"a step", etcdstate.Project{}, old, rollout.EventStep, false},
	}
	for _, tt := range tests {
		if got := Again(rollout.Event{Component: "web", Host: "h1", Kind: tt.kind}, tt.before, tt.after); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
