package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// Why tells, from what is recorded, why the component is or is not running, serving or rolling out: one
// sentence a fact. With a host, it is about that one.
func Why(name, host string, v component.View, now time.Time) []string {
	out := []string{wanted(name, v, now)}
	if v.DesiredErr != nil || v.Desired.Status == "" {
		return out
	}
	if v.Desired.Status == component.StatusReady {
		out = append(out, stands(name, v))
	}
	hosts := Hosts(name, v)
	for h := range v.Changing {
		if !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	if AllDrained(name, v) {
		out = append(out, "No host that runs "+name+" is in service.")
	}
	slices.Sort(hosts)
	if host != "" {
		hosts = []string{host}
	}
	if len(hosts) == 0 {
		return append(out, "No daemon that runs "+name+" is alive.")
	}
	for _, h := range hosts {
		out = append(out, onHost(name, h, v, now))
	}
	return out
}

// wanted says what was asked for, by whom and when.
func wanted(name string, v component.View, now time.Time) string {
	d := v.Desired
	switch {
	case v.DesiredErr != nil:
		return "What is asked for of " + name + " cannot be read, so hosts keep what they had: " + v.DesiredErr.Error() + "."
	case d.Status == "":
		return "Nobody has asked for anything of " + name + " yet."
	}
	who := or(d.By, "Somebody")
	asked := fmt.Sprintf("%s asked for %s to be %s", who, name, d.Status)
	if d.Status == component.StatusReady {
		asked = fmt.Sprintf("%s asked for %s of %s", who, image(d), name)
		if d.Source != 0 {
			asked = fmt.Sprintf("%s rolled %s back to generation %d, %s", who, name, d.Source, image(d))
		}
	}
	asked += fmt.Sprintf(" (generation %d)", d.Generation)
	if !d.At.IsZero() {
		asked += ", " + ago(now, d.At)
	}
	if with := Companions(name, d); with != "" {
		asked += ", as one release with " + with
	}
	if d.Reason != "" {
		asked += ", because: " + d.Reason
	}
	return asked + "."
}

func image(d component.Desired) string {
	if d.Image.Ref == "" {
		return component.Short(d.ImageID)
	}
	return d.Image.Ref + " (" + component.Short(d.ImageID) + ")"
}

// stands says how the rollout stands.
func stands(name string, v component.View) string {
	r := v.Record()
	switch r.Status {
	case component.RolloutDone:
		if len(r.Failed) > 0 {
			return "Its rollout is done, but passed over " + strings.Join(r.Failed, ", ") + ": " + r.Reason + "."
		}
		return "Its rollout is done."
	case component.RolloutHalted:
		return "Its rollout halted, so no other host begins: " + r.Reason + "."
	case component.RolloutProgressing:
	}
	text := "Its rollout goes on"
	seen := UsersSee(name, v)
	switch lost := v.Lost(""); {
	case Watches(name, v):
		text += ": every host serves it, and the guard watches it for " + v.Guarded().Within().String()
	case r.Paused != nil:
		text += ", but is paused by " + word(*r.Paused)
	case follows(v):
		text += ", after that of " + v.Desired.Follows
	case v.Desired.NeedsTask(v.Rollout):
		text += ", the pre-deploy task first" + taskOn(v, lost)
	case v.Canary(1) > 0:
		text += ", the canaries first: " + strings.Join(append([]string{}, r.Canaries...), ", ")
	case len(lost) > 0:
		text += ", but waits for " + strings.Join(lost, ", ") + ", lost in its turn"
	case len(v.Turn.Holders) > 0:
		text += "; it is the turn of " + strings.Join(v.Turn.Holders, ", ")
	}
	if seen != "" {
		text += "; " + seen
	}
	return text + "."
}

// taskOn says where the pre-deploy task runs, or what it waits for.
func taskOn(v component.View, lost []string) string {
	switch {
	case len(lost) > 0:
		return ", which waits for " + strings.Join(lost, ", ") + ", lost in its turn"
	case v.Turn.Tasker != "":
		return ", which runs on " + v.Turn.Tasker
	}
	return ""
}

// onHost says what a host does, and why.
func onHost(name, host string, v component.View, now time.Time) string {
	m, alive := v.Machines[host]
	_, marked := v.Changing[host]
	switch {
	case !alive && v.Skips(host):
		return "Host " + host + " has no daemon that runs; " + outOfService(v.Drained[host], now) + "."
	case !alive && marked:
		return "Host " + host + " was lost in its turn: its daemon does not run."
	case !alive:
		return "Host " + host + " has no daemon that runs; hosts that have are " + strings.Join(slices.Sorted(maps.Keys(v.Machines)), ", ") + "."
	case !slices.Contains(m.Components, name):
		return "Host " + host + " does not run " + name + "; it runs " + strings.Join(m.Components, ", ") + "."
	}
	st := v.Status(host)
	if st.Step == "" {
		return "Host " + host + " has said nothing of it yet."
	}
	text := "Host " + host + " is " + st.Step
	if st.Detail != "" {
		text += " (" + st.Detail + ")"
	}
	if i := slices.IndexFunc(st.Containers, func(c component.ContainerStatus) bool { return c.Primary }); i >= 0 {
		c := st.Containers[i]
		text += fmt.Sprintf("; new connections go to container %s of generation %d, which is %s", component.Short(c.ID), c.Generation, c.Health)
		if c.Problem != "" {
			text += ": " + c.Problem
		}
	}
	if d, drained := v.Drained[host]; drained {
		text += "; " + outOfService(d, now)
	}
	if f := st.Failure; f != nil {
		text += fmt.Sprintf("; its last failure, %s, was of generation %d: %s", ago(now, f.At), f.Generation, f.Reason)
	}
	return text + "."
}

// outOfService says that a host takes nothing, on whose word.
func outOfService(d component.HostDrain, now time.Time) string {
	text := "it is " + d.String()
	if !d.At.IsZero() {
		text += " " + ago(now, d.At)
	}
	return text + ", so it takes no new connections and no turns, and nobody waits for it"
}

func ago(now, t time.Time) string {
	return max(0, now.Sub(t)).Truncate(time.Second).String() + " ago"
}

func or(s, unset string) string {
	if s == "" {
		return unset
	}
	return s
}
