package supervisor

import (
	"context"
	"hash/fnv"
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// What is kept of the slots of a component, and what of it is published.
const (
	keepSlots = int64(2 * time.Minute / component.SlotLength)
	tellSlots = 4
)

// tellWithin is the time after the end of a slot over which the hosts spread telling of it.
const tellWithin = component.SlotLength / 2

// counted is what users saw of a component in slots of time. It is guarded by the unit.
type counted struct {
	last  map[string]component.Tally // by container, since the router knows it
	slots []sample

	blind bool // its containers could not be seen at some time since the last slot ended
	sees  bool // they can be seen again

	guarded bool            // a release is rolled out under a guard
	hash    string          // of that release
	from    string          // of the last primary that was of another one
	before  component.Tally // of the release before, until it served no more
}

// A sample is one slot, by the hash of the release.
type sample struct {
	slot int64
	by   map[string]component.Tally
}

// sampleLoop counts at the end of each slot what users saw in it.
func (s *Supervisor) sampleLoop(ctx context.Context) error {
	for {
		slot := component.SlotAt(now())
		end := time.Unix(0, (slot+1)*int64(component.SlotLength))
		select {
		case <-time.After(max(time.Millisecond, end.Sub(now()))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		told := false
		for _, u := range s.allUnits() {
			told = s.sample(u, slot) || told
		}
		if !told {
			continue
		}
		select {
		case <-time.After(spread(s.Host)):
			s.poke()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// spread is how long after the end of a slot the host tells of it, always the same.
func spread(host string) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host))
	return time.Duration(h.Sum32()) % tellWithin
}

// sample counts what happened since the last slot as what happened in this one. It reports whether there is something
// to publish.
func (s *Supervisor) sample(u *unit, slot int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := &u.counted
	is := sample{slot: slot, by: map[string]component.Tally{}}
	last := make(map[string]component.Tally, len(u.seen))
	for id, e := range u.seen {
		all := s.Router.Tally(id)
		last[id] = all
		switch news := all.Minus(c.last[id]); {
		case c.blind:
		case news.Tries > 0:
			is.by[e.Hash] = is.by[e.Hash].Plus(news)
		case news.Tries == 0:
			last[id] = c.last[id] // what became of earlier tries counts with the next one
		}
	}
	blind := c.blind
	c.last, c.blind = last, c.blind && !c.sees
	if len(is.by) > 0 {
		c.slots = append(c.slots, is)
	}
	c.slots = slices.DeleteFunc(c.slots, func(o sample) bool { return o.slot <= slot-keepSlots || o.slot > slot })
	if blind || !c.guarded || u.status.Host == "" {
		return false
	}
	st := u.status
	st.Traffic = u.traffic()
	if st.Traffic.Newest() == u.status.Traffic.Newest() {
		return false
	}
	u.next, u.status = &st, st
	return true
}

// blinded takes back what was counted while the containers may have been gone: routes lead to where they were until they
// are seen again, for which no release is to blame. The unit's mu is held.
func (c *counted) blinded(slot int64) {
	c.blind, c.sees = true, false
	c.slots = slices.DeleteFunc(c.slots, func(o sample) bool { return o.slot >= slot-1 })
}

// guard notes whether want is rolled out under a guard, and returns what users see of it, if so.
func (u *unit) guard(want component.Desired, r component.Rollout) *component.Traffic {
	v := component.View{Desired: want, Rollout: r}
	u.mu.Lock()
	defer u.mu.Unlock()
	c := &u.counted
	c.sees = true
	c.guarded = v.Guarded().On() && v.Record().Status == component.RolloutProgressing
	if !c.guarded {
		c.hash, c.before = "", component.Tally{}
		return nil
	}
	if hash := want.Release().Hash(); hash != c.hash {
		c.hash, c.before = hash, component.Tally{}
		if primary, serves := u.seen[u.rec.Primary]; serves && primary.Hash != hash {
			c.from = primary.Hash
		}
		if c.from != hash {
			c.before = c.of(c.from)
		}
	}
	return u.traffic()
}

// traffic is what is published of what users see; mu is held.
func (u *unit) traffic() *component.Traffic {
	c := &u.counted
	primary, serves := u.seen[u.rec.Primary]
	t := &component.Traffic{Old: serves && primary.Hash != c.hash}
	if t.Old {
		c.from, c.before = primary.Hash, c.of(primary.Hash)
	}
	t.Before = c.before
	for _, s := range c.slots[max(0, len(c.slots)-tellSlots):] {
		slot := component.Slot{Slot: s.slot, New: s.by[c.hash]}
		for hash, tally := range s.by {
			if hash != c.hash {
				slot.Old = slot.Old.Plus(tally)
			}
		}
		t.Slots = append(t.Slots, slot)
	}
	return t
}

// of is what the release of that hash had.
func (c *counted) of(hash string) (sum component.Tally) {
	for _, s := range c.slots {
		sum = sum.Plus(s.by[hash])
	}
	return sum
}
