package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

// Out says who drained the host, and why; empty when it is in service.
func Out(host string, v component.View) string {
	if d, drained := v.Drained[host]; drained {
		return d.String()
	}
	return ""
}

// Awaits are the running hosts of the component that its rollout waits for, in order of their names: those in
// service, and those that were drained in the middle of their turn, which they end.
func Awaits(name string, v component.View) []string {
	return slices.DeleteFunc(Hosts(name, v), v.Skips)
}

// AllDrained reports whether there are hosts that run the component, and none of them is in service: its
// rollout waits for one.
func AllDrained(name string, v component.View) bool {
	return len(Hosts(name, v)) > 0 && len(Awaits(name, v)) == 0
}

// Skipped are the running hosts of the component that its rollout goes on without, in order of their names.
func Skipped(name string, v component.View) []string {
	return slices.DeleteFunc(Hosts(name, v), func(h string) bool { return !v.Skips(h) })
}

// takes reports whether new connections to the component are served on the host: its ports are open, and lead to a
// container that is not known to be sick.
func takes(name, host string, v component.View) bool {
	_, drained := v.Drained[host]
	st := v.Hosts[host]
	return !drained && st.RouteErr == "" && slices.Contains(Hosts(name, v), host) &&
		slices.ContainsFunc(st.Containers, func(c component.ContainerStatus) bool {
			return c.Primary && c.Health != component.Unhealthy
		})
}

// LastOf are the components that nobody would serve any more if the host were drained, in order of their names.
func LastOf(host string, views map[string]component.View) []string {
	var last []string
	for _, name := range slices.Sorted(maps.Keys(views)) {
		v := views[name]
		if v.Desired.Status != component.StatusReady || !takes(name, host, v) {
			continue
		}
		if !slices.ContainsFunc(Hosts(name, v), func(h string) bool { return h != host && takes(name, h, v) }) {
			last = append(last, name)
		}
	}
	return last
}

// Fleet is what hosts are drained from.
type Fleet struct {
	Components map[string]component.View
	Machines   map[string]component.Machine
	Drained    map[string]component.HostDrain
}

// known reports whether anybody has heard of the host.
func (f Fleet) known(host string) bool {
	_, runs := f.Machines[host]
	_, drained := f.Drained[host]
	return runs || drained || len(LostHosts(f.Components)[host]) > 0
}

// Drain says why an operator may not take the host out of service; nil when it may. Forced, it may be the last
// one that serves something.
func Drain(host string, f Fleet, force bool) error {
	if !f.known(host) {
		return fmt.Errorf("%w: host %s", ErrUnknown, host)
	}
	if d, drained := f.Drained[host]; drained {
		return conflict("host %s is %s already", host, d)
	}
	if last := LastOf(host, f.Components); len(last) > 0 && !force {
		return fmt.Errorf("%w: nobody else serves %s: host %s is the last one", ErrLast, strings.Join(last, ", "), host)
	}
	return nil
}

// Undrain says why an operator may not take the host back into service; nil when it may.
func Undrain(host string, f Fleet) error {
	switch _, drained := f.Drained[host]; {
	case drained:
		return nil
	case !f.known(host):
		return fmt.Errorf("%w: host %s", ErrUnknown, host)
	}
	return conflict("host %s is not drained", host)
}
