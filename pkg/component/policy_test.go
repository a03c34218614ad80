package component

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestShare(t *testing.T) {
	tests := []struct {
		json  string
		share Share
		of10  int
	}{
		{"0", 0, 0}, {"3", 3, 3}, {`"25%"`, -25, 2}, {`"1%"`, -1, 1}, {`"100%"`, -100, 10},
	}
	for _, tt := range tests {
		var s Share
		if err := json.Unmarshal([]byte(tt.json), &s); err != nil || s != tt.share || s.Of(10) != tt.of10 {
			t.Errorf("%s becomes %d (%v), of 10 hosts %d", tt.json, s, err, s.Of(10))
		}
		if b, err := json.Marshal(s); err != nil || string(b) != tt.json {
			t.Errorf("%d becomes %s (%v)", s, b, err)
		}
	}
	for _, bad := range []string{"-1", "1.5", `"0%"`, `"101%"`, `"x"`, `""`, `"-3"`, "true", "[]"} {
		var s Share
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s is taken as %d", bad, s)
		}
	}
	var s Share
	if err := s.UnmarshalText([]byte("2")); err != nil || s != 2 {
		t.Errorf("text 2 becomes %d, %v", s, err)
	}
}

func TestAfter(t *testing.T) {
	failed := Rollout{Generation: 2, Status: RolloutHalted, Kind: UpdateFail, Host: "h1", Reason: "bad", Log: []string{"l"}}
	going := Rollout{Generation: 2, Status: RolloutProgressing, Canaries: []string{"h1"}, Paused: &Word{By: "x"}}
	over := func(failed ...string) Rollout {
		return Rollout{Generation: 2, Status: RolloutProgressing, Failed: failed}
	}
	halt := going
	halt.Status, halt.Kind, halt.Host, halt.Reason, halt.Log, halt.Paused = RolloutHalted, UpdateFail, "h1", "bad", []string{"l"}, nil
	retried := over()
	retried.Attempt = 1
	tests := []struct {
		name        string
		record      Rollout
		news        Rollout
		maxFailures int
		want        Rollout
		changed     bool
	}{
		{"a failure halts", going, failed, 0, halt, true},
		{"a failure of the first host", Rollout{}, failed, 0, failed, true},
		{"a failure after an older generation", Rollout{Generation: 1, Status: RolloutDone}, failed, 0, failed, true},
		{"a failure of an older generation", Rollout{Generation: 3}, failed, 0, Rollout{Generation: 3}, false},
		{"a failure of an earlier try", retried, failed, 0, retried, false},
		{"one may fail", over(), failed, 1, Rollout{Generation: 2, Status: RolloutProgressing, Failed: []string{"h1"}, Reason: "bad", Log: []string{"l"}}, true},
		{"the same one fails again", over("h1"), failed, 1, Rollout{Generation: 2, Status: RolloutProgressing, Failed: []string{"h1"}, Reason: "bad", Log: []string{"l"}}, true},
		{"one too many", over("h2"), failed, 1, Rollout{Generation: 2, Status: RolloutHalted, Kind: UpdateFail, Host: "h1", Reason: "bad", Log: []string{"l"}, Failed: []string{"h2"}}, true},
		{"nothing undoes a halt", halt, over(), 0, halt, false},
		{"a second failure", halt, failed, 3, halt, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, changed := tt.record.After(tt.news, tt.maxFailures)
			if d := cmp.Diff(tt.want, got); d != "" || changed != tt.changed {
				t.Errorf("changed %t (-want +got):\n%s", changed, d)
			}
		})
	}
}

func TestTaken(t *testing.T) {
	now := time.Unix(9, 0)
	v := View{Desired: Desired{Status: StatusReady, Generation: 2, Spec: &Spec{}}}
	r, changed := v.Taken("h1", now)
	if d := cmp.Diff(Rollout{Generation: 2, Status: RolloutProgressing, At: now}, r); d != "" || !changed || !v.Marked() {
		t.Errorf("first turn (-want +got):\n%s", d)
	}
	v.Rollout = r
	if _, changed = v.Taken("h2", now); changed {
		t.Error("a second turn changes the record")
	}
	v.Desired.Spec.Rollout.Canary = 1
	if r, changed = v.Taken("h2", now); !changed || !cmp.Equal(r.Canaries, []string{"h2"}) || v.Rollout.Canaries != nil {
		t.Errorf("turn of a canary: %+v", r)
	}
	v.Rollout.Status = RolloutDone
	if _, changed = v.Taken("h3", now); changed || v.Marked() {
		t.Error("a turn to repair changes the record or leaves a trace")
	}
}

