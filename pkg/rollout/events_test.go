package rollout

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestEvents(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	asked := component.Desired{Generation: 7, Status: component.StatusReady, ImageID: "sha256:aa", By: "ann", Reason: "it is time"}
	base := component.View{Desired: asked, Rollout: component.Rollout{Generation: 7, Status: component.RolloutProgressing}}
	tests := []struct {
		name   string
		before component.View
		edit   func(*component.View)
		want   []string
	}{
		{"nothing", base, func(*component.View) {}, nil},
		{"asked", component.View{}, func(v *component.View) { v.Rollout = component.Rollout{} }, []string{" asked: ann asked for aa: it is time"}},
		{"asked and begun", component.View{}, func(*component.View) {}, []string{" asked: ann asked for aa: it is time", " begun: its rollout begins"}},
		{"a turn", base, func(v *component.View) { v.Turn.Holders = []string{"h1"} }, []string{"h1 turn: has a turn"}},
		{"a task", base, func(v *component.View) { v.Turn.Holders, v.Turn.Tasker = []string{"h1"}, "h1" }, []string{"h1 turn: has the turn for the pre-deploy task"}},
		{"a turn ends", component.View{Desired: asked, Rollout: base.Rollout, Turn: component.Turn{Holders: []string{"h1"}}}, func(*component.View) {}, []string{"h1 turn-ended: ended its turn"}},
		{
			"a host is lost",
			component.View{Desired: asked, Rollout: base.Rollout, Turn: component.Turn{Holders: []string{"h1"}}},
			func(v *component.View) { v.Changing = map[string]int64{"h1": 3} },
			[]string{"h1 turn-ended: was lost in its turn"},
		},
		{"prepared and paused", base, func(v *component.View) {
			v.Rollout.Prepared, v.Rollout.Paused = &component.Preparation{Host: "h2"}, &component.Word{By: "bob"}
		}, []string{"h2 prepared: the pre-deploy task succeeded", " paused: paused by bob"}},
		{"halted", base, func(v *component.View) {
			v.Rollout.Status, v.Rollout.Host, v.Rollout.Reason = component.RolloutHalted, "h1", "host h1: not ready"
		}, []string{"h1 halted: host h1: not ready"}},
		{"done, one passed over", base, func(v *component.View) {
			v.Rollout.Status, v.Rollout.Failed, v.Rollout.Reason = component.RolloutDone, []string{"h1"}, "not ready"
		}, []string{"h1 passed-over: failed and is passed over: not ready", " done: done, but passed over h1"}},
		{"steps", base, func(v *component.View) {
			v.Hosts = map[string]component.HostStatus{
				"h1": {Step: component.StepServing, Restarts: 1},
				"h2": {Step: component.StepFailed, Detail: "exit code 3", Failure: &component.Failure{Reason: "exit code 3", At: now}},
			}
		}, []string{"h1 restart: replaces a broken container", "h1 step: serving", "h2 failure: exit code 3", "h2 step: failed: exit code 3"}},
	}
	for _, tt := range tests {
		after := base
		tt.edit(&after)
		var got []string
		for _, e := range Events("web", tt.before, after, now) {
			got = append(got, fmt.Sprintf("%s %s: %s", e.Host, e.Kind, e.Text))
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
	hosts := HostEvents(map[string]component.Machine{"h1": {}}, map[string]component.Machine{"h2": {}}, now)
	if len(hosts) != 2 || hosts[0].Kind != EventHostUp || hosts[0].Host != "h2" || hosts[1].Kind != EventHostDown || hosts[1].Host != "h1" {
		t.Errorf("events of hosts = %+v", hosts)
	}
}

// TestRestartedDaemonHasNoNews: its status is gone with its lease, and comes again.
func TestRestartedDaemonHasNoNews(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	says := func(at time.Time) component.View {
		return component.View{Hosts: map[string]component.HostStatus{
			"h1": {Step: component.StepFailed, Target: 7, Restarts: 2, Failure: &component.Failure{Reason: "exit code 3", At: at}},
		}}
	}
	looks := []struct {
		v    component.View
		want int
	}{{says(at), 3}, {component.View{}, 0}, {component.View{}, 0}, {says(at), 0}, {says(at.Add(time.Second)), 1}}
	var before component.View
	for i, look := range looks {
		if got := Events("web", before, look.v, at); len(got) != look.want {
			t.Errorf("look %d: %+v, want %d events", i, got, look.want)
		}
		before = Seen(before, look.v)
	}
	if len(looks[1].v.Hosts) != 0 {
		t.Error("Seen changed what it was given")
	}
}
