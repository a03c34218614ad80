package rollout

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestWhy(t *testing.T) {
	now := time.Unix(1000, 0)
	asked := func(v *component.View) {
		v.Desired.By, v.Desired.At, v.Desired.Reason = "ann", now.Add(-time.Minute), "new logo"
		v.Desired.ImageID, v.Desired.Image.Ref = "sha256:0123456789abcdef", "web:2"
	}
	says := func(st component.HostStatus) func(*component.View) {
		return func(v *component.View) { v.Hosts["h1"] = st }
	}
	tests := []struct {
		name string
		view component.View
		host string
		want string
	}{
		{"nothing", component.View{}, "", "Nobody has asked for anything of web yet."},
		{"not readable", component.View{DesiredErr: errors.New("bad")}, "", "What is asked for of web cannot be read, so hosts keep what they had: bad."},
		{"stopped", rollingView(asked, want(component.StatusStopped)), "h9", "ann asked for web to be stopped (generation 2), 1m0s ago, because: new logo. Host h9 has no daemon that runs; hosts that have are h1, h2, h3."},
		{
			"it waits for its turn", rollingView(asked, holders("h2"), says(component.HostStatus{Step: component.StepWaiting, Detail: "turn of h2"})), "h1",
			"ann asked for web:2 (0123456789ab) of web (generation 2), 1m0s ago, because: new logo. Its rollout goes on; it is the turn of h2. Host h1 is waiting (turn of h2).",
		},
		{"it halted", rollingView(record(2, component.RolloutHalted), rec(func(r *component.Rollout) { r.Reason = "host h2: 503" })), "h4", "halted, so no other host begins: host h2: 503."},
		{"it is paused", rollingView(rec(paused)), "h1", "Its rollout goes on, but is paused by ann: lunch."},
		{"canaries first", rollingView(canary(1), canaries("h2")), "h1", "the canaries first: h2."},
		{"a host was lost", rollingView(changing("h4")), "", "Its rollout goes on, but waits for h4, lost in its turn. Host h1 is waiting. Host h2 is waiting. Host h3 is waiting. Host h4 was lost in its turn: its daemon does not run."},
		{"hosts were passed over", rollingView(record(2, component.RolloutDone), rec(func(r *component.Rollout) { r.Failed, r.Reason = []string{"h1"}, "bad" })), "h2", "Its rollout is done, but passed over h1: bad."},
		{"it serves, sick as it is", rollingView(record(2, component.RolloutDone), says(component.HostStatus{
			Step: component.StepServing, Containers: []component.ContainerStatus{{ID: "0123456789abcdef", Primary: true, Generation: 2, Health: component.Unhealthy, Problem: "503"}},
			Failure: &component.Failure{Generation: 1, Reason: "exit code 3", At: now.Add(-time.Hour)},
		})), "h1", "Its rollout is done. Host h1 is serving; new connections go to container 0123456789ab of generation 2, which is unhealthy: 503; its last failure, 1h0m0s ago, was of generation 1: exit code 3."},
		{"a host that does not run it", rollingView(machine("h5", "db")), "h5", "Host h5 does not run web; it runs db."},
		{"nobody runs it", rollingView(func(v *component.View) { v.Machines = nil }), "", "No daemon that runs web is alive."},
		{"a rollback", rollingView(func(v *component.View) { v.Desired.Source = 1 }), "", "Somebody rolled web back to generation 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(Why("web", tt.host, tt.view, now), " "); !strings.Contains(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
