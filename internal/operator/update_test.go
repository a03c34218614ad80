package operator

import (
	"errors"
	"testing"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestPolicyIsAboutRollout(t *testing.T) {
	s := component.Spec{Name: "web", Repo: "example/web"}
	got, err := policed(s, []string{"rollout.maxParallel=2", `"rollout".maxFailures=1`})
	if err != nil || got.Rollout.MaxFailures != 1 {
		t.Errorf("%+v: %v", got.Rollout, err)
	}
	for _, o := range []string{"privileged=true", `"privileged"=true`, "volumes./=/", "Rollout.bake=1s", "rollout", "x.rollout.bake=1s", ""} {
		var m *Error
		if got, err := policed(s, []string{"rollout.maxParallel=2", o}); !errors.As(err, &m) || m.Kind != Invalid {
			t.Errorf("policy %q makes %+v: %v", o, got, err)
		}
	}
}
