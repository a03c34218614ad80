package loop

// timers is a heap of the pairs that wait for a time, the earliest first. A pair knows its place.
type timers []timer

type timer struct {
	at   int64
	pair *pair
}

// arm sets the time of p, which may have one.
func (t *timers) arm(p *pair, at int64) {
	i := int(p.timer)
	if i < 0 {
		i = len(*t)
		*t = append(*t, timer{})
	}
	t.put(i, timer{at, p})
	t.down(t.up(i))
}

// disarm takes the time of p away, if it has one.
func (t *timers) disarm(p *pair) {
	i := int(p.timer)
	if i < 0 {
		return
	}
	p.timer = -1
	last := len(*t) - 1
	moved := (*t)[last]
	(*t)[last] = timer{}
	*t = (*t)[:last]
	if i < last {
		t.put(i, moved)
		t.down(t.up(i))
	}
}

func (t timers) put(i int, e timer) {
	t[i] = e
	e.pair.timer = int32(i)
}

func (t timers) swap(i, j int) {
	a, b := t[i], t[j]
	t.put(i, b)
	t.put(j, a)
}

func (t timers) up(i int) int {
	for i > 0 && t[i].at < t[(i-1)/2].at {
		t.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	return i
}

func (t timers) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(t); c++ {
			if t[c].at < t[least].at {
				least = c
			}
		}
		if least == i {
			return
		}
		t.swap(i, least)
		i = least
	}
}
