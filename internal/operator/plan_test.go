package operator

import (
	"fmt"
	"testing"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func TestPlanFor(t *testing.T) {
	now := component.Desired{Status: component.StatusReady, Generation: 7, ImageID: "a", Spec: &component.Spec{Name: "web", Tag: "1"}}
	v := component.View{
		Desired: now, Rollout: component.Rollout{Generation: 7, Status: component.RolloutDone},
		Machines: map[string]component.Machine{"h1": {Components: []string{"web"}}, "h2": {Components: []string{"web"}}},
		Hosts: map[string]component.HostStatus{
			"h1": {Hash: now.Release().Hash(), Containers: []component.ContainerStatus{{ImageID: "a"}}},
			"h2": {Hash: now.Release().Hash(), Containers: []component.ContainerStatus{{ImageID: "b"}}},
		},
	}
	to := func(image string, edit func(*component.Spec)) Release {
		s := *now.Spec
		edit(&s)
		return Release{Name: "web", Desired: component.Desired{Status: component.StatusReady, ImageID: image, Spec: &s}}
	}
	none := func(*component.Spec) {}
	halted := v
	halted.Rollout.Status = component.RolloutHalted
	stopped := v
	stopped.Desired.Status = component.StatusStopped
	tests := []struct {
		name string
		view component.View
		r    Release
		want string // change, hosts, pull, new containers
	}{
		{"the same", v, to("a", none), "none [] [] false"},
		{"another image", v, to("b", none), "update [h1 h2] [h1] true"},
		{"another policy", v, to("a", func(s *component.Spec) { s.Rollout.MaxParallel = 2 }), "update [] [h2] false"},
		{"another setting", v, to("a", func(s *component.Spec) { s.User = "x" }), "update [h1 h2] [h2] true"},
		{"the same after a halt", halted, to("a", none), "retry [] [h2] false"},
		{"the same after a stop", stopped, to("a", none), "update [h1 h2] [h2] true"},
	}
	for _, tt := range tests {
		p := PlanFor(tt.r, tt.view, etcdstate.Project{})
		if got := fmt.Sprint(p.Change, " ", p.Hosts, " ", p.Pull, " ", p.Containers); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
