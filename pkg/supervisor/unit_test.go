package supervisor

import (
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// What is measured from a time that was loaded does not follow a clock that is set later, so that time has a reading of
// the monotonic clock, which its text tells.
func TestLoadedTimesAreReckonedFromNow(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct{ ago, want time.Duration }{{time.Hour, time.Hour}, {0, 0}, {-time.Hour, 0}} {
		loaded := now.Add(-tt.ago).Round(0)
		u := newUnit("web", component.Record{Containers: map[string]component.ContainerRecord{
			"c1": {Stage: component.Draining, StageSince: loaded, DrainingSince: loaded},
			"c2": {Stage: component.Serving, StageSince: loaded},
		}}, now)
		c1, c2 := u.rec.Containers["c1"], u.rec.Containers["c2"]
		for _, since := range []time.Time{c1.StageSince, c1.DrainingSince, c2.StageSince} {
			if got := now.Sub(since); got != tt.want || !strings.Contains(since.String(), " m=") {
				t.Errorf("loaded from %v ago: %v, %v ago, want %v and a monotonic reading", tt.ago, since, got, tt.want)
			}
		}
		if !c2.DrainingSince.IsZero() {
			t.Errorf("drains since %v, want never", c2.DrainingSince)
		}
	}
}
