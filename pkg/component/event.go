package component

import "time"

// EventKind names what happened; EventKind values are stable, the text of an event is for people.
type EventKind string

// An Event is one line of the story of a component on a host. Text is in the original's words
// where it had any.
type Event struct {
	At        time.Time `json:"at"`
	Component string    `json:"component"`
	Host      string    `json:"host,omitempty"`
	Container string    `json:"container,omitempty"`
	Kind      EventKind `json:"kind"`
	Text      string    `json:"text"`
	Detail    string    `json:"detail,omitempty"` // a cause, not part of the original's words
}

// The kinds of events.
const (
	EventPull           EventKind = "pull"
	EventStart          EventKind = "start"
	EventReadyWait      EventKind = "ready-wait"
	EventCheck          EventKind = "check"
	EventCheckFailed    EventKind = "check-failed"
	EventReadyTimeout   EventKind = "ready-timeout"
	EventRoute          EventKind = "route"
	EventHealthy        EventKind = "healthy"
	EventUnhealthy      EventKind = "unhealthy"
	EventCrashed        EventKind = "crashed"
	EventTask           EventKind = "task"
	EventDrain          EventKind = "drain"
	EventSignal         EventKind = "signal"
	EventTermination    EventKind = "termination-check"
	EventStop           EventKind = "stop"
	EventKill           EventKind = "kill"
	EventRemove         EventKind = "remove"
	EventDone           EventKind = "done"
	EventFailed         EventKind = "failed"
	EventWaiting        EventKind = "waiting"
	EventProxy          EventKind = "proxy"
	EventMonitoring     EventKind = "monitoring"
	EventHost           EventKind = "host"
	EventStoreLost      EventKind = "store-lost"
	EventStoreBack      EventKind = "store-back"
	EventStoreUntrusted EventKind = "store-untrusted"
)

// Short is the form of a container or image ID that people see: its first 12 characters, without
// the hash's name.
func Short(id string) string {
	const prefix = "sha256:"
	if len(id) > len(prefix) && id[:len(prefix)] == prefix {
		id = id[len(prefix):]
	}
	return id[:min(12, len(id))]
}
