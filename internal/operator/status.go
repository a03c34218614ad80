package operator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// Component joins what was asked for and how its rollout stands into the original's one word.
func Component(name string, v component.View) api.Component {
	l := api.Component{Name: name, Status: "unknown", ImageID: v.Desired.ImageID, Image: v.Desired.Image.Ref, Generation: v.Desired.Generation}
	switch {
	case v.DesiredErr != nil:
		l.Reason = v.DesiredErr.Error()
		return l
	case v.Desired.Status == "":
		return l
	}
	l.Status, l.Reason = string(v.Desired.Status), RouteErrors(v)
	if v.Desired.Status != component.StatusReady || v.Rollout.Generation != v.Desired.Generation {
		return l
	}
	switch v.Rollout.Status {
	case component.RolloutHalted:
		l.Status, l.Reason = string(v.Rollout.Kind), v.Rollout.Reason
	case component.RolloutProgressing:
		l.Status, l.Reason = "updating", Standing(name, v)
	case component.RolloutDone:
	}
	return l
}

// ComponentStatus is Component with what each host says.
func ComponentStatus(name string, v component.View) api.ComponentStatus {
	c := api.ComponentStatus{Component: Component(name, v), Hosts: []component.HostStatus{}}
	for h := range v.Hosts {
		c.Hosts = append(c.Hosts, v.Status(h))
	}
	slices.SortFunc(c.Hosts, func(a, b component.HostStatus) int { return strings.Compare(a.Host, b.Host) })
	return c
}

// Status is what every host of a project does about the components.
func Status(name string, p etcdstate.Project, which []string) api.Status {
	r := api.Status{Project: name, Components: []api.ComponentStatus{}, Hosts: []api.Machine{}}
	for _, n := range which {
		r.Components = append(r.Components, ComponentStatus(n, p.Components[n]))
	}
	for h, m := range p.Machines {
		report := api.Machine{Host: h, Machine: m}
		if d, drained := p.Drained[h]; drained {
			report.Drained = &d
		}
		r.Hosts = append(r.Hosts, report)
	}
	slices.SortFunc(r.Hosts, func(a, b api.Machine) int { return strings.Compare(a.Host, b.Host) })
	return r
}

// RouteErrors tells on which hosts ports are not as they were asked for.
func RouteErrors(v component.View) string {
	var all []string
	for _, h := range slices.Sorted(maps.Keys(v.Hosts)) {
		if e := v.Hosts[h].RouteErr; e != "" {
			all = append(all, fmt.Sprintf("host %s: %s", h, e))
		}
	}
	return strings.Join(all, "; ")
}

// Standing says what a rollout that goes on waits for, beyond its hosts; empty when for nothing.
func Standing(name string, v component.View) string {
	r := v.Record()
	switch lost := v.Lost(""); {
	case rollout.Watches(name, v):
		return "every host serves it, and the guard watches it for " + v.Guarded().Within().String() + usersSee(name, v)
	case r.Paused != nil && r.Paused.Reason != "":
		return "paused by " + r.Paused.By + ": " + r.Paused.Reason
	case r.Paused != nil:
		return "paused by " + r.Paused.By
	case v.Desired.Follows != "" && !r.Begun:
		return "component " + v.Desired.Follows + " comes first"
	case v.Turn.Tasker != "":
		return "pre-deploy task on " + v.Turn.Tasker
	case rollout.AwaitsPromotion(name, v):
		return "the canaries serve: waits for promote"
	case len(lost) > 0:
		return "host " + strings.Join(lost, ", ") + " was lost in its turn: waits until it is back, or forgotten"
	case rollout.AllDrained(name, v):
		return "no host that runs it is in service"
	case len(r.Failed) > 0:
		return "passed over after a failure: " + strings.Join(r.Failed, ", ")
	}
	return strings.TrimPrefix(usersSee(name, v), "; ")
}

// usersSee is what users see of a rollout under a guard, to be added to what else is said of it.
func usersSee(name string, v component.View) string {
	if text := rollout.UsersSee(name, v); text != "" {
		return "; " + text
	}
	return ""
}

// Hosts are the hosts whose daemon runs, and those that rollouts wait for.
func Hosts(p etcdstate.Project) []api.Host {
	lost := rollout.LostHosts(p.Components)
	rows := []api.Host{}
	for h, m := range p.Machines {
		rows = append(rows, api.Host{Host: h, Status: m.Status, IP: m.IP, Version: m.Version, StartedAt: m.StartedAt, Components: orNone(m.Components)})
	}
	for h := range lost {
		if _, ok := p.Machines[h]; !ok {
			rows = append(rows, api.Host{Host: h, Status: "lost", Components: []string{}})
		}
	}
	for h := range p.Drained {
		if !slices.ContainsFunc(rows, func(r api.Host) bool { return r.Host == h }) {
			rows = append(rows, api.Host{Host: h, Status: "away", Components: []string{}})
		}
	}
	for i := range rows {
		r := &rows[i]
		if d, drained := p.Drained[r.Host]; drained {
			r.Drained = &d
			if m, runs := p.Machines[r.Host]; runs && m.Drain != d.Revision { // it has not heard of it yet
				r.Status = component.MachineDraining
			}
		}
		r.Turns, r.LostIn = []string{}, orNone(lost[r.Host])
		for _, n := range slices.Sorted(maps.Keys(p.Components)) {
			if slices.Contains(p.Components[n].Turn.Holders, r.Host) {
				r.Turns = append(r.Turns, n)
			}
		}
	}
	slices.SortFunc(rows, func(a, b api.Host) int { return strings.Compare(a.Host, b.Host) })
	return rows
}

// orNone is an empty list in place of none, which JSON shows as null.
func orNone(list []string) []string { return append([]string{}, list...) }