func TestBusy(t *testing.T) {
	lost := View{
		Desired:  Desired{Status: StatusReady, Generation: 2, Spec: &Spec{}},
		Rollout:  Rollout{Generation: 2, Status: RolloutProgressing},
		Changing: map[string]int64{"h1": 1, "h2": 1, "h3": 1},
		Turn:     Turn{Holders: []string{"h2", "h4"}},
	}
	with := func(f func(*View)) View { v := lost; f(&v); return v }
	tests := []struct {
		name string
		view View
		want []string // for host h4
	}{
		{"those with a turn and those lost in one", lost, []string{"h2", "h1", "h3"}},
		{"a repair waits for those with a turn only", with(func(v *View) { v.Turn.Repair = true }), []string{"h2"}},
		{"a rollout that halted waits for nobody", with(func(v *View) { v.Rollout.Status = RolloutHalted }), []string{"h2"}},
		{"lost hosts do not matter", with(func(v *View) { v.Desired.Spec = &Spec{Rollout: RolloutPolicy{OnHostLost: OnLostContinue}} }), []string{"h2"}},
	}
	for _, tt := range tests {
		if d := cmp.Diff(tt.want, tt.view.Busy("h4")); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

func TestForgotten(t *testing.T) {
	going := Rollout{Generation: 2, Status: RolloutProgressing, Canaries: []string{"h1", "h2"}, Failed: []string{"h1"}, Attempt: 1}
	without := going
	without.Canaries = []string{"h2"}
	with := func(r Rollout, f func(*Rollout)) Rollout { f(&r); return r }
	halt := func(r *Rollout) { r.Status = RolloutHalted }
	tests := []struct {
		name    string
		record  Rollout
		host    string
		want    Rollout
		changed bool
	}{
		{"a canary", going, "h1", without, true},
		{"a canary of what halted, for a new try", with(going, halt), "h1", with(without, halt), true},
		{"another host", going, "h3", going, false},
		{"what is done stays", with(going, func(r *Rollout) { r.Status = RolloutDone }), "h1", with(going, func(r *Rollout) { r.Status = RolloutDone }), false},
		{"an older record stays", with(going, func(r *Rollout) { r.Generation = 1 }), "h1", with(going, func(r *Rollout) { r.Generation = 1 }), false},
	}
	for _, tt := range tests {
		v := View{Desired: Desired{Status: StatusReady, Generation: 2}, Rollout: tt.record}
		got, changed := v.Forgotten(tt.host)
		if d := cmp.Diff(tt.want, got); d != "" || changed != tt.changed {
			t.Errorf("%s: changed %t (-want +got):\n%s", tt.name, changed, d)
		}
	}
	if len(going.Canaries) != 2 {
		t.Error("the record that was given changed")
	}
}

func TestProgressWithin(t *testing.T) {
	bake := Duration(time.Minute)
	if got := (Spec{Rollout: RolloutPolicy{Bake: &bake}}).ProgressWithin(); got != 11*time.Minute+10*time.Second {
		t.Errorf("default = %v", got)
	}
	if got := (Spec{Rollout: RolloutPolicy{ProgressDeadline: Duration(time.Minute)}}).ProgressWithin(); got != time.Minute {
		t.Errorf("set = %v", got)
	}
}

func TestNextPolicies(t *testing.T) {
	old := Release{Generation: 1, ImageID: "a", Spec: Spec{Name: "web"}}
	want := Desired{Status: StatusReady, Generation: 2, ImageID: "b", Spec: &Spec{Name: "web"}}
	now := time.Unix(1000, 0)
	serving := Container{ID: "c1", Hash: old.Hash(), Stage: Serving, Running: true, Ready: true, Health: Healthy, StageSince: now.Add(-time.Hour)}
	base := Observed{
		Now: now, Host: "h1", Containers: []Container{serving}, Primary: "c1", Proven: &old, Served: true,
		Images:  map[string]ImageState{"a": {Present: true}, "b": {Present: true}},
		Rollout: Rollout{Generation: 2, Status: RolloutProgressing},
	}
	mine := Turn{State: TurnMine, Generation: 2}
	sick := serving
	sick.Health = Unhealthy
	with := func(f func(*Observed)) Observed { o := base; f(&o); return o }
	tests := []struct {
		name   string
		have   Observed
		turn   Turn
		verb   Verb
		reason string
	}{
		{"a turn may be taken", base, Turn{}, AwaitTurn, "update"},
		{"something is in the way", with(func(o *Observed) { o.Hold = "paused by ann" }), Turn{}, Wait, "paused by ann"},
		{"a sick container is replaced in a pause", with(func(o *Observed) { o.Hold = "paused"; o.Containers = []Container{sick} }), Turn{}, AwaitTurn, "replace the unhealthy container"},
		{"a turn to repair starts the release before", with(func(o *Observed) { o.Hold = "paused"; o.Containers = []Container{sick} }), Turn{State: TurnMine, Generation: 2, Repair: true}, Start, ""},
		{"a turn to repair ends when all is sound", with(func(o *Observed) { o.Hold = "paused" }), Turn{State: TurnMine, Generation: 2, Repair: true}, Yield, ""},
		{"a pause does not stop a host in its turn", with(func(o *Observed) { o.Hold = "paused by ann" }), mine, Start, ""},
		{"it was passed over", with(func(o *Observed) { o.Rollout.Failed = []string{"h1"} }), Turn{}, Wait, "this host failed; the rollout passed it over"},
		{"it was passed over, and the rollout is done", with(func(o *Observed) { o.Rollout.Failed, o.Rollout.Status = []string{"h1"}, RolloutDone }), Turn{}, Wait, "this host failed; the rollout passed it over"},
		{"another was passed over", with(func(o *Observed) { o.Rollout.Failed = []string{"h2"} }), Turn{}, AwaitTurn, "update"},
		{"passed over with a turn", with(func(o *Observed) { o.Rollout.Failed = []string{"h1"} }), mine, Yield, ""},
		{"it failed, and could not tell", with(func(o *Observed) { o.Failure = &Failure{Generation: 2, Reason: "bad"} }), mine, Fail, "bad"},
		{"it failed in an earlier try", with(func(o *Observed) { o.Failure, o.Rollout.Attempt = &Failure{Generation: 2, Reason: "bad"}, 1 }), mine, Start, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := Next(want, tt.have, tt.turn)
			if a.Verb == Start && (a.Release.Generation == 1) != tt.turn.Repair || a.Verb == AwaitTurn && a.Repair != (tt.have.Hold != "") {
				t.Errorf("Next = %+v", a)
			}
			if a.Verb != tt.verb || a.Reason != tt.reason {
				t.Errorf("Next = %v %q, want %v %q", a.Verb, a.Reason, tt.verb, tt.reason)
			}
		})
	}
}
