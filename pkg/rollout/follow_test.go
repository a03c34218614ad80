package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestFollow(t *testing.T) {
	first := func(g int64, s component.RolloutStatus) component.View {
		return component.View{
			Desired: component.Desired{Generation: g, Status: component.StatusReady},
			Rollout: component.Rollout{Generation: g, Status: s, Reason: "sad"},
		}
	}
	tests := []struct {
		name  string
		first component.View
		begun bool
		want  component.RolloutStatus // empty: nothing is written
		why   string
	}{
		{"goes on", first(7, component.RolloutProgressing), false, "", ""},
		{"is done", first(7, component.RolloutDone), false, component.RolloutProgressing, ""},
		{"halted", first(7, component.RolloutHalted), false, component.RolloutHalted, "component db, which comes first: halted: sad"},
		{"went back", first(9, component.RolloutDone), false, component.RolloutHalted, "something else"},
		{"is gone", component.View{}, false, component.RolloutHalted, "something else"},
		{"is not seen yet", first(5, component.RolloutDone), false, "", ""},
		{"halted after it was done", first(9, component.RolloutHalted), true, "", ""},
	}
	for _, tt := range tests {
		v := component.View{
			Desired:  component.Desired{Generation: 7, Status: component.StatusReady, Follows: "db", Spec: &component.Spec{Name: "web"}},
			Machines: map[string]component.Machine{"h1": {Components: []string{"web"}}},
		}
		v.Rollout = component.Rollout{Generation: 7, Status: component.RolloutProgressing, Begun: tt.begun}
		if held := Hold("web", "h1", v) != ""; held == tt.begun {
			t.Errorf("%s: held = %t", tt.name, held)
		}
		if due := Due("web", v, Waited{}) > time.Duration(0); due != tt.begun {
			t.Errorf("%s: its deadline runs = %t", tt.name, due)
		}
		r, ok := Follow(v, tt.first)
		if ok != (tt.want != "") || ok && (r.Status != tt.want || !strings.Contains(r.Reason, tt.why) || r.Begun != (tt.why == "")) {
			t.Errorf("%s: Follow = %+v, %t", tt.name, r, ok)
		}
	}
}

// One that was skipped has changed nothing; one of several takes the others back.
func TestSkippedGoesBackWithOthersOnly(t *testing.T) {
	spec := component.Spec{Rollout: component.RolloutPolicy{OnFailure: component.OnFailureRollback}}
	v := component.View{
		Desired: component.Desired{Generation: 7, Status: component.StatusReady, Spec: &spec},
		Rollout: component.Rollout{Generation: 7, Status: component.RolloutHalted, Kind: component.Skipped},
	}
	if GoesBack(v) {
		t.Error("what was skipped goes back")
	}
	v.Desired.Together = []string{"db", "web"}
	v.Desired.Spec = &component.Spec{}
	if !GoesBack(v) {
		t.Error("one of several does not go back")
	}
}
