package modeltest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// waitedFor reports whether the others wait for host h, should it be lost.
func (m *model) waitedFor(h int, x *host) bool {
	key := heldBy{h, x.View}
	waits, ok := m.wait[key]
	if !ok {
		waits = rollout.Awaited(hostName(h), m.seen(x.View))
		m.wait[key] = waits
	}
	return waits
}

// task is t as Next takes it.
func (m *model) task(t task) component.Task {
	out := component.Task{
		ID: "task", Generation: int64(t.For), Hash: m.want[t.Release].Hash(), Attempt: int(t.Try), Since: now,
		Running: t.Running, Begun: true, Busy: t.Busy, End: [...]string{"", component.EndOverdue, component.EndDropped}[t.End],
	}
	if t.Old {
		out.Since = now.Add(-time.Hour)
	}
	if t.Failed {
		out.Failed = "exit code 1"
	}
	return out
}

// doTask is what host h does to the container of a pre-deploy task.
func (m *model) doTask(w *world, h int, mv move) error {
	x := &w.Hosts[h]
	t := &x.Task
	g := x.View.Desired.Generation
	switch mv.verb {
	case component.Nothing, component.Wait:
	case component.RunTask:
		if t.Release != 0 {
			return fmt.Errorf("a pre-deploy task is started beside another (P9)")
		}
		*t = task{Release: mv.rel, For: g, Try: x.try(g), Running: true}
	case component.Stop, component.Kill:
		t.Busy = true
		switch mv.why {
		case component.EndOverdue:
			t.End = endOverdue
		case component.EndDropped:
			t.End = endDropped
		}
	case component.Remove:
		if t.Running {
			return fmt.Errorf("a pre-deploy task that runs is removed")
		}
		*t = task{}
	case component.Prepared:
		if t.Running || t.Failed {
			return fmt.Errorf("a pre-deploy task counts as done that has not succeeded (P9)")
		}
		m.endTurn(w, h, &record{Generation: g, Status: progressing, Attempt: x.try(g), Prepared: true})
	case component.Fail:
		m.fail(w, h, nil)
	default:
		return fmt.Errorf("%s of a pre-deploy task", mv.verb)
	}
	return nil
}

// gone are the hosts that count as lost, without those that, in a pause, keep what came of a task.
func (w *world) gone() hostSet {
	lost := w.Store.lost()
	for i, h := range w.Hosts {
		if w.Store.Record.Paused && h.Task.Release != 0 {
			lost = lost.without(i)
		}
	}
	return lost
}

// endTask is the end of the process of a task. One that is stopped has failed; so has one of a broken release.
func (m *model) endTask(t *task, failed bool) {
	t.Failed = failed || t.Busy || m.traits[t.Release-1] == unprepared
	t.Running, t.Busy, t.Old = false, false, false
}

// sized is v with the parallelism of the scenario, which viewOf leaves to the spec.
func (m *model) sized(v component.View) component.View {
	v.Machines = map[string]component.Machine{}
	for i := range m.hosts {
		v.Machines[hostName(i)] = component.Machine{Components: []string{"web"}}
	}
	return v
}

var unprepared2 = [maxReleases]trait{good, unprepared}

