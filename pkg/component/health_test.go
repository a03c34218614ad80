package component

import (
	"math"
	"testing"
	"time"
)

func TestRestartsBackOff(t *testing.T) {
	slow := Restart{MinDelay: Duration(time.Hour), MaxDelay: Duration(time.Minute)}
	tests := []struct {
		name   string
		have   Restarts
		policy Restart
		want   time.Duration // until the next replacement
	}{
		{"nothing broke", Restarts{}, Restart{}, 0},
		{"first is replaced at once", Restarts{1, t0}, Restart{}, 0},
		{"second waits a second", Restarts{2, t0}, Restart{}, time.Second},
		{"wait doubles", Restarts{3, t0}, Restart{}, 2 * time.Second},
		{"wait doubles again", Restarts{4, t0}, Restart{}, 4 * time.Second},
		{"wait has begun when it broke", Restarts{4, t0.Add(-time.Second)}, Restart{}, 3 * time.Second},
		{"wait is over", Restarts{4, t0.Add(-time.Minute)}, Restart{}, -56 * time.Second},
		{"wait is bounded", Restarts{20, t0}, Restart{}, 5 * time.Minute},
		{"wait does not overflow", Restarts{math.MaxInt, t0}, Restart{}, 5 * time.Minute},
		{"long waits do not overflow", Restarts{33, t0}, Restart{MinDelay: Duration(1000 * time.Hour), MaxDelay: math.MaxInt64}, math.MaxInt64},
		{"policy counts", Restarts{3, t0}, Restart{MinDelay: Duration(30 * time.Second)}, time.Minute},
		{"longest wait wins over the shortest", Restarts{2, t0}, slow, time.Minute},
		{"after ten good minutes all is forgiven", Restarts{20, t0.Add(-10 * time.Minute)}, Restart{}, 0},
		{"clock that was set back delays nothing", Restarts{20, t0.Add(time.Hour)}, Restart{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.have.Due(tt.policy, t0); got.Sub(t0) != tt.want {
				t.Errorf("%+v.Due = now%+v, want now%+v", tt.have, got.Sub(t0), tt.want)
			}
		})
	}
}

func TestRestartsAreCounted(t *testing.T) {
	r := Restarts{}.Add(t0)
	if want := (Restarts{1, t0}); r != want {
		t.Errorf("first: %v, want %v", r, want)
	}
	r = r.Add(t0.Add(9 * time.Minute))
	if want := (Restarts{2, t0.Add(9 * time.Minute)}); r != want {
		t.Errorf("second within ten minutes: %v, want %v", r, want)
	}
	r = r.Add(t0.Add(19 * time.Minute))
	if want := (Restarts{1, t0.Add(19 * time.Minute)}); r != want {
		t.Errorf("after ten good minutes: %v, want %v", r, want)
	}
}

func TestHealthText(t *testing.T) {
	for _, h := range []Health{HealthUnknown, Healthy, Unhealthy} {
		b, err := h.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		back := Health(-1)
		if err := back.UnmarshalText(b); err != nil || back != h {
			t.Errorf("%q reads as %v (%v), want %v", b, back, err, h)
		}
	}
	var h Health
	if err := h.UnmarshalText([]byte("ill")); err == nil {
		t.Error("an unknown health is taken")
	}
	if got := Health(99).String(); got != "unknown" {
		t.Errorf("Health(99) is %q", got)
	}
}
