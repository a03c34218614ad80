package rollout

import (
	"math"
	"testing"
)

// The e-value of a slot has a mean of at most 1 whatever the ratios of both releases are, as long as the new one fails
// at most the tolerance more often: the mean is worked out here, over all that can happen.
func TestMeanOfASlotIsAtMostOne(t *testing.T) {
	const tolerance = 0.05
	ratios := []float64{0, 0.01, 0.1, 0.3, 0.6, 0.9, 0.95}
	for _, n := range [][2]int{{1, 1}, {3, 9}, {12, 2}, {8, 8}} {
		for _, past := range []rate{{0, 0}, {100, 1}, {100, 50}} {
			for _, p0 := range ratios {
				for _, p1 := range ratios {
					p1 = min(p1, p0+tolerance)
					if mean := meanOf(n[0], n[1], p1, p0, past, tolerance); mean > 1+1e-9 {
						t.Errorf("%d tries with %v, %d with %v, after %v: mean %v", n[0], p1, n[1], p0, past, mean)
					}
				}
			}
		}
	}
}

// meanOf is the mean of what a slot multiplies with, over all alternatives.
func meanOf(n1, n0 int, p1, p0 float64, past rate, tolerance float64) float64 {
	mean := 0.0
	for f1 := range n1 + 1 {
		for f0 := range n0 + 1 {
			e := evidence{past: past}
			e.weigh(rate{float64(n1), float64(f1)}, rate{float64(n0), float64(f0)}, tolerance)
			sum := 0.0
			for _, s := range e.sums {
				sum += 2 * s / float64(len(excesses)) // the first slot has a weight of one half
			}
			mean += binomial(n1, f1, p1) * binomial(n0, f0, p0) * sum
		}
	}
	return mean
}

func binomial(n, k int, p float64) float64 {
	choose := 1.0
	for i := range k {
		choose = choose * float64(n-i) / float64(i+1)
	}
	return choose * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
}

func TestBoundOfWhatWasBefore(t *testing.T) {
	for _, tt := range []struct {
		before    rate
		low, high float64
	}{
		{rate{}, 1, 1},
		{rate{1, 0}, 0.99, 1},
		{rate{100, 0}, 0.07, 0.08},
		{rate{10000, 100}, 0.013, 0.0145},
		{rate{100, 100}, 1, 1},
	} {
		if got := atMost(tt.before); got < tt.low || got > tt.high {
			t.Errorf("%v of %v: at most %v, want %v to %v", tt.before.failed, tt.before.tries, got, tt.low, tt.high)
		}
	}
}
