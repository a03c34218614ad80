package component

import "testing"

func TestProgress(t *testing.T) {
	ready := Desired{Status: StatusReady, Generation: 7}
	halted := Rollout{Generation: 7, Status: RolloutHalted, Host: "h2", Reason: "host h2: crashed"}
	starting, serving := Container{ID: "new", Stage: Starting}, Container{ID: "new", Stage: Serving}
	tests := []struct {
		name         string
		want         Desired
		have         Observed
		turn         Turn
		act          Action
		step, detail string
	}{
		{"nobody asked for anything", Desired{}, Observed{}, Turn{}, Action{}, StepIdle, ""},
		{"a draining container is on its way down", Desired{Status: StatusStopped}, Observed{Containers: []Container{{Stage: Draining}}}, Turn{}, Action{}, StepStopping, ""},
		{"a kept failed container does not keep it from being stopped", Desired{Status: StatusKilled}, Observed{Containers: []Container{{Stage: Stopped}}}, Turn{}, Action{}, StepStopped, ""},
		{"the host that failed says so, though the old one serves", ready, Observed{Rollout: halted, Primary: "old"}, Turn{}, Action{Verb: Nothing}, StepFailed, halted.Reason},
		{"waits for the holder of the turn", ready, Observed{Primary: "old"}, Turn{Holders: []string{"h1"}}, Action{Verb: AwaitTurn}, StepWaiting, "turn of h1"},
		{"a repair does not wait for what is in the way of an update", ready, Observed{Primary: "old", Hold: "host h3 was lost"}, Turn{}, Action{Verb: AwaitTurn, Repair: true}, StepWaiting, "turn"},
		{"pulls", ready, Observed{}, Turn{}, Action{Verb: Wait, Release: &Release{}, Reason: "pull of the image"}, StepPulling, "pull of the image"},
		{"a starting container waits for its checks", ready, Observed{Containers: []Container{starting}}, Turn{}, Action{Verb: Wait, Container: "new", Reason: "ready checks"}, StepStarting, "ready checks"},
		{"a serving container bakes", ready, Observed{Containers: []Container{serving}}, Turn{}, Action{Verb: Wait, Container: "new", Reason: "bake"}, StepBaking, "bake"},
		{"a missing link is waited for", ready, Observed{}, Turn{}, Action{Verb: Wait, Reason: "component link"}, StepWaiting, "component link"},
		{"draining the old one is serving", ready, Observed{Primary: "new"}, Turn{}, Action{Verb: Drain}, StepServing, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			step, detail := Progress("h2", tt.want, tt.have, tt.turn, tt.act)
			if step != tt.step || detail != tt.detail {
				t.Errorf("Progress = %q, %q, want %q, %q", step, detail, tt.step, tt.detail)
			}
		})
	}
	if step, detail := Progress("h1", ready, Observed{Rollout: halted, Primary: "old"}, Turn{}, Action{Verb: Wait}); step != StepServing || detail == "" {
		t.Errorf("another host's halt: Progress = %q, %q, want serving with the reason", step, detail)
	}
}
