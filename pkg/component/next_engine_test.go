package component

import (
	"testing"
	"time"
)

// What ends because Docker Engine does is started anew; it is no failure of its release.
func TestNextAfterTheEngineEnded(t *testing.T) {
	old := Release{Generation: 1, ImageID: "a", Spec: Spec{Name: "web"}}
	want := Desired{Status: StatusReady, Generation: 2, ImageID: "b", Spec: &Spec{Name: "web"}}
	now := time.Unix(1000, 0)
	gone := func(id string, r Release, s Stage) Container {
		return Container{ID: id, Hash: r.Hash(), Stage: s, StageSince: now.Add(-time.Hour), Problem: "Exited (137)", WithEngine: true}
	}
	was, fresh := gone("old", old, Serving), gone("new", want.Release(), Starting)
	runs := was
	runs.Running, runs.WithEngine, runs.Health = true, false, Healthy
	crashed := fresh
	crashed.WithEngine = false
	base := Observed{
		Now: now, Host: "h1", Primary: "old", Proven: &old, Served: true,
		Images:  map[string]ImageState{"a": {Present: true}, "b": {Present: true}},
		Rollout: Rollout{Generation: 2, Status: RolloutProgressing},
	}
	with := func(cs ...Container) Observed { o := base; o.Containers = cs; return o }
	first := with(fresh)
	first.Proven, first.Served, first.Primary = nil, false, ""
	halted := with(was)
	halted.Rollout.Status = RolloutHalted
	halted.Restarts = Restarts{Count: 5, Last: now}
	mine, waits := Turn{State: TurnMine, Generation: 2}, Turn{}
	tests := []struct {
		name      string
		have      Observed
		turn      Turn
		verb      Verb
		container string
	}{
		{"in its turn, the one that served is cleared away first", with(was, fresh), mine, Stop, "old"},
		{"then it is started again, before the new one", with(fresh), mine, Start, ""},
		{"then the new one is cleared away", with(runs, fresh), mine, Stop, "new"},
		{"and started again", with(runs), mine, Start, ""},
		{"one that crashed fails the turn", with(runs, crashed), mine, Fail, "new"},
		{"a first release is cleared away", first, mine, Stop, "new"},
		{"a first release, without a turn", first, waits, Stop, "new"},
		{"a turn that was lost in the middle leaves no failure behind", with(runs, fresh), waits, Stop, "new"},
		{"what served before a halt is cleared away", halted, waits, Stop, "old"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := Next(want, tt.have, tt.turn)
			if a.Verb != tt.verb || a.Container != tt.container {
				t.Errorf("Next = %v %q %q, want %v %q", a.Verb, a.Container, a.Reason, tt.verb, tt.container)
			}
		})
	}
	if a := Next(want, with(fresh), mine); a.Release == nil || a.Release.ImageID != "a" {
		t.Errorf("starts %+v, want the release that served", a.Release)
	}
}
