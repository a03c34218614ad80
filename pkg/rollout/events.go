package rollout

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// An Event is something that the store shows to have happened.
type Event struct {
	At         time.Time `json:"at"` // as recorded, else when it was seen
	Component  string    `json:"component,omitempty"`
	Host       string    `json:"host,omitempty"`
	Kind       string    `json:"kind"`
	Generation int64     `json:"generation,omitempty"`
	Text       string    `json:"text"`
}

// The kinds of events.
const (
	EventAsked     = "asked"
	EventBegun     = "begun"
	EventPaused    = "paused"
	EventResumed   = "resumed"
	EventPromoted  = "promoted"
	EventPrepared  = "prepared"
	EventPassed    = "passed-over"
	EventHalted    = "halted"
	EventDone      = "done"
	EventRetried   = "retried"
	EventTurn      = "turn"
	EventTurnEnded = "turn-ended"
	EventStep      = "step"
	EventRestart   = "restart"
	EventFailure   = "failure"
	EventHostUp    = "host-up"
	EventHostDown  = "host-down"
	EventDrained   = "host-drained"
	EventUndrained = "host-undrained"
)

// Asked is the event of a state that was asked for.
func Asked(name string, d component.Desired) Event {
	text := or(d.By, "somebody") + " asked for it to be " + string(d.Status)
	if d.Status == component.StatusReady {
		text = or(d.By, "somebody") + " asked for " + image(d)
	}
	if with := Companions(name, d); with != "" {
		text += ", as one release with " + with
	}
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return Event{At: d.At, Component: name, Kind: EventAsked, Generation: d.Generation, Text: text}
}

// Ended is the event of how a rollout ended, if its record says that it did.
func Ended(name string, r component.Rollout) (Event, bool) {
	e := Event{At: r.At, Component: name, Host: r.Host, Generation: r.Generation}
	switch r.Status {
	case component.RolloutDone:
		e.Kind, e.Text = EventDone, "every host came to it"
		if len(r.Failed) > 0 {
			e.Text = "done, but passed over " + strings.Join(r.Failed, ", ")
		}
	case component.RolloutHalted:
		e.Kind, e.Text = EventHalted, r.Reason
	case component.RolloutProgressing, "":
		return e, false
	}
	return e, true
}

// Events are what happened to a component between two looks at it, of which the second was at now.
func Events(name string, before, after component.View, now time.Time) []Event {
	var out []Event
	add := func(host, kind, text string) {
		out = append(out, Event{At: now, Component: name, Host: host, Kind: kind, Generation: after.Desired.Generation, Text: text})
	}
	if d := after.Desired; d.Generation != before.Desired.Generation && d.Status != "" {
		out = append(out, Asked(name, d))
	}
	recorded(name, before, after, &out, add)
	for _, h := range minus(after.Turn.Holders, before.Turn.Holders) {
		text := "has a turn"
		if after.Turn.Tasker == h {
			text = "has the turn for the pre-deploy task"
		}
		add(h, EventTurn, text)
	}
	for _, h := range minus(before.Turn.Holders, after.Turn.Holders) {
		text := "ended its turn"
		if slices.Contains(after.Lost(""), h) {
			text = "was lost in its turn"
		}
		add(h, EventTurnEnded, text)
	}
	for _, h := range slices.Sorted(maps.Keys(after.Hosts)) {
		stepped(before.Hosts[h], after.Hosts[h], func(kind, text string) { add(h, kind, text) })
	}
	return out
}

// Seen is after, the newer of two looks, as the look before the next one: with what hosts said last that say nothing
// at the moment. A daemon that was restarted says again what was told of it before.
func Seen(before, after component.View) component.View {
	hosts := maps.Clone(after.Hosts)
	for h, st := range before.Hosts {
		if _, there := hosts[h]; !there {
			if hosts == nil {
				hosts = map[string]component.HostStatus{}
			}
			hosts[h] = st
		}
	}
	after.Hosts = hosts
	return after
}

// recorded tells what is new in the rollout record.
func recorded(name string, before, after component.View, out *[]Event, add func(host, kind, text string)) {
	was, is := before.Record(), after.Record()
	fresh := before.Desired.Generation != after.Desired.Generation
	if fresh {
		was = component.Rollout{Status: component.RolloutProgressing}
	}
	switch {
	case is.Attempt > was.Attempt && !fresh:
		add("", EventRetried, "is tried again")
	case after.Rollout.Generation == after.Desired.Generation && (fresh || before.Rollout.Generation != before.Desired.Generation):
		add("", EventBegun, "its rollout begins")
	}
	if is.Prepared != nil && was.Prepared == nil {
		add(is.Prepared.Host, EventPrepared, "the pre-deploy task succeeded")
	}
	switch {
	case is.Paused != nil && was.Paused == nil:
		add("", EventPaused, "paused by "+word(*is.Paused))
	case is.Paused == nil && was.Paused != nil && is.Status == component.RolloutProgressing:
		add("", EventResumed, "goes on after a pause")
	}
	if is.Promoted != nil && was.Promoted == nil {
		add("", EventPromoted, "promoted by "+word(*is.Promoted))
	}
	for _, h := range minus(is.Failed, was.Failed) {
		add(h, EventPassed, "failed and is passed over: "+is.Reason)
	}
	if e, ended := Ended(name, is); ended && is.Status != was.Status {
		*out = append(*out, e)
	}
}

// stepped tells what is new in what a host says.
func stepped(was, is component.HostStatus, add func(kind, text string)) {
	if is.Restarts > was.Restarts {
		add(EventRestart, "replaces a broken container")
	}
	if f := is.Failure; f != nil && (was.Failure == nil || !f.At.Equal(was.Failure.At)) {
		add(EventFailure, f.Reason)
	}
	if is.Step == was.Step && is.Target == was.Target {
		return
	}
	text := is.Step
	if is.Detail != "" {
		text += ": " + is.Detail
	}
	add(EventStep, text)
}

// HostEvents are the hosts whose daemons came and went between two looks.
func HostEvents(before, after map[string]component.Machine, now time.Time) []Event {
	var out []Event
	for _, h := range minus(slices.Sorted(maps.Keys(after)), slices.Collect(maps.Keys(before))) {
		out = append(out, Event{At: now, Host: h, Kind: EventHostUp, Text: "its daemon runs"})
	}
	for _, h := range minus(slices.Sorted(maps.Keys(before)), slices.Collect(maps.Keys(after))) {
		out = append(out, Event{At: now, Host: h, Kind: EventHostDown, Text: "its daemon does not run any more"})
	}
	return out
}

// Drained is the event of a host that an operator took out of service.
func Drained(host string, d component.HostDrain) Event {
	return Event{At: d.At, Host: host, Kind: EventDrained, Text: "is out of service, " + d.String()}
}

// DrainEvents are the hosts that went out of service, and came back, between two looks.
func DrainEvents(before, after map[string]component.HostDrain, now time.Time) []Event {
	var out []Event
	for _, h := range slices.Sorted(maps.Keys(after)) {
		if before[h].Revision != after[h].Revision {
			out = append(out, Drained(h, after[h]))
		}
	}
	for _, h := range minus(slices.Sorted(maps.Keys(before)), slices.Collect(maps.Keys(after))) {
		out = append(out, Event{At: now, Host: h, Kind: EventUndrained, Text: "is in service again"})
	}
	return out
}

// minus are those of a that are not in b.
func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}
