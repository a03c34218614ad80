package modeltest

import (
	"hash/maphash"
	"math/bits"
	"slices"
)

// key is the same for worlds that differ only in which host is which.
func (m *model) key(w *world) uint64 {
	if m.hosts == 1 {
		return maphash.Comparable(m.seed, *w)
	}
	type local struct {
		host      host
		lease     bool
		published published
		mine      [maxSlots]bool
		sets      [5]bool // whether it is in the sets of the store
	}
	var (
		order [maxHosts]int
		looks [maxHosts]uint64
	)
	for i := range m.hosts {
		l := local{host: w.Hosts[i], lease: w.Store.Leases[i], published: w.Store.Published[i]}
		for j := range maxSlots {
			l.mine[j] = int(w.Store.Turns[j].Host) == i+1
			l.host.View.Turns[j].Host = relation(l.host.View.Turns[j].Host, i)
		}
		r := &w.Store.Record
		l.sets = [...]bool{r.Canaries.has(i), r.Failed.has(i), w.Store.Marks.has(i), w.Began.has(i), w.Store.Drained.has(i)}
		v := &l.host.View
		v.Record.Canaries, v.Record.Failed, v.Marks, v.Drained = v.Record.Canaries.seenBy(i), v.Record.Failed.seenBy(i), v.Marks.seenBy(i), v.Drained.seenBy(i)
		order[i], looks[i] = i, maphash.Comparable(m.seed, l)
	}
	slices.SortFunc(order[:m.hosts], func(a, b int) int {
		switch {
		case looks[a] < looks[b]:
			return -1
		case looks[a] > looks[b]:
			return 1
		}
		return 0
	})
	return maphash.Comparable(m.seed, reordered(w, order[:m.hosts]))
}

// relation is what the holder of a turn is to host i: nobody, itself, another.
func relation(holder uint8, i int) uint8 {
	switch int(holder) {
	case 0:
		return 0
	case i + 1:
		return 1
	}
	return 2
}

// seenBy is s as host i sees it: whether it is in it, and how many others are.
func (s hostSet) seenBy(i int) hostSet {
	self := hostSet(0)
	if s.has(i) {
		self = 1
	}
	return self | hostSet(bits.OnesCount8(uint8(s.without(i)))<<1)
}

// reordered is w with its hosts in the given order.
func reordered(w *world, order []int) world {
	out := *w
	var number [maxHosts + 1]uint8
	for to, from := range order {
		number[from+1] = uint8(to + 1)
	}
	rename := func(ts *[maxSlots]turn) {
		for i := range ts {
			ts[i].Host = number[ts[i].Host]
		}
	}
	renumber := func(s hostSet) (out hostSet) {
		for to, from := range order {
			if s.has(from) {
				out = out.with(to)
			}
		}
		return out
	}
	renameSets := func(v *view) {
		v.Record.Canaries, v.Record.Failed, v.Marks, v.Drained = renumber(v.Record.Canaries), renumber(v.Record.Failed), renumber(v.Marks), renumber(v.Drained)
	}
	rename(&out.Store.Turns)
	renameSets(&out.Store.view)
	out.Began = renumber(w.Began)
	for to, from := range order {
		out.Hosts[to] = w.Hosts[from]
		rename(&out.Hosts[to].View.Turns)
		renameSets(&out.Hosts[to].View)
		out.Store.Leases[to], out.Store.Published[to] = w.Store.Leases[from], w.Store.Published[from]
	}
	return out
}
