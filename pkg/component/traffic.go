package component

import (
	"maps"
	"slices"
	"time"
)

// SlotLength is how long the slots are in which hosts count what users see. Slots have the same numbers on all
// hosts whose clocks agree.
const SlotLength = 2 * time.Second

// SlotAt is the number of the slot that t is in.
func SlotAt(t time.Time) int64 { return t.UnixNano() / int64(SlotLength) }

// A Tally is how many connections and requests a release got in some time, and how they went.
type Tally struct {
	Tries     int64           `json:"tries,omitempty"`
	Unreached int64           `json:"unreached,omitempty"` // could not be connected at the first attempt
	Broken    int64           `json:"broken,omitempty"`    // reset before the first byte, or no answer
	Errors    int64           `json:"errors,omitempty"`    // answered 5xx
	Latency   map[int64]int64 `json:"latency,omitempty"`   // answers by how many microseconds they took at most
}

// Failed is how many went wrong for a user.
func (t Tally) Failed() int64 { return min(t.Tries, t.Unreached+t.Broken+t.Errors) }

// Plus is t and o together.
func (t Tally) Plus(o Tally) Tally { return t.with(o, 1) }

// Minus is t without o, which was counted in it.
func (t Tally) Minus(o Tally) Tally { return t.with(o, -1) }

func (t Tally) with(o Tally, sign int64) Tally {
	t.Tries += sign * o.Tries
	t.Unreached += sign * o.Unreached
	t.Broken += sign * o.Broken
	t.Errors += sign * o.Errors
	if len(o.Latency) == 0 {
		return t
	}
	t.Latency = maps.Clone(t.Latency)
	if t.Latency == nil {
		t.Latency = make(map[int64]int64, len(o.Latency))
	}
	for us, n := range o.Latency {
		if t.Latency[us] += sign * n; t.Latency[us] == 0 {
			delete(t.Latency, us)
		}
	}
	return t
}

// Answers is how many latencies t has.
func (t Tally) Answers() (n int64) {
	for _, m := range t.Latency {
		n += m
	}
	return n
}

// P99 is the latency that 99 of 100 answers keep, 0 when there are none.
func (t Tally) P99() time.Duration {
	left := t.Answers()/100 + 1 // the first of those that is not among the slowest
	for _, us := range slices.Backward(slices.Sorted(maps.Keys(t.Latency))) {
		if left -= t.Latency[us]; left <= 0 {
			return time.Duration(us) * time.Microsecond
		}
	}
	return 0
}

// Slower is how many answers took longer than d.
func (t Tally) Slower(d time.Duration) (n int64) {
	for us, m := range t.Latency {
		if us > int64(d/time.Microsecond) {
			n += m
		}
	}
	return n
}

// Traffic is what users saw of a component on one host lately, of the release that is rolled out and of others.
type Traffic struct {
	Old    bool   `json:"old,omitempty"`   // new connections go to a release before
	Slots  []Slot `json:"slots,omitempty"` // the last ones with any traffic, in order
	Before Tally  `json:"before,omitzero"` // of the release before: the two minutes until it served no more, or until now
}

// A Slot is what users saw in one slot of time.
type Slot struct {
	Slot int64 `json:"slot"`
	New  Tally `json:"new,omitzero"`
	Old  Tally `json:"old,omitzero"`
}

// Newest is the number of the last slot of t, which may be nil; 0 when there is none.
func (t *Traffic) Newest() int64 {
	if t == nil || len(t.Slots) == 0 {
		return 0
	}
	return t.Slots[len(t.Slots)-1].Slot
}

// In is what t, which may be nil, has of a slot.
func (t *Traffic) In(slot int64) Slot {
	if t != nil {
		for _, s := range t.Slots {
			if s.Slot == slot {
				return s
			}
		}
	}
	return Slot{Slot: slot}
}
