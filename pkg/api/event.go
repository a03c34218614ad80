package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An Event is something that happened, as the event stream tells it.
type Event struct {
	ID         EventID   `json:"-"`
	At         time.Time `json:"at" doc:"as recorded, else when the server saw it"`
	Component  string    `json:"component,omitempty"`
	Host       string    `json:"host,omitempty"`
	Kind       string    `json:"kind"`
	Generation int64     `json:"generation,omitempty"`
	Text       string    `json:"text"`
}

// An EventID says where a stream of events is. Every server gives the same event the same ID.
type EventID struct {
	Revision int64 // of etcd
	Number   int   // of the event among those of the revision, from 1; 0: all of the revision is known
}

// String is the form on the wire.
func (id EventID) String() string {
	if id.Number == 0 {
		return strconv.FormatInt(id.Revision, 10)
	}
	return strconv.FormatInt(id.Revision, 10) + "-" + strconv.Itoa(id.Number)
}

// ParseEventID reads what String wrote. An empty text is the zero ID, which stands for now.
func ParseEventID(s string) (EventID, error) {
	if s == "" {
		return EventID{}, nil
	}
	revision, number, numbered := strings.Cut(s, "-")
	r, err := strconv.ParseInt(revision, 10, 64)
	if err != nil || r < 1 {
		return EventID{}, fmt.Errorf("%q is not the ID of an event", s)
	}
	id := EventID{Revision: r}
	if numbered {
		if id.Number, err = strconv.Atoi(number); err != nil || id.Number < 1 {
			return EventID{}, fmt.Errorf("%q is not the ID of an event", s)
		}
	}
	return id, nil
}
