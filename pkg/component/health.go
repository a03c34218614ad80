package component

import (
	"fmt"
	"time"
)

// Health is the standing condition of a serving container.
type Health int

// The conditions. A container whose checks did not run yet is HealthUnknown, which is not a
// reason to replace it.
const (
	HealthUnknown Health = iota
	Healthy
	Unhealthy
)

// String is the condition's name in JSON and tables.
func (h Health) String() string {
	switch h {
	case Healthy:
		return "healthy"
	case Unhealthy:
		return "unhealthy"
	case HealthUnknown:
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (h Health) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Health) UnmarshalText(b []byte) error {
	for _, v := range []Health{HealthUnknown, Healthy, Unhealthy} {
		if v.String() == string(b) {
			*h = v
			return nil
		}
	}
	return fmt.Errorf("%q is not a health", b)
}

// Restarts counts the containers that broke in a row, and when the last one did.
type Restarts struct {
	Count int       `json:"count,omitempty"`
	Last  time.Time `json:"last,omitzero"`
}

// stableAfter is how long a component must have gone without a replacement before the next one
// counts as the first again.
const stableAfter = 10 * time.Minute

// Due is when the next replacement may start: at once for the first in a row, then after a delay
// that doubles each time. A Last that is yet to come (the clock was set back) delays nothing.
func (r Restarts) Due(p Restart, now time.Time) time.Time {
	if r.Count <= 1 || now.Before(r.Last) || now.Sub(r.Last) >= stableAfter {
		return now
	}
	least, most := orDur(p.MinDelay, DefaultRestartMin), orDur(p.MaxDelay, DefaultRestartMax)
	delay := most
	if shift := r.Count - 2; shift < 32 && least<<shift>>shift == least {
		delay = min(most, least<<shift)
	}
	return r.Last.Add(delay)
}

// Add counts a container that broke at now.
func (r Restarts) Add(now time.Time) Restarts {
	if now.Sub(r.Last) >= stableAfter {
		r.Count = 0
	}
	return Restarts{Count: r.Count + 1, Last: now}
}
