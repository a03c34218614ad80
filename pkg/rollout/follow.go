package rollout

import (
	"slices"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

// follows reports whether the rollout waits for the one of another component.
func follows(v component.View) bool {
	return goes(v) && v.Desired.Follows != "" && !v.Record().Begun
}

// Follow returns the record to write about a rollout that waits for the one of another component, if any,
// given the view of that: it begins once the other one is done, and halts when that does not get done.
func Follow(v, first component.View) (component.Rollout, bool) {
	if !follows(v) || first.DesiredErr != nil {
		return component.Rollout{}, false
	}
	r, f := v.Record(), first.Record()
	why := ""
	switch d := first.Desired; {
	case d.Generation < v.Desired.Generation && d.Status != "": // not seen yet
		return r, false
	case d.Generation != v.Desired.Generation:
		why = "something else was asked for meanwhile"
	case f.Status == component.RolloutHalted:
		why = "halted: " + f.Reason
	case f.Status != component.RolloutDone:
		return r, false
	}
	if why == "" {
		r.Begun = true
		return r, true
	}
	r.Status, r.Kind, r.Reason, r.Paused = component.RolloutHalted, component.Skipped, "component "+v.Desired.Follows+", which comes first: "+why, nil
	return r, true
}

// Companions are the components besides name that are one release with it, for people.
func Companions(name string, d component.Desired) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(d.Together), func(n string) bool { return n == name }), ", ")
}
