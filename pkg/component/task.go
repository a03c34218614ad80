package component

import "time"

// DefaultTaskTimeout is how long a pre-deploy task may run.
const DefaultTaskTimeout = 10 * time.Minute

// PreDeploy is a command that runs once for a release, before the first host starts it.
type PreDeploy struct {
	Command []string `json:"command,omitempty" doc:"What runs in place of the component's command, as argv; it has succeeded when it exits with 0."`
	Timeout Duration `json:"timeout,omitempty" doc:"Longest time that the command may run." default:"10m"`
}

// Within is the longest time that the task may run.
func (p PreDeploy) Within() time.Duration { return orDur(p.Timeout, DefaultTaskTimeout) }

// A Preparation is a pre-deploy task that succeeded.
type Preparation struct {
	Host string    `json:"host"`
	At   time.Time `json:"at,omitzero"`
}

// A Task is a container of a pre-deploy task on this host, as Next sees it.
type Task struct {
	ID         string
	Generation int64 // what it was started for
	Hash       string
	Attempt    int // of the rollout
	Since      time.Time
	Running    bool
	Begun      bool   // its process was started and not ended by the engine's end; else it is of no use
	Failed     string // how it ended; empty when with exit code 0
	End        string // EndOverdue or EndDropped when this host ended it; else empty
	Busy       bool   // an operation on it is under way
}

// Why a host ended a task container, which the container does not tell.
const (
	EndOverdue = "overdue" // it ran too long
	EndDropped = "dropped" // another host may run the task by now
)

// prepared reports whether the pre-deploy task of d has succeeded, given the last rollout record.
func (d Desired) prepared(r Rollout) bool {
	return d.Prepared || r.Generation == d.Generation && r.Prepared != nil
}

// NeedsTask reports whether a pre-deploy task must succeed before any host starts d, given the last
// rollout record.
func (d Desired) NeedsTask(r Rollout) bool {
	return d.Status == StatusReady && d.Spec != nil && len(d.Spec.PreDeploy.Command) > 0 && !d.prepared(r)
}

// After is d as it is to be asked for when it takes the place of before, whose last rollout record is r:
// a task that succeeded for the same release has not to run again.
func (d Desired) After(before Desired, r Rollout) Desired {
	same := d.Status != StatusReady || before.Spec != nil && d.Spec != nil && before.Release().Hash() == d.Release().Hash()
	d.Prepared = d.Prepared || same && before.Status != "" && before.prepared(r)
	return d
}

// task is the container of the task of r as it is to run now; nil when there is none. Without a record, as
// before the store has answered, nobody knows which try it is for.
func (o Observed) task(r Release, hash string) *Task {
	known := o.Rollout.Generation == r.Generation
	for i := range o.Tasks {
		t := &o.Tasks[i]
		if t.Generation == r.Generation && t.Hash == hash && (!known || t.Attempt == o.Rollout.Attempt) && t.Begun && t.End != EndDropped {
			return t
		}
	}
	return nil
}

// currentTask is the container of the task that is to run, or whose end is to be told; nil when there
// is none.
func currentTask(want Desired, have Observed) *Task {
	if !want.NeedsTask(have.Rollout) || want.lacks() != "" {
		return nil
	}
	r := want.Release()
	hash := r.Hash()
	recorded := have.Rollout.Generation == want.Generation
	if recorded && have.Rollout.Status != RolloutProgressing || have.Proven != nil && have.Proven.Hash() == hash {
		return nil
	}
	return have.task(r, hash)
}

// clearTasks ends and removes containers of tasks that nobody waits for any more, and those that
// another host may run by now.
func clearTasks(want Desired, have Observed, turn Turn) Action {
	current := currentTask(want, have)
	for i := range have.Tasks {
		t := &have.Tasks[i]
		switch {
		case t.Busy:
		case t == current && t.Running && have.usurped(turn):
			return Action{Verb: Kill, Container: t.ID, Task: true, Reason: EndDropped}
		case t == current:
		case t.Running && want.Status == StatusKilled:
			return Action{Verb: Kill, Container: t.ID, Task: true}
		case t.Running:
			return Action{Verb: Stop, Container: t.ID, Task: true}
		default:
			return Action{Verb: Remove, Container: t.ID, Task: true}
		}
	}
	its := turn.Task && turn.Generation == want.Generation
	for i := range have.Tasks {
		if t := &have.Tasks[i]; t.Running && (t != current || !its) && turn.State == TurnMine {
			return outlast(want, have, t)
		}
	}
	return Action{}
}

// outlast keeps the turn until a task that is being stopped has ended: nobody is to start another one
// beside it. Meanwhile the host does what needs no turn.
func outlast(want Desired, have Observed, t *Task) Action {
	a := mend(have, Turn{})
	if want.Status == StatusStopped || want.Status == StatusKilled {
		a = retire(have, want.Status, "")
	}
	if !a.idles() {
		return a
	}
	return Action{Verb: Wait, Container: t.ID, Task: true, Reason: "a pre-deploy task that the turn is not for must end first", At: a.At}
}

// usurped reports whether another host may run the task that this one runs.
func (o Observed) usurped(turn Turn) bool {
	switch turn.State {
	case TurnMine:
		return false
	case TurnUnreachable:
		return !o.Waits // who has turns is not known, nor what became of this host's
	case TurnWaiting:
	}
	return !o.Awaited && len(turn.Holders) > 0
}

// prepare runs the task of r on this host, which has the turn for it. What served before goes on.
func prepare(r Release, hash string, have Observed) Action {
	old := mend(have, Turn{})
	if !old.idles() {
		return old
	}
	return runTask(r, hash, have).noLater(old.At)
}

func runTask(r Release, hash string, have Observed) Action {
	if f := have.Failure; f != nil && f.Generation == r.Generation && f.Attempt == have.attempt(r.Generation) {
		return Action{Verb: Fail, Kind: f.Kind, Reason: f.Reason} // it failed, but could not tell
	}
	t := have.task(r, hash)
	if t == nil {
		return beginTask(r, have)
	}
	late := "pre-deploy task did not end within " + r.Spec.PreDeploy.Within().String()
	at := t.Since.Add(r.Spec.PreDeploy.Within())
	switch {
	case t.Busy:
		return Action{Verb: Wait, Container: t.ID, Task: true, Reason: "pre-deploy task is being stopped"}
	case t.Running && !have.Now.Before(at):
		return Action{Verb: Stop, Container: t.ID, Task: true, Reason: EndOverdue}
	case t.Running:
		return Action{Verb: Wait, Container: t.ID, Task: true, Reason: "pre-deploy task", At: at}
	case t.End == EndOverdue:
		return Action{Verb: Fail, Container: t.ID, Task: true, Kind: PreDeployFail, Reason: late}
	case t.Failed != "":
		return Action{Verb: Fail, Container: t.ID, Task: true, Kind: PreDeployFail, Reason: "pre-deploy task failed: " + t.Failed}
	}
	return Action{Verb: Prepared, Container: t.ID, Task: true}
}

// beginTask starts the task of r, once all that it needs is there.
func beginTask(r Release, have Observed) Action {
	if have.RouteErr != "" {
		return Action{Verb: Fail, Kind: UpdateFail, Reason: have.RouteErr}
	}
	if a := fetchOrFail(r, have); a.Verb != Nothing {
		return a
	}
	if a := linked(r, have); a.Verb != Nothing {
		return Action{Verb: Yield, Reason: a.Reason} // nobody knows for how long
	}
	return Action{Verb: RunTask, Release: &r, Task: true}
}
