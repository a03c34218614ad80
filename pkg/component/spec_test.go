package component

import (
	"encoding/json"
	"testing"
	"time"
)

func TestDurationText(t *testing.T) {
	for _, s := range []string{"0s", "1ns", "2s", "1m30s", "1h0m0s", "2540400h10m10s"} {
		var d Duration
		if err := d.UnmarshalText([]byte(s)); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		b, err := d.MarshalText()
		if err != nil || string(b) != s || d.String() != s {
			t.Errorf("%q becomes %q (%v), prints as %q", s, b, err, d)
		}
	}
	for _, s := range []string{"", "5", "-1s", "abc", "1 s"} {
		var d Duration
		if err := d.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is taken as %v", s, d)
		}
	}
	var d Duration
	if err := json.Unmarshal([]byte(`30`), &d); err == nil {
		t.Errorf("a number is taken as %v", d)
	}
}

func TestSpecDefaults(t *testing.T) {
	bake := Duration(time.Minute)
	checks := []Check{{Kind: CheckTCP}}
	type test struct {
		name      string
		got, want any
	}
	tests := []test{
		{"reference without a tag", Spec{Repo: "a/b"}.Ref(), "a/b:latest"},
		{"reference with a tag", Spec{Repo: "a/b", Tag: "1"}.Ref(), "a/b:1"},
		{"ready timeout", Spec{}.ReadyWithin(), 10 * time.Second},
		{"ready timeout is in milliseconds", Spec{ReadyTimeout: 1500}.ReadyWithin(), 1500 * time.Millisecond},
		{"bake without health checks", Spec{}.Bake(), time.Duration(0)},
		{"bake with health checks", Spec{HealthChecks: checks}.Bake(), 5 * time.Second},
		{"bake that was set", Spec{Rollout: RolloutPolicy{Bake: &bake}}.Bake(), time.Minute},
		{"bake that was set to none", Spec{HealthChecks: checks, Rollout: RolloutPolicy{Bake: new(Duration)}}.Bake(), time.Duration(0)},
		{"order", Spec{}.StopFirst(), false},
		{"order of an exclusive component", Spec{Exclusive: true}.StopFirst(), true},
		{"order that was set", Spec{Rollout: RolloutPolicy{Order: OrderStopFirst}}.StopFirst(), true},
		{"exclusive wins over the order", Spec{Exclusive: true, Rollout: RolloutPolicy{Order: OrderStartFirst}}.StopFirst(), true},
		{"stop timeout", Spec{}.StopWithin(), 10 * time.Second},
		{"stop timeout that was set", Spec{StopTimeout: Duration(time.Second)}.StopWithin(), time.Second},
		{"interval of a check", Check{}.Every(), 3 * time.Second},
		{"older name of the interval, in seconds", Check{Timeout: 0.5}.Every(), 500 * time.Millisecond},
		{"interval wins over its older name", Check{Timeout: 9, Interval: Duration(time.Second)}.Every(), time.Second},
		{"interval of a health check", Check{Timeout: 9}.HealthEvery(), 30 * time.Second},
		{"interval of a health check that was set", Check{Interval: Duration(time.Second)}.HealthEvery(), time.Second},
		{"time of an attempt", Check{}.Within(), 2 * time.Second},
		{"time of a signal", Signal{RequestTimeout: Duration(time.Minute)}.Within(), time.Minute},
		{"title of a check", Check{ID: "web is up", Kind: CheckHTTP}.Title(), "web is up"},
		{"title of a check without one", Check{Kind: CheckHTTP}.Title(), "http"},
		{"title of a signal", Signal{ID: "bye", Kind: CheckHTTP}.Title(), "bye"},
		{"title of a signal without one", Signal{Kind: CheckExec}.Title(), "exec"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}
