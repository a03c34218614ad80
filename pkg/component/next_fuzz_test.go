package component

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// dice turns bytes into choices; all zero when they are used up.
type dice struct{ b []byte }

func (d *dice) roll(sides int) int {
	if len(d.b) == 0 {
		return 0
	}
	n := int(d.b[0]) % sides
	d.b = d.b[1:]
	return n
}

func (d *dice) coin() bool { return d.roll(2) == 1 }

// ago is a time before t0 that is before, at or past the deadlines of the worlds made here.
func (d *dice) ago() time.Time {
	return t0.Add(-[...]time.Duration{0, time.Second, 5 * time.Second, 10 * time.Second, time.Hour, -time.Minute}[d.roll(6)])
}

// wanted is one of three releases, whose settings depend on the release alone.
func (d *dice) wanted(specs [3]Spec) Desired {
	i := d.roll(3)
	return Desired{
		Status: StatusReady, ImageID: fmt.Sprintf("sha256:%d", i), Spec: &specs[i], Generation: int64(1 + d.roll(3)),
	}
}

func (d *dice) spec() Spec {
	s := Spec{Name: "web", Repo: "example/web"}
	s.Exclusive = d.roll(4) == 1
	if d.roll(4) == 1 {
		s.Rollout.Order = OrderStopFirst
	}
	if d.coin() {
		s.HealthChecks = []Check{{Kind: CheckTCP, Port: 80}}
	}
	if d.roll(4) == 1 {
		needsLink(&s)
	}
	if d.coin() {
		s.Drain.Timeout = Duration(5 * time.Second)
	}
	return s
}

// world rolls everything that Next decides by.
func (d *dice) world() (Desired, Observed, Turn) {
	var specs [3]Spec
	for i := range specs {
		specs[i] = d.spec()
	}
	want := d.wanted(specs)
	switch d.roll(8) {
	case 1:
		want.Status = StatusStopped
	case 2:
		want.Status = StatusKilled
	case 3:
		want = Desired{}
	case 4:
		want.Spec = nil
	case 5:
		want.ImageID = ""
	}
	have := Observed{Now: t0, Images: map[string]ImageState{}, Links: map[string]bool{"db": d.coin()}, Served: d.coin()}
	for i := range d.roll(5) {
		have.Containers = append(have.Containers, d.container(i, d.wanted(specs).Release().Hash()))
	}
	have.Primary = [...]string{"", "a", "b", "c", "d", "gone"}[d.roll(6)]
	if d.coin() {
		r := d.wanted(specs).Release()
		have.Proven = &r
	}
	for i := range 3 {
		have.Images[fmt.Sprintf("sha256:%d", i)] = ImageState{
			Present: d.roll(4) != 1, Pulling: d.roll(4) == 1, Failures: d.roll(5), RetryAt: d.ago(),
		}
	}
	have.Rollout = Rollout{
		Generation: int64(d.roll(4)),
		Status:     [...]RolloutStatus{RolloutProgressing, RolloutHalted, RolloutDone}[d.roll(3)],
	}
	have.Restarts = Restarts{Count: d.roll(5), Last: d.ago()}
	if d.roll(6) == 1 {
		have.Failure = &Failure{Generation: int64(1 + d.roll(3)), Kind: UpdateFail, Reason: "exit code 3"}
	}
	if d.roll(6) == 1 {
		have.RouteErr = "address in use"
	}
	turn := Turn{State: TurnState(d.roll(3)), Generation: int64(1 + d.roll(3))}
	d.policies(&have, &turn) // last: the worlds before are those of older seeds
	d.tasks(&want, &have, &turn)
	d.outage(&have)
	return want, have, turn
}

// outage rolls what comes of an operator's word that the host is out of service.
func (d *dice) outage(have *Observed) {
	if d.roll(4) != 1 {
		return
	}
	have.Out, have.OutSince, have.Hold = "drained by ann", d.ago(), "drained by ann"
	for i := range have.Containers {
		c := &have.Containers[i]
		c.Guests, c.Cutting = min(c.Conns, d.roll(2)), d.roll(4) == 1
	}
}

