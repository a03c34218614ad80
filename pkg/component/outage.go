package component

import (
	"slices"
	"time"
)

// A HostDrain is an operator's word that a host is to be out of service: it keeps what runs there, takes no new
// connections, and rollouts go on without it.
type HostDrain struct {
	Word
	Operation string    `json:"operation,omitempty"` // ID of the write, to recognise one's own after an error
	Revision  int64     `json:"revision,omitempty"`  // of the word; never stored inside it
	Since     time.Time `json:"since,omitzero"`      // when the host heard of it, by its own clock; in its memory only
}

// String is who drained the host, and why.
func (d HostDrain) String() string {
	who := or(d.By, "somebody")
	if d.Reason == "" {
		return "drained by " + who
	}
	return "drained by " + who + ": " + d.Reason
}

// Skips reports whether the rollout goes on without the host: it is drained and has no turn, which it
// would end.
func (v View) Skips(host string) bool {
	_, drained := v.Drained[host]
	return drained && !slices.Contains(v.Turn.Holders, host)
}

// turnOut cuts the connections that are left on a host that is out of service, once their time is over; it
// moves nothing else.
func turnOut(want Desired, have Observed) Action {
	if have.Out == "" {
		return Action{}
	}
	var at time.Time
	for _, c := range have.Containers {
		if c.Stage != Serving || !c.Running || c.Busy || c.Guests == 0 || c.Cutting {
			continue
		}
		if want.DrainOver(have.OutSince, have.Now) {
			return Action{Verb: Cut, Container: c.ID}
		}
		at = earliest(at, want.DrainDeadline(have.OutSince))
	}
	return Action{At: at}
}
