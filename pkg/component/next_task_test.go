package component

import "testing"

// TestFailureOfATaskIsTheTasks: a host whose task failed, and that could not tell, says so in the next turn for the task.
// When another host's task succeeded meanwhile, the update is not to fail of it.
func TestFailureOfATaskIsTheTasks(t *testing.T) {
	want := v2.with(func(s *Spec) { s.PreDeploy.Command = []string{"migrate"} })
	failed := func(kind FailureKind, attempt int) change {
		return func(o *Observed) {
			o.Failure = &Failure{Generation: want.Generation, Attempt: attempt, Kind: kind, Reason: "it broke"}
		}
	}
	progress := func(p *Preparation) change {
		return func(o *Observed) {
			o.Rollout = Rollout{Generation: want.Generation, Status: RolloutProgressing, Prepared: p}
		}
	}
	prepared := &Preparation{Host: "h2"}
	forTask := mine(want)
	forTask.Task = true
	tests := []struct {
		name string
		have Observed
		turn Turn
		verb Verb
		kind FailureKind
	}{
		{"the task failed here, and runs no second time", serving(v1, failed(PreDeployFail, 0), progress(nil)), forTask, Fail, PreDeployFail},
		{"it is tried again by an operator", serving(v1, failed(PreDeployFail, 1), progress(nil)), forTask, RunTask, ""},
		{"another host's task succeeded", serving(v1, failed(PreDeployFail, 0), progress(prepared)), mine(want), Start, ""},
		{"the update failed here", serving(v1, failed(UpdateFail, 0), progress(prepared)), mine(want), Fail, UpdateFail},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if a := Next(want, tt.have, tt.turn); a.Verb != tt.verb || a.Kind != tt.kind {
				t.Errorf("Next = %v %q %q, want %v %q", a.Verb, a.Kind, a.Reason, tt.verb, tt.kind)
			}
		})
	}
}