// policies rolls what comes of rollout policies and of operators' words.
func (d *dice) policies(have *Observed, turn *Turn) {
	have.Host = "h1"
	if d.roll(4) == 1 {
		have.Hold = "paused"
	}
	if d.roll(4) == 1 {
		have.Rollout.Failed = []string{"h1"}
	}
	have.Rollout.Attempt = d.roll(2)
	turn.Repair = turn.State == TurnMine && d.roll(4) == 1
}

// tasks rolls what comes of pre-deploy tasks.
func (d *dice) tasks(want *Desired, have *Observed, turn *Turn) {
	if want.Spec != nil && d.coin() {
		s := *want.Spec
		s.PreDeploy = PreDeploy{Command: []string{"migrate"}, Timeout: Duration(5 * time.Second)}
		want.Spec = &s
	}
	if d.roll(4) == 1 {
		have.Rollout.Prepared = &Preparation{Host: "h2"}
	}
	want.Prepared = d.roll(8) == 1
	for i := range d.roll(3) {
		t := Task{ID: string(rune('x' + i)), Generation: want.Generation, Hash: want.Release().Hash(), Attempt: d.roll(2), Since: d.ago()}
		if d.roll(3) == 1 {
			t.Generation++
		}
		t.Running, t.Busy = d.coin(), d.roll(4) == 1
		t.Begun = t.Running || d.roll(4) != 1
		t.Failed = [...]string{"", "exit code 1"}[d.roll(2)]
		t.End = [...]string{"", EndOverdue, EndDropped}[d.roll(3)]
		have.Tasks = append(have.Tasks, t)
	}
	have.Waits = d.coin()
	have.Awaited = have.Waits && d.coin()
	turn.Task = turn.State == TurnMine && !turn.Repair && d.coin()
	if turn.State == TurnWaiting && d.coin() {
		turn.Holders = []string{"h2"}
	}
}

func (d *dice) container(i int, hash string) Container {
	c := Container{
		ID: string(rune('a' + i)), Hash: hash, Stage: Stage(d.roll(4)), StageSince: d.ago(), Running: d.roll(4) != 1,
		Ready: d.coin(), Health: Health(d.roll(3)), Conns: d.roll(2), Terminated: d.coin(), Busy: d.roll(6) == 1, Failed: d.roll(6) == 1,
	}
	if !c.Running && (c.Failed || c.Stage == Draining) {
		c.Stage = Stopped // so it is observed
	}
	if c.Stage == Draining {
		c.DrainingSince = c.StageSince
	}
	c.Running = c.Running && c.Stage != Stopped
	return c
}

func FuzzNext(f *testing.F) {
	for i := range 64 {
		seed := make([]byte, 96)
		for j := range seed {
			seed[j] = byte(i*j + i + j*j>>3)
		}
		f.Add(seed)
	}
	f.Fuzz(checkNext)
}

// TestNextInRandomWorlds is FuzzNext with the same worlds each time.
func TestNextInRandomWorlds(t *testing.T) {
	worlds := 30_000
	if testing.Short() {
		worlds = 3_000
	}
	for i := range worlds {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		seed := make([]byte, 96)
		for j := range seed {
			seed[j] = byte(r.Uint32())
		}
		if checkNext(t, seed); t.Failed() {
			return
		}
	}
}

func checkNext(t *testing.T, seed []byte) {
	want, have, turn := (&dice{seed}).world()
	a := Next(want, have, turn)
	sameWant, sameHave, sameTurn := (&dice{seed}).world()
	if !reflect.DeepEqual([]any{want, have, turn}, []any{sameWant, sameHave, sameTurn}) {
		t.Error("Next changed what it was given")
	}
	if again := Next(want, have, turn); !reflect.DeepEqual(a, again) {
		t.Errorf("Next decided otherwise the second time: %+v", again)
	}
	for _, broken := range []string{
		breaksService(want, have, a), breaksStart(want, have, turn, a), breaksContainer(want, have, a),
		breaksTurn(want, have, turn, a), breaksProgress(have, a), breaksTask(want, have, turn, a),
	} {
		if broken != "" {
			t.Errorf("%s\naction %+v\nwant %+v\nspec %+v\nturn %+v\nhave %+v\nproven %+v", broken, a, want, want.Spec, turn, have, have.Proven)
		}
	}
}

