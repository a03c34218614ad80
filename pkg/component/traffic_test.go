package component_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

func TestTallies(t *testing.T) {
	a := component.Tally{Tries: 100, Unreached: 1, Broken: 2, Errors: 3, Latency: map[int64]int64{1000: 95, 2000: 4, 64000: 1}}
	b := component.Tally{Tries: 10, Errors: 4, Latency: map[int64]int64{1000: 5, 32: 1}}
	sum := a.Plus(b)
	if d := cmp.Diff(component.Tally{Tries: 110, Unreached: 1, Broken: 2, Errors: 7, Latency: map[int64]int64{32: 1, 1000: 100, 2000: 4, 64000: 1}}, sum); d != "" {
		t.Errorf("sum (-want +got):\n%s", d)
	}
	if d := cmp.Diff(a, sum.Minus(b)); d != "" {
		t.Errorf("sum without the second (-want +got):\n%s", d)
	}
	if a.Failed() != 6 || a.Answers() != 100 || a.Slower(time.Millisecond) != 5 || a.Slower(2*time.Millisecond) != 1 {
		t.Errorf("%d failed, %d answers, %d and %d slower", a.Failed(), a.Answers(), a.Slower(time.Millisecond), a.Slower(2*time.Millisecond))
	}
	if p := a.P99(); p != 2*time.Millisecond {
		t.Errorf("p99 of 100 answers is %v, want the second slowest, 2ms", p)
	}
	if p := b.P99(); p != time.Millisecond {
		t.Errorf("p99 of 6 answers is %v, want the slowest, 1ms", p)
	}
	if p := (component.Tally{}).P99(); p != 0 {
		t.Errorf("p99 of nothing is %v", p)
	}
	if (component.Tally{Tries: 1, Broken: 3}).Failed() != 1 {
		t.Error("more failed than were tried")
	}
}

func TestGuardText(t *testing.T) {
	tests := []struct {
		text string
		want component.Guard
	}{
		{`{"errors":"1%"}`, component.Guard{Errors: 100}},
		{`{"errors":"0.25%","latencyP99":"1.5x"}`, component.Guard{Errors: 25, LatencyP99: 150}},
		{`{"latencyP99":"10x","watch":"2m0s"}`, component.Guard{LatencyP99: 1000, Watch: component.Duration(2 * time.Minute)}},
	}
	for _, tt := range tests {
		var got component.Guard
		if err := json.Unmarshal([]byte(tt.text), &got); err != nil || got != tt.want {
			t.Errorf("%s is %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
		if b, err := json.Marshal(got); err != nil || string(b) != tt.text {
			t.Errorf("%+v is written %s, %v, want %s", got, b, err, tt.text)
		}
	}
	for _, text := range []string{"", "%", "1", "-1%", "+1%", "1.234%", "0%", "100%", "x%", "1e1%", "1_0%", ".%"} {
		if err := new(component.Percent).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a part", text)
		}
	}
	for _, text := range []string{"2", "1x", "0.5x", "1000.01x", "x", "99999999999x", "2X"} {
		if err := new(component.Factor).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a factor", text)
		}
	}
}
