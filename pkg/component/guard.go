package component

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// DefaultWatch is how long a guard watches a release after the last host.
const DefaultWatch = time.Minute

// A Guard halts a rollout when users fare worse with the new release than with the one before.
type Guard struct {
	Errors     Percent  `json:"errors,omitempty" doc:"By how much more of its connections and requests the new release may fail than the one before, in points, such as 1%. Default: not judged."`
	LatencyP99 Factor   `json:"latencyP99,omitempty" doc:"How many times as long as those of the release before 99 of 100 answers may take, such as 2x; of ports of kind http. Default: not judged."`
	Watch      Duration `json:"watch,omitempty" doc:"Time for which the new release is still watched once all hosts serve it; the rollout is done after it." default:"60s"`
}

// On reports whether there is anything that g judges.
func (g Guard) On() bool { return g.Errors > 0 || g.LatencyP99 > 0 }

// Within is how long the release is watched after the last host.
func (g Guard) Within() time.Duration {
	if g.Watch > 0 {
		return time.Duration(g.Watch)
	}
	return DefaultWatch
}

// Guarded is the guard of the rollout, which is off for one that is none and for a rollback: its release has
// proven itself.
func (v View) Guarded() Guard {
	if v.Desired.Status != StatusReady || v.Desired.Source != 0 {
		return Guard{}
	}
	return v.Spec().Rollout.Guard
}

// A Percent is a part, written as text such as "1%" or "0.5%". It is held in hundredths of a percent.
type Percent int

// Part is p as a number between 0 and 1.
func (p Percent) Part() float64 { return float64(p) / 10000 }

// String is the form that UnmarshalText reads.
func (p Percent) String() string { return decimal(int(p)) + "%" }

// MarshalText implements encoding.TextMarshaler.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Percent) UnmarshalText(b []byte) error {
	n, err := hundredths(string(b), "%")
	if err != nil || n < 1 || n >= 10000 {
		return fmt.Errorf("%q is not a part such as \"1%%\": at least 0.01%%, and less than 100%%", b)
	}
	*p = Percent(n)
	return nil
}

// A Factor is written as text such as "2x" or "1.5x". It is held in hundredths.
type Factor int

// Times is d so many times.
func (f Factor) Times(d time.Duration) time.Duration { return d * time.Duration(f) / 100 }

// String is the form that UnmarshalText reads.
func (f Factor) String() string { return decimal(int(f)) + "x" }

// MarshalText implements encoding.TextMarshaler.
func (f Factor) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Factor) UnmarshalText(b []byte) error {
	n, err := hundredths(string(b), "x")
	if err != nil || n <= 100 || n > 100000 {
		return fmt.Errorf("%q is not a factor such as \"2x\": more than 1x, and at most 1000x", b)
	}
	*f = Factor(n)
	return nil
}

// decimal is n hundredths.
func decimal(n int) string {
	text := fmt.Sprintf("%d.%02d", n/100, n%100)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// hundredths reads a decimal number with two digits behind the point at most, and a unit.
func hundredths(text, unit string) (int, error) {
	number, ok := strings.CutSuffix(text, unit)
	whole, rest, _ := strings.Cut(number, ".")
	if !ok || len(rest) > 2 || len(whole) > 6 || strings.ContainsAny(number, "+-_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(whole + rest + "00"[len(rest):])
}
