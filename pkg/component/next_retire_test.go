package component

import (
	"testing"
	"time"
)

func TestNextStopsFirst(t *testing.T) {
	x1, x2 := v1.with(exclusive), v2.with(exclusive)
	tests := []nextTest{
		{"stop-first makes room first", x2, serving(x1), mine(v2), Action{Verb: Drain, Container: "old"}},
		{
			"stop-first makes room only once the image is there", x2, serving(x1, image(v2, ImageState{})), mine(v2),
			Action{Verb: Pull, Release: release(x2)},
		},
		{
			"stop-first waits until the old container has ended", x2, host(proven(x1), runs("old", x1, Draining, conns)), mine(v2),
			Action{Verb: Wait, Container: "old", Reason: "the old container must end first"},
		},
		{
			"stop-first waits for a stop under way", x2, host(proven(x1), runs("old", x1, Draining, ended, busy)), mine(v2),
			Action{Verb: Wait, Container: "old", Reason: "the old container must end first"},
		},
		{"stop-first stops a container that never served", x2, host(runs("old", x1, Starting)), mine(v2), Action{Verb: Stop, Container: "old"}},
		{"stop-first starts once there is room", x2, host(proven(x1)), mine(v2), Action{Verb: Start, Release: release(x2)}},
		{
			"stop-first goes back by making room again", x2,
			host(proven(x1), record(v2, RolloutHalted), runs("new", x2, Serving, failed, unhealthy), primary("new")), waiting,
			Action{Verb: Drain, Container: "new"},
		},
		{
			"stop-first that lost its turn makes room for the old release", x2, host(proven(x1), runs("new", x2, Starting)), waiting,
			Action{Verb: Stop, Container: "new"},
		},
		{
			"order of the rollout makes room first, too", v2.with(func(s *Spec) { s.Rollout.Order = OrderStopFirst }), serving(v1), mine(v2),
			Action{Verb: Drain, Container: "old"},
		},
	}
	runNext(t, tests)
}

func TestNextRetires(t *testing.T) {
	d1 := v1.with(cutAfter1m)
	tests := []nextTest{
		{"stop drains first", stopped, serving(v1), waiting, Action{Verb: Drain, Container: "old"}},
		{"stop of a container that never served needs no drain", stopped, host(runs("new", v1, Starting)), waiting, Action{Verb: Stop, Container: "new"}},
		{"stop of a crashed container needs no drain", stopped, serving(v1, is("old", crashed)), waiting, Action{Verb: Stop, Container: "old"}},
		{"stop waits for open connections", stopped, host(runs("old", v1, Draining, conns, ended)), waiting, Action{}},
		{"stop waits for the termination checks", stopped, host(runs("old", v1, Draining)), waiting, Action{}},
		{"drained container is stopped", stopped, host(runs("old", v1, Draining, ended)), waiting, Action{Verb: Stop, Container: "old"}},
		{"stopped container is removed", stopped, host(runs("old", v1, Stopped)), waiting, Action{Verb: Remove, Container: "old"}},
		{
			"container that was taken for stopped before its start came through is stopped", v1,
			serving(v1, runs("late", v1, Stopped, func(c *Container) { c.Running = true })), waiting,
			Action{Verb: Stop, Container: "late"},
		},
		{"stopped component needs nothing", stopped, host(proven(v1), notServed), waiting, Action{}},
		{"kill does not drain", killed, serving(v1), waiting, Action{Verb: Kill, Container: "old"}},
		{"kill ends a drain", killed, host(runs("old", v1, Draining, conns)), waiting, Action{Verb: Kill, Container: "old"}},
		{"kill does not wait for ready checks", killed, host(runs("new", v1, Starting)), waiting, Action{Verb: Kill, Container: "new"}},
		{"kill does not wait for a failed container to stop by itself", killed, host(runs("new", v1, Starting, failed)), waiting, Action{Verb: Kill, Container: "new"}},
		{"operation under way is left alone", killed, serving(v1, is("old", busy)), waiting, Action{}},
		{
			"drain goes on while a new release waits for its turn", v2, serving(v1, runs("older", v3, Draining, ended)), waiting,
			Action{Verb: Stop, Container: "older"},
		},
		{"drain goes on while the store is away", v1, serving(v1, runs("older", v3, Draining, ended)), unreachable, Action{Verb: Stop, Container: "older"}},
		{"drain has no deadline unless there is one", v1, serving(v1, runs("older", v3, Draining, conns, since(48*time.Hour))), waiting, Action{}},
		{"drain deadline is waited for", d1, serving(d1, runs("older", v3, Draining, conns)), waiting, Action{At: t0.Add(58 * time.Second)}},
		{
			"nearest drain deadline is waited for", d1,
			serving(d1, runs("older", v3, Draining, conns), runs("oldest", v2, Draining, conns, since(30*time.Second))), waiting,
			Action{At: t0.Add(30 * time.Second)},
		},
		{"drain deadline cuts", d1, serving(d1, runs("older", v3, Draining, conns, since(time.Minute))), waiting, Action{Verb: Cut, Container: "older"}},
		{
			"termination checks are waited for until the drain deadline", d1,
			serving(d1, runs("older", v3, Draining, since(59*time.Second))), waiting,
			Action{At: t0.Add(time.Second)},
		},
		{"termination checks are not waited for after it", d1, serving(d1, runs("older", v3, Draining, since(time.Hour))), waiting, Action{Verb: Stop, Container: "older"}},
		{
			"failed containers: two stay", v1,
			serving(v1, runs("f1", v2, Stopped, failed), runs("f2", v2, Stopped, failed), runs("f3", v2, Stopped, failed)), waiting,
			Action{Verb: Remove, Container: "f1"},
		},
		{"failed containers: two are no reason to act", v1, serving(v1, runs("f2", v2, Stopped, failed), runs("f3", v2, Stopped, failed)), waiting, Action{}},
		{
			"several old containers drain at once", v2,
			host(proven(v2), runs("a", v1, Draining, conns), runs("b", v3, Serving), runs("new", v2, Serving), primary("new")), waiting,
			Action{Verb: Drain, Container: "b"},
		},
	}
	runNext(t, tests)
}
