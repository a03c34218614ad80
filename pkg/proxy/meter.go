package proxy

import (
	"context"
	"errors"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Measures are what clients saw of one target since the proxy knows it.
type Measures struct {
	Tries     int64     // TCP connections and HTTP requests of which it is known whether they reached the target
	Unreached int64     // of these: could not be connected at the first attempt
	Broken    int64     // of these: the target reset the connection before it said anything, or gave a request no answer
	Errors    int64     // of these: requests answered with a status of 500 and more
	Latency   []Latency // of answers, the fastest first; without those that nobody had
}

// A Latency is how many answers took about so long: until their head was there, from when their target was chosen.
type Latency struct {
	Below   time.Duration // and at most an eighth less than that, but for the first microseconds
	Answers int64
}

// The buckets of a meter: eight for each power of two of microseconds, from meterLeast bits on.
const (
	meterLeast   = 6 // 64 µs
	meterOctaves = 21
	meterBuckets = 8*meterOctaves + 1
)

// keepMeter is how long the meter of a target that is gone can still be asked, at least.
const keepMeter = time.Minute

// A meter counts what clients see of one target. Each count is one atomic addition, so nobody waits for it.
type meter struct {
	tries, unreached, broken, errors atomic.Int64
	latency                          [meterBuckets]atomic.Int64

	used time.Time // when a destination had it last; guarded by the ledger
}

// bucketOf is the bucket of a latency.
func bucketOf(d time.Duration) int {
	us := uint64(max(0, d) / time.Microsecond)
	n := bits.Len64(us)
	if n <= meterLeast {
		return 0
	}
	eighth := us >> (n - 4) & 7
	return min(meterBuckets-1, 8*(n-1-meterLeast)+int(eighth)+1)
}

// below is the bound of a bucket; the last one has what is beyond as well.
func below(bucket int) time.Duration {
	if bucket == 0 {
		return time.Microsecond << meterLeast
	}
	octave, eighth := (bucket-1)/8, (bucket-1)%8
	return (time.Microsecond << (meterLeast + octave)) / 8 * time.Duration(9+eighth)
}

// reached counts a connection that came to its target.
func (m *meter) reached() { m.tries.Add(1) }

// missed counts one that did not at the first attempt, unless that is no fault of the target.
func (m *meter) missed(err error) {
	if errors.Is(err, context.Canceled) || isShortage(err) {
		return
	}
	m.tries.Add(1)
	m.unreached.Add(1)
}

// isShortage reports whether this process or its machine lacks what a connection needs: files, ports or memory.
func isShortage(err error) bool {
	return slices.ContainsFunc([]error{unix.EMFILE, unix.ENFILE, unix.EADDRNOTAVAIL, unix.ENOBUFS, unix.ENOMEM}, func(shortage error) bool {
		return errors.Is(err, shortage)
	})
}

// broke counts a request that reached the target and got no answer.
func (m *meter) broke() {
	m.tries.Add(1)
	m.broken.Add(1)
}

// answered counts a request that got an answer after d.
func (m *meter) answered(status int, d time.Duration) {
	m.tries.Add(1)
	if status >= 500 {
		m.errors.Add(1)
	}
	m.latency[bucketOf(d)].Add(1)
}

// read returns the measures. What happens meanwhile may be in some counts and not in others.
func (m *meter) read() Measures {
	r := Measures{Unreached: m.unreached.Load(), Broken: m.broken.Load(), Errors: m.errors.Load()}
	for i := range m.latency {
		if n := m.latency[i].Load(); n > 0 {
			r.Latency = append(r.Latency, Latency{Below: below(i), Answers: n})
		}
	}
	r.Tries = m.tries.Load() // last, so that it is not less than its parts
	return r
}

// Measures returns what clients saw of a target ID, over all listeners. They are kept for a minute at least after
// no listener points there any more and the last connection ended.
func (p *Proxy) Measures(id string) Measures {
	l := p.ledger
	l.mu.Lock()
	m := l.meters[id]
	l.mu.Unlock()
	if m == nil {
		return Measures{}
	}
	return m.read()
}

// meterOf returns the meter of a target, which somebody is about to use. The ledger is locked.
func (l *ledger) meterOf(id string) *meter {
	if m := l.meters[id]; m != nil {
		return m
	}
	l.prune(time.Now())
	m := &meter{}
	l.meters[id] = m
	return m
}

// prune forgets meters that nobody used for a while. The ledger is locked.
func (l *ledger) prune(now time.Time) {
	var used []*meter
	for d := range l.dests {
		used = append(used, d.meter)
	}
	for id, m := range l.meters {
		if !m.used.IsZero() && now.Sub(m.used) > keepMeter && !slices.Contains(used, m) {
			delete(l.meters, id)
		}
	}
}

// miss counts the request as one that could not reach its target at the first attempt, once for each target.
func (x *exchange) miss(err error) {
	if d := x.record.dest; x.missed != d {
		x.missed = d
		d.meter.missed(err)
	}
}

// answered counts the answer of the target, whose status is known. One that was missed before is counted.
func (x *exchange) answered() {
	if d := x.record.dest; x.missed != d {
		d.meter.answered(x.status, time.Since(x.sent))
	}
}

// noAnswer counts a request that got no answer because of err, if that is about its target.
func (x *exchange) noAnswer(err error) {
	var dialing *dialError
	d := x.record.dest
	switch {
	case d == nil, x.missed == d, errors.As(err, &dialing):
	case errors.Is(err, errNoTarget), errors.Is(err, errCut), errors.Is(err, errGone), errors.Is(err, context.Canceled):
	default:
		d.meter.broke()
	}
}
