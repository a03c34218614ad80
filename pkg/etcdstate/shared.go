package etcdstate

import "maps"

// shared is a map that is given away as it is and copied before it changes, so that whoever has it sees
// one moment. It is not safe for concurrent use; what it gave away is.
type shared[V any] struct {
	m     map[string]V
	given bool
}

// all is the map of this moment; nobody may change it.
func (s *shared[V]) all() map[string]V {
	if s.m == nil {
		s.m = map[string]V{}
	}
	s.given = true
	return s.m
}

// get is one value, the zero value when there is none.
func (s *shared[V]) get(key string) V { return s.m[key] }

func (s *shared[V]) put(key string, v V) {
	s.own()
	s.m[key] = v
}

func (s *shared[V]) remove(key string) {
	if _, ok := s.m[key]; ok {
		s.own()
		delete(s.m, key)
	}
}

// own makes m one that nobody else has.
func (s *shared[V]) own() {
	switch {
	case s.m == nil:
		s.m = map[string]V{}
	case s.given:
		s.m = maps.Clone(s.m)
	}
	s.given = false
}
