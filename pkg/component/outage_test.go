package component

import (
	"testing"
	"time"
)

func out(ago time.Duration) change {
	return func(o *Observed) { o.Out, o.OutSince, o.Hold = "drained by ann", t0.Add(-ago), "drained by ann" }
}

func guests(c *Container)  { c.Conns, c.Guests = 2, 2 }
func cutting(c *Container) { c.Cutting = true }

func doneRecord(d Desired) change {
	return func(o *Observed) { o.Rollout = Rollout{Generation: d.Generation, Status: RolloutDone} }
}

// A host that is out of service keeps what it has, repairs it, ends the turn it is in, and begins nothing.
func TestNextOnAHostOutOfService(t *testing.T) {
	one := v1.with(cutAfter1m)
	tests := []struct {
		name string
		want Desired
		have Observed
		turn Turn
		verb Verb
	}{
		{"nothing is asked of it", v1, serving(v1, out(0)), waiting, Nothing},
		{"an update waits", v2, serving(v1, out(0)), waiting, Wait},
		{"one that is done everywhere else waits as well", v2, serving(v1, out(0), doneRecord(v2)), waiting, Wait},
		{"once it is back it comes to that one", v2, serving(v1, doneRecord(v2)), waiting, Start},
		{"a turn that it has goes on", v2, serving(v1, out(0)), mine(v2), Start},
		{"what breaks is repaired", v2, host(proven(v1), out(0)), waiting, Start},
		{"nothing is started for the first time", v1, host(out(0), doneRecord(v1)), waiting, Wait},
		{"a stop is a stop", stopped, serving(v1, out(0)), waiting, Drain},
		{"those who are left stay", v1, host(proven(v1), runs("old", v1, Serving, guests), primary("old"), out(time.Hour)), waiting, Nothing},
		{"... until their time is over", one, host(proven(one), runs("old", one, Serving, guests), primary("old"), out(time.Minute)), waiting, Cut},
		{"... and not before", one, host(proven(one), runs("old", one, Serving, guests), primary("old"), out(time.Second)), waiting, Nothing},
		{"they are cut once", one, host(proven(one), runs("old", one, Serving, guests, cutting), primary("old"), out(time.Minute)), waiting, Nothing},
		{"its own containers' connections stay", one, host(proven(one), runs("old", one, Serving, conns), primary("old"), out(time.Hour)), waiting, Nothing},
		{"those of a host in service stay", one, host(proven(one), runs("old", one, Serving, guests), primary("old")), waiting, Nothing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if a := Next(tt.want, tt.have, tt.turn); a.Verb != tt.verb {
				t.Errorf("Next = %+v, want %v", a, tt.verb)
			}
		})
	}
	a := Next(one, host(proven(one), runs("old", one, Serving, guests), primary("old"), out(time.Second)), waiting)
	if want := t0.Add(59 * time.Second); !a.At.Equal(want) {
		t.Errorf("looks again at %v, want %v", a.At, want)
	}
}

// Others wait for the end of a task that this host began, so it says how that ended, drained or not.
func TestNextTellsTheEndOfATaskOutOfService(t *testing.T) {
	task := v2.with(func(s *Spec) { s.PreDeploy.Command = []string{"migrate"} })
	ended := func(o *Observed) {
		o.Awaited, o.Waits, o.Hold = true, true, ""
		o.Tasks = []Task{{ID: "t", Generation: task.Generation, Hash: task.Release().Hash(), Begun: true}}
	}
	if a := Next(task, serving(v1, out(0), ended), waiting); a.Verb != AwaitTurn || !a.Task {
		t.Errorf("Next = %+v, want a turn for the task", a)
	}
	if a := Next(task, serving(v1, out(0)), waiting); a.Verb != Wait {
		t.Errorf("Next = %+v, want to wait", a)
	}
}
