package proxy

// A list keeps sessions in the order they were pushed. Each session is in one list at most; the links
// are in the session, so that moving one allocates nothing.
type list struct {
	head, tail *session
	n          int
}

func (l *list) push(s *session) {
	s.in, s.prev, s.next = l, l.tail, nil
	if l.tail == nil {
		l.head = s
	} else {
		l.tail.next = s
	}
	l.tail = s
	l.n++
}

func (l *list) remove(s *session) {
	if s.prev == nil {
		l.head = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		l.tail = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.in, s.prev, s.next = nil, nil, nil
	l.n--
}