// preparations are the scenarios of pre-deploy tasks.
var preparations = []scenario{
	{name: "task, then the update", hosts: 3, slots: 1, prepares: true, prompt: true, script: []command{update(2)}, faults: 1, kinds: []eventKind{die, lapse, botch, linger}},
	{name: "task, late views", hosts: 2, slots: 2, prepares: true, script: []command{update(2)}, faults: 2, kinds: []eventKind{die, lapse}},
	{name: "task, all breaks", hosts: 2, slots: 1, prepares: true, script: []command{update(2)}, faults: 1, kinds: []eventKind{crash, sicken, die, cutOff, lapse, deaf, stall, botch, linger}},
	{name: "task fails, then another update", hosts: 2, slots: 1, prepares: true, traits: unprepared2, script: []command{update(2), update(3)}, faults: 1, kinds: hostFaults},
	{name: "task fails, retry", hosts: 2, slots: 1, prepares: true, script: []command{update(2), says(retry)}, faults: 2, kinds: []eventKind{botch, die, stall}},
	{name: "task fails, goes back", hosts: 2, slots: 1, prepares: true, goesBack: true, traits: unprepared2, script: []command{update(2)}, faults: 1, kinds: hostFaults},
	{name: "task fails, some hosts may", hosts: 2, slots: 1, prepares: true, pass: 1, traits: unprepared2, script: []command{update(2)}, faults: 1, kinds: []eventKind{die}},
	{name: "task, another update comes", hosts: 2, slots: 1, prepares: true, prompt: true, script: []command{update(2), update(3)}, faults: 1, kinds: []eventKind{die, lapse, linger}},
	{name: "task, abort and retry", hosts: 2, slots: 1, prepares: true, script: []command{update(2), says(abort), says(retry)}, faults: 1, kinds: []eventKind{die, lapse}},
	{name: "task, pause and resume", hosts: 2, slots: 1, prepares: true, script: []command{update(2), says(pause), says(resume)}, faults: 1, kinds: []eventKind{die, lapse, sicken}},
	{name: "task, canary", hosts: 3, slots: 1, canary: 1, prepares: true, prompt: true, script: []command{update(2), says(promote)}, faults: 1, kinds: []eventKind{die, lapse}},
	{name: "task, stop", hosts: 2, slots: 1, prepares: true, prompt: true, script: []command{update(2), stop, update(2)}, faults: 1, kinds: []eventKind{die, cutOff}},
	{name: "task, nobody waits for a lost host", hosts: 2, slots: 1, goesOn: true, prepares: true, script: []command{update(2)}, faults: 2, kinds: []eventKind{die, lapse, cutOff}},
}

func TestTasksKeepTheirPromises(t *testing.T) {
	for _, s := range preparations {
		t.Run(s.name, func(t *testing.T) { explore(t, s) })
	}
}

// TestExplorerFindsPlantedTaskFaults shows that each guard of the task is needed.
func TestExplorerFindsPlantedTaskFaults(t *testing.T) {
	once := scenario{hosts: 2, slots: 2, prepares: true, script: []command{update(2)}}
	lost := scenario{hosts: 2, slots: 1, prepares: true, script: []command{update(2)}, faults: 1, kinds: []eventKind{die, lapse}}
	tests := []struct {
		name  string
		in    scenario
		plant func(*model)
		want  string
	}{
		{"takes a turn for the task beside another's", once, func(m *model) {
			m.impatient = true
			m.plant = func(s situation, mv move) move {
				if s.hold && mv.verb == component.Wait && s.state == component.TurnWaiting {
					return move{verb: component.AwaitTurn, cont: -1, task: true}
				}
				return mv
			}
		}, "(P9)"},
		{"does not wait for the task of a lost host", lost, func(m *model) { m.reckless = true }, "(P9)"},
		{"begins while the task runs", once, func(m *model) {
			m.plant = func(s situation, mv move) move {
				if mv.verb == component.AwaitTurn && mv.task {
					mv.task = false
				}
				if s.state == component.TurnMine && !s.tasks && mv.verb == component.Yield {
					return move{verb: component.Start, cont: -1, rel: 2}
				}
				return mv
			}
		}, "(P9)"},
		{"gives the turn back while the task runs", scenario{hosts: 2, slots: 1, prepares: true, script: []command{update(2), update(3)}}, func(m *model) {
			m.plant = func(s situation, mv move) move {
				if s.state == component.TurnMine && s.host.Task.Busy && mv.verb == component.Wait {
					return move{verb: component.Yield, cont: -1}
				}
				return mv
			}
		}, "does not come to rest"},
		{"says that it is back while its task runs", lost, func(m *model) { m.early = true }, "(P9)"},
		{"leaves its task container", once, func(m *model) {
			m.plant = func(_ situation, mv move) move {
				if mv.task && mv.verb == component.Remove {
					return move{verb: component.Nothing, cont: -1}
				}
				return mv
			}
		}, "at rest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newExplorer(tt.in)
			tt.plant(x.model)
			if err := x.run(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("found %v, want %q", err, tt.want)
			}
		})
	}
}
