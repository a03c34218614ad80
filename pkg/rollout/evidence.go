package rollout

import "math"

// What the tests of a guard go by. docs/design/0006-guard.md tells why these make a false alarm rare.
const (
	// alarm is the evidence that trips a guard: a sound release comes to it with a probability of 1/alarm at most.
	alarm = 2000
	// mostOfSlot is what the evidence of one slot counts at most.
	mostOfSlot = 16
	// fades is what older slots still count after each slot, in the guess of what the old release has.
	fades = 0.9
)

// excesses are the alternatives that are weighed: by how much of what is left above the tolerance the new release fails more
// often.
//
//nolint:gochecknoglobals // a constant table
var excesses = [...]float64{0.02, 0.1, 0.3, 0.8}

// A rate is how often something failed.
type rate struct{ tries, failed float64 }

// evidence is what was gathered against "the new release fails at most tolerance more often than the old one". Its
// value is a test martingale: were that true, it would exceed 1/a some time with a probability of a at most, however
// the ratios of both change together.
type evidence struct {
	sums  [len(excesses)]float64 // of the products that began at each slot, by their weights
	slots float64                // that were weighed
	past  rate                   // of the old release, in slots before
}

// value is the mean of all alternatives, with what was not used yet.
func (e *evidence) value() float64 {
	sum := 0.0
	for _, s := range e.sums {
		sum += s
	}
	return sum/float64(len(excesses)) + 1/(e.slots+1)
}

// learn notes what the old release had before anything is weighed.
func (e *evidence) learn(old rate) {
	if e.past.tries == 0 {
		scale := min(1, 1000/max(1, old.tries)) // a guess, which what comes may correct
		e.past = rate{old.tries * scale, old.failed * scale}
	}
}

// guess is how often the old release is expected to fail.
func (e *evidence) guess() float64 { return min(0.99, (e.past.failed+0.5)/(e.past.tries+50)) }

// weigh adds a slot in which both had tries. tolerance is above 0.
func (e *evidence) weigh(fresh, old rate, tolerance float64) {
	p0 := e.guess()
	if fresh.tries > 0 && old.tries > 0 {
		e.add(func(excess float64) float64 {
			p1 := p0 + tolerance + (1-p0-tolerance)*excess
			if p0+tolerance >= 0.99 {
				return 0
			}
			q := nearest(p1, p0, tolerance, fresh.tries, old.tries)
			return gain(fresh, p1, q+tolerance) + gain(old, p0, q)
		})
	}
	e.past.tries = e.past.tries*fades + old.tries
	e.past.failed = e.past.failed*fades + old.failed
}

// weighAgainst adds a slot in which the new release is compared with one that fails with a probability of p0 at
// most.
func (e *evidence) weighAgainst(fresh rate, p0, tolerance float64) {
	q := p0 + tolerance
	if fresh.tries == 0 || q >= 0.99 {
		return
	}
	e.add(func(excess float64) float64 { return gain(fresh, q+(1-q)*excess, q) })
}

// add multiplies with what a slot says for each alternative: the logarithm of a likelihood ratio.
func (e *evidence) add(ratio func(excess float64) float64) {
	e.slots++
	weight := 1 / (e.slots * (e.slots + 1))
	for i, excess := range excesses {
		e.sums[i] = min(mostOfSlot, math.Exp(ratio(excess))) * (e.sums[i] + weight)
	}
}

// gain is the logarithm of how much likelier r is with p than with q.
func gain(r rate, p, q float64) float64 {
	return r.failed*math.Log(p/q) + (r.tries-r.failed)*math.Log((1-p)/(1-q))
}

// nearest is the q for which q+tolerance and q are as near as can be to p1 and p0, weighted by tries: the sum of the
// Kullback-Leibler divergences is convex, and its slope changes its sign between p0 and p1-tolerance.
func nearest(p1, p0, tolerance, n1, n0 float64) float64 {
	low, high := p0, p1-tolerance
	for range 50 {
		q := (low + high) / 2
		if n1*(q+tolerance-p1)/((q+tolerance)*(1-q-tolerance))+n0*(q-p0)/(q*(1-q)) < 0 {
			low = q
		} else {
			high = q
		}
	}
	return (low + high) / 2
}

// atMost is the bound that the ratio behind r exceeds with a probability of 1/alarm at most (Chernoff).
func atMost(r rate) float64 {
	if r.tries == 0 {
		return 1
	}
	p := r.failed / r.tries
	divergence := func(q float64) float64 {
		d := 0.0
		if p > 0 {
			d += p * math.Log(p/q)
		}
		if p < 1 {
			d += (1 - p) * math.Log((1-p)/(1-q))
		}
		return d
	}
	low, high := p, 1.0
	for range 50 {
		if q := (low + high) / 2; q < 1 && r.tries*divergence(q) < math.Log(alarm) {
			low = q
		} else {
			high = q
		}
	}
	return high
}
