package loop

// A slab is the memory of all pairs of a loop. It never shrinks, and nothing in it moves.
type slab struct {
	chunks []*[chunk]pair
	free   []int32
}

// chunk is how many pairs are allocated at once.
const chunk = 64

// at is the pair with an index.
func (s *slab) at(i int32) *pair { return &s.chunks[i/chunk][i%chunk] }

// get returns an unused pair.
func (s *slab) get(l *loop) *pair {
	if len(s.free) == 0 {
		s.grow(l)
	}
	i := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return s.at(i)
}

// grow adds a chunk.
func (s *slab) grow(l *loop) {
	c := new([chunk]pair)
	base := int32(len(s.chunks) * chunk)
	for i := range c {
		c[i].loop, c[i].index, c[i].timer = l, base+int32(i), -1
		c[i].ends[client].fd, c[i].ends[server].fd = -1, -1
	}
	s.chunks = append(s.chunks, c)
	for i := chunk - 1; i >= 0; i-- {
		s.free = append(s.free, base+int32(i))
	}
}

// put gives a pair back.
func (s *slab) put(p *pair) {
	p.stage, p.doom, p.said, p.age = free, false, false, isNew
	s.free = append(s.free, p.index)
}

// each calls f with every pair, used or not.
func (s *slab) each(f func(*pair)) {
	for _, c := range s.chunks {
		for i := range c {
			f(&c[i])
		}
	}
}