// breaksService: what serves is left alone, unless an operator or the order of the component says so.
func breaksService(want Desired, have Observed, a Action) string {
	c := have.container(a.Container)
	if c == nil || c.ID != have.Primary || a.idles() || want.Status == StatusStopped || want.Status == StatusKilled {
		return ""
	}
	if want.Spec != nil && want.Spec.StopFirst() || have.Proven != nil && have.Proven.Spec.StopFirst() {
		return ""
	}
	sound := c.Running && c.Stage == Serving && c.Health != Unhealthy && !c.Busy && !c.Failed
	if a.Verb == Cut && have.Out != "" && c.Guests > 0 && !c.Cutting && want.DrainOver(have.OutSince, have.Now) {
		return ""
	}
	if sound && a.Verb != Route && a.Verb != Finish {
		return "the container that serves is touched"
	}
	return ""
}

// breaksStart: what may be started, and when.
func breaksStart(want Desired, have Observed, turn Turn, a Action) string {
	if a.Verb != Start {
		return ""
	}
	mine := turn.State == TurnMine && turn.Generation == want.Generation
	recorded := have.Rollout.Generation == want.Generation
	proven := have.Proven != nil && have.Proven.Hash() == a.Release.Hash()
	asked := want.Status == StatusReady && want.Spec != nil && want.Release().Hash() == a.Release.Hash()
	switch {
	case want.Status == StatusStopped || want.Status == StatusKilled:
		return "start although nothing is to run"
	case !proven && !asked:
		return "start of a release that was neither asked for nor proven"
	case proven && !asked && !have.Served:
		return "start of an old release that does not serve any more"
	case !proven && recorded && len(have.Rollout.Failed) > 0:
		return "start of an unproven release on a host that was passed over"
	case !proven && mine && turn.Repair && (!recorded || have.Rollout.Status != RolloutDone):
		return "start of an unproven release in a turn to repair"
	case !proven && recorded && have.Rollout.Status == RolloutHalted:
		return "start of an unproven release after a halt"
	case !proven && !mine && (!recorded || have.Rollout.Status != RolloutDone):
		return "start of an unproven release without a turn"
	case !proven && !mine && have.Out != "":
		return "start of an unproven release on a host that is out of service"
	case !proven && want.NeedsTask(have.Rollout) && (!recorded || have.Rollout.Status != RolloutDone):
		return "start of an unproven release before its task has succeeded"
	case !have.Images[a.Release.ImageID].Present:
		return "start without the image"
	case a.Release.Spec.RequireComponentLinks != nil && !have.Links["db"]:
		return "start without a link"
	}
	for _, c := range have.Containers {
		if c.Running && a.Release.Spec.StopFirst() {
			return "start beside another container"
		}
	}
	return ""
}

// breaksContainer: what each action needs of the container it is done to.
func breaksContainer(want Desired, have Observed, a Action) string {
	c := have.container(a.Container)
	switch {
	case a.idles() || a.Container == "" || a.Task:
		return ""
	case c == nil:
		return "action on a container that is not there"
	case c.Busy:
		return "action on a container that is busy"
	}
	switch a.Verb {
	case Route:
		if !c.Running || c.Failed || c.Stage > Serving || c.Stage == Starting && !c.Ready {
			return "route to a container that cannot serve"
		}
	case Drain:
		if !c.Running || c.Stage != Serving {
			return "drain of a container that does not serve"
		}
	case Cut:
		since := c.DrainingSince
		if c.Stage == Serving && have.Out != "" && c.Guests > 0 && !c.Cutting {
			since = have.OutSince
		}
		if since.IsZero() || c.Conns == 0 || want.Spec.Drain.Timeout == 0 || t0.Sub(since) < 5*time.Second {
			return "cut before the deadline"
		}
	case Stop:
		if c.Running && (c.Stage == Serving || c.Stage == Draining && (c.Conns > 0 || !c.Terminated && !want.DrainOver(c.DrainingSince, t0))) {
			return "stop before the drain has ended"
		}
	case Kill:
		if want.Status != StatusKilled {
			return "kill that nobody asked for"
		}
	case Remove:
		if c.Stage != Stopped {
			return "remove of a container that is not stopped"
		}
	}
	return ""
}

