package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestTaskContainer(t *testing.T) {
	tests := []struct {
		code, reason string
		want         bool
	}{{"0", "exit code 0", true}, {"3", "exit code 3", false}}
	for _, tt := range tests {
		e := realEngine(t)
		r := appRequest(t, func(s *component.Spec) {
			s.Command = []string{"exit", "9"}
			s.PreDeploy.Command = []string{"exit", tt.code}
			s.Labels = map[string]string{"routes": "traffic"}
		})
		r.Task, r.Attempt = true, 2
		names := run(t, e)
		id := start(t, e, r)
		exited(t, e, id)
		expect(t, names, "web", 20*time.Second)
		got := find(t, e, id)
		want := component.EngineContainer{
			ID: id, Name: got.Name, Component: "web", Release: r.Release, Hash: r.Hash, State: component.RunExited, Task: true, Attempt: 2,
			Status: got.Status, ImageID: r.Release.ImageID, ImageName: r.Release.Image.Ref, Created: got.Created,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("listed container (-want +got):\n%s", d)
		}
		if ok, err := e.Succeeded(t.Context(), id); err != nil || ok != tt.want {
			t.Errorf("Succeeded after exit code %s = %t, %v", tt.code, ok, err)
		}
		if why, err := e.ExitReason(t.Context(), id); err != nil || why != tt.reason {
			t.Errorf("ExitReason = %q, %v", why, err)
		}
		c, err := e.inspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if c.Config.Labels["routes"] != "" || c.Config.Labels[LabelComponent] != "" {
			t.Errorf("labels = %v: others would take it for a container that serves", c.Config.Labels)
		}
	}
}

func TestRunningTaskHasNotSucceeded(t *testing.T) {
	e := realEngine(t)
	r := appRequest(t, func(s *component.Spec) { s.PreDeploy.Command = []string{"serve"} })
	r.Task = true
	id := start(t, e, r)
	if ok, err := e.Succeeded(t.Context(), id); err != nil || ok {
		t.Errorf("Succeeded = %t, %v; want false while it runs", ok, err)
	}
}