// breaksTurn: what needs a turn, and who asks for one.
func breaksTurn(want Desired, have Observed, turn Turn, a Action) string {
	mine := turn.State == TurnMine
	switch a.Verb {
	case Finish, Yield:
		if !mine {
			return "end of a turn that is not there"
		}
	case Fail:
		if !mine && a.Kind != PullFail || turn.State == TurnUnreachable || have.Rollout.Generation == want.Generation && have.Rollout.Status == RolloutHalted {
			return "failure without a turn, or after a halt"
		}
	case AwaitTurn:
		if turn.State != TurnWaiting || want.Status != StatusReady {
			return "wait for a turn that is here, cannot come or is of no use"
		}
		if have.Hold != "" && a.Reason == "update" {
			return "wait for a turn to update although something is in the way"
		}
	}
	if mine && turn.Generation != want.Generation && a.Verb != Yield && a.Verb < Cut && len(have.Tasks) == 0 {
		return "turn of another generation is kept"
	}
	return ""
}

// breaksProgress: an action changes something, a wait ends.
func breaksProgress(have Observed, a Action) string {
	c := have.container(a.Container)
	switch {
	case !a.At.IsZero() && !a.At.After(have.Now):
		return "wait until a time that has passed"
	case !a.idles() && !a.At.IsZero():
		return "action with a time"
	case a.Verb == Wait && a.Reason == "":
		return "wait for nobody knows what"
	case a.Verb == Route && c.ID == have.Primary && c.Stage == Serving && !a.Proven:
		return "route to where the connections go already"
	case a.Verb == Discard && c.Failed, a.Verb == Drain && c.Stage == Draining, a.Verb == Pull && have.Images[a.Release.ImageID].Present:
		return "action that changes nothing"
	}
	return ""
}

// breaksTask: what may be done to containers of pre-deploy tasks, and that none runs beside another.
func breaksTask(want Desired, have Observed, turn Turn, a Action) string {
	var it *Task
	running := ""
	for i, t := range have.Tasks {
		if t.ID == a.Container && a.Task {
			it = &have.Tasks[i]
		}
		if t.Running {
			running = t.ID
		}
	}
	mine := turn.State == TurnMine
	current := it != nil && it.Generation == want.Generation && it.Hash == want.Release().Hash() &&
		(have.Rollout.Generation != want.Generation || it.Attempt == have.Rollout.Attempt) &&
		it.Begun && it.End != EndDropped
	switch {
	case a.Verb == RunTask && (!mine || !turn.Task || turn.Generation != want.Generation || !want.NeedsTask(have.Rollout) || running != ""):
		return "task without a turn for it, without need or beside another"
	case a.Verb == Prepared && (!mine || !turn.Task || !current || it.Running || it.Failed != "" || it.End != ""):
		return "task counts as done that has not succeeded"
	case (a.Verb == Yield || a.Verb == Fail && a.Kind != PullFail) && mine && running != "":
		return "turn is given back while a task runs"
	case a.Task && it == nil && a.Verb != RunTask && a.Verb != AwaitTurn:
		return "action on a task that is not there"
	case a.Verb == Stop && it != nil && it.Busy, a.Verb == Remove && it != nil && (it.Running || it.Busy):
		return "task container that is busy, or runs, is touched"
	case a.Verb == AwaitTurn && a.Reason == "update" && a.Task != want.NeedsTask(have.Rollout):
		return "turn for the wrong thing"
	}
	return ""
}
