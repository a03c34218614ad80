package component

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The world of the tables: t0 is now; v1 is served, v2 is asked for after it.
var (
	t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	v1 = ready(1, "sha256:one")
	v2 = ready(2, "sha256:two")
	v3 = ready(3, "sha256:three")

	stopped = Desired{Status: StatusStopped, Generation: 9, Spec: &Spec{Name: "web"}}
	killed  = Desired{Status: StatusKilled, Generation: 9, Spec: &Spec{Name: "web"}}

	waiting     = Turn{}
	unreachable = Turn{State: TurnUnreachable}
)

func ready(generation int64, image string, edits ...func(*Spec)) Desired {
	spec := Spec{Name: "web", Repo: "example/web"}
	for _, edit := range edits {
		edit(&spec)
	}
	return Desired{Status: StatusReady, ImageID: image, Spec: &spec, Generation: generation}
}

func (d Desired) with(edits ...func(*Spec)) Desired { return ready(d.Generation, d.ImageID, edits...) }

func mine(d Desired) Turn { return Turn{State: TurnMine, Generation: d.Generation} }

func release(d Desired) *Release {
	r := d.Release()
	return &r
}

func exclusive(s *Spec)  { s.Exclusive = true }
func needsLink(s *Spec)  { s.RequireComponentLinks = []LinkRequest{{Name: "db", Alias: "db"}} }
func checked(s *Spec)    { s.HealthChecks = []Check{{Kind: CheckTCP, Port: 80}} }
func cutAfter1m(s *Spec) { s.Drain.Timeout = Duration(time.Minute) }

// A change is one difference between a host and the plain one.
type change func(*Observed)

// host has both images and nothing else, but for the changes.
func host(changes ...change) Observed {
	o := Observed{Now: t0, Images: map[string]ImageState{}}
	for _, d := range []Desired{v1, v2, v3} {
		o.Images[d.ImageID] = ImageState{Present: true}
	}
	for _, c := range changes {
		c(&o)
	}
	return o
}

// serving is a host that proved d and serves it by the container "old".
func serving(d Desired, changes ...change) Observed {
	return host(append([]change{proven(d), runs("old", d, Serving), primary("old")}, changes...)...)
}

func proven(d Desired) change { return func(o *Observed) { o.Proven, o.Served = release(d), true } }
func notServed(o *Observed)   { o.Served = false }
func primary(id string) change {
	return func(o *Observed) { o.Primary = id }
}

func runs(id string, d Desired, s Stage, edits ...func(*Container)) change {
	c := Container{
		ID: id, Hash: d.Release().Hash(), Stage: s, StageSince: t0.Add(-2 * time.Second),
		Running: s < Stopped, Ready: s > Starting,
	}
	if s == Draining {
		c.DrainingSince = c.StageSince
	}
	for _, edit := range edits {
		edit(&c)
	}
	return func(o *Observed) { o.Containers = append(o.Containers, c) }
}

func is(id string, edit func(*Container)) change {
	return func(o *Observed) { edit(o.container(id)) }
}

func isReady(c *Container)   { c.Ready = true }
func healthy(c *Container)   { c.Health = Healthy }
func unhealthy(c *Container) { c.Health, c.Problem = Unhealthy, "GET /ping: 503" }
func crashed(c *Container)   { c.Running, c.Problem = false, "exit code 3" }
func busy(c *Container)      { c.Busy = true }
func failed(c *Container)    { c.Failed = true }
func ended(c *Container)     { c.Terminated = true }
func conns(c *Container)     { c.Conns = 2 }
func since(ago time.Duration) func(*Container) {
	return func(c *Container) {
		c.StageSince = t0.Add(-ago)
		if c.Stage == Draining {
			c.DrainingSince = c.StageSince
		}
	}
}

func record(d Desired, s RolloutStatus) change {
	return func(o *Observed) {
		o.Rollout = Rollout{Generation: d.Generation, Status: s}
		if s == RolloutHalted {
			o.Rollout.Reason = "h2 is sad"
		}
	}
}

func image(d Desired, s ImageState) change { return func(o *Observed) { o.Images[d.ImageID] = s } }
func link(o *Observed)                     { o.Links = map[string]bool{"db": true} }
func portTaken(o *Observed)                { o.RouteErr = "listen 0.0.0.0:80: address in use" }
func restarts(n int, ago time.Duration) change {
	return func(o *Observed) { o.Restarts = Restarts{Count: n, Last: t0.Add(-ago)} }
}

type nextTest struct {
	name string
	want Desired
	have Observed
	turn Turn
	next Action
}

func runNext(t *testing.T, tests []nextTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(Next(tt.want, tt.have, tt.turn), tt.next); diff != "" {
				t.Errorf("Next (-got +want):\n%s", diff)
			}
		})
	}
}

func TestNextBringsNewReleaseUp(t *testing.T) {
	bakes := v2.with(func(s *Spec) { d := Duration(5 * time.Second); s.Rollout.Bake = &d })
	tests := []nextTest{
		{"host nobody asked anything of does nothing", Desired{}, host(), waiting, Action{}},
		{"first release waits for a turn", v1, host(), waiting, Action{Verb: AwaitTurn, Reason: "update"}},
		{"first release starts in its turn", v1, host(), mine(v1), Action{Verb: Start, Release: release(v1)}},
		{"image is pulled before the turn", v2, serving(v1, image(v2, ImageState{})), waiting, Action{Verb: Pull, Release: release(v2)}},
		{
			"pull under way is waited for", v2, serving(v1, image(v2, ImageState{Pulling: true, Failures: PullTries})), waiting,
			Action{Verb: Wait, Reason: "pull of the image", Release: release(v2)},
		},
		{
			"next try of a pull is waited for", v2, serving(v1, image(v2, ImageState{Failures: 1, RetryAt: t0.Add(time.Second), Problem: "no such host"})), waiting,
			Action{Verb: Wait, Reason: "next try to pull the image: no such host", At: t0.Add(time.Second)},
		},
		{
			"pull that failed three times before a turn fails the rollout", v2,
			serving(v1, image(v2, ImageState{Failures: PullTries, Problem: "unauthorized"})), waiting,
			Action{Verb: Fail, Kind: PullFail, Reason: "unauthorized"},
		},
		{
			"pull that failed three times is tried on while nobody can be told", v2,
			serving(v1, image(v2, ImageState{Failures: PullTries})), unreachable,
			Action{Verb: Pull, Release: release(v2)},
		},
		{"new release waits for a turn", v2, serving(v1), waiting, Action{Verb: AwaitTurn, Reason: "update"}},
		{
			"new release is not started while the store is away", v2, serving(v1), unreachable,
			Action{Verb: Wait, Reason: "the store does not answer: no new release is started"},
		},
		{
			"missing link is waited for before the turn", v2.with(needsLink), serving(v1), waiting,
			Action{Verb: Wait, Reason: `component link "db" is served nowhere yet`},
		},
		{
			"missing link is no reason to keep a turn", v2.with(needsLink), serving(v1), mine(v2),
			Action{Verb: Yield, Reason: `component link "db" is served nowhere yet`},
		},
		{"link that goes away later changes nothing", v2.with(needsLink), serving(v1, runs("new", v2.with(needsLink), Starting, isReady)), mine(v2), Action{Verb: Route, Container: "new"}},
		{"new release with its link waits for a turn", v2.with(needsLink), serving(v1, link), waiting, Action{Verb: AwaitTurn, Reason: "update"}},
		{"new release does not wait for the back-off of the old one", v2, serving(v1, restarts(9, time.Second)), mine(v2), Action{Verb: Start, Release: release(v2)}},
		{"new container starts beside the old one", v2, serving(v1), mine(v2), Action{Verb: Start, Release: release(v2)}},
		{
			"new container is gated on its ready checks", v2, serving(v1, runs("new", v2, Starting)), mine(v2),
			Action{Verb: Wait, Container: "new", Reason: "ready checks", At: t0.Add(8 * time.Second)},
		},
		{
			"wait for ready checks says what the last one said", v2, serving(v1, runs("new", v2, Starting, func(c *Container) { c.Problem = "refused" })), mine(v2),
			Action{Verb: Wait, Container: "new", Reason: "ready checks: refused", At: t0.Add(8 * time.Second)},
		},
		{"ready container is routed to", v2, serving(v1, runs("new", v2, Starting, isReady)), mine(v2), Action{Verb: Route, Container: "new"}},
		{
			"container that was ready in time is routed to later, too", v2, serving(v1, runs("new", v2, Starting, isReady, since(time.Hour))), mine(v2),
			Action{Verb: Route, Container: "new"},
		},
		{
			"old container stays while the new one bakes", bakes, serving(v1, runs("new", bakes, Serving), primary("new")), mine(v2),
			Action{Verb: Wait, Container: "new", Reason: "bake", At: t0.Add(3 * time.Second)},
		},
		{
			"turn ends once the new container has baked", bakes, serving(v1, runs("new", bakes, Serving, since(5*time.Second)), primary("new")), mine(v2),
			Action{Verb: Finish, Container: "new"},
		},
		{
			"turn does not end before a first health check", v2.with(checked),
			serving(v1, runs("new", v2.with(checked), Serving, since(time.Minute)), primary("new")), mine(v2),
			Action{Verb: Wait, Container: "new", Reason: "first health check"},
		},
		{
			"turn ends when baked and healthy", v2.with(checked),
			serving(v1, runs("new", v2.with(checked), Serving, healthy, since(time.Minute)), primary("new")), mine(v2),
			Action{Verb: Finish, Container: "new"},
		},
		{
			"old drains only once new has baked", v2, host(proven(v2), runs("old", v1, Serving), runs("new", v2, Serving), primary("new")), waiting,
			Action{Verb: Drain, Container: "old"},
		},
		{"proven release that serves needs nothing", v2, serving(v2), waiting, Action{}},
		{"turn with nothing left to do ends", v2, serving(v2), mine(v2), Action{Verb: Finish}},
		{
			"release the other hosts have proven starts without a turn", v2, serving(v1, record(v2, RolloutDone)), waiting,
			Action{Verb: Start, Release: release(v2)},
		},
		{
			"routed release the other hosts have proven counts as proven", v2, serving(v1, record(v2, RolloutDone), runs("new", v2, Starting, isReady)), waiting,
			Action{Verb: Route, Container: "new", Proven: true},
		},
		{
			"release routed to before the other hosts proved it counts as proven", v2,
			serving(v1, record(v2, RolloutDone), runs("new", v2, Serving), primary("new")), waiting,
			Action{Verb: Route, Container: "new", Proven: true},
		},
		{"stop that was taken back in time counts as served", v1, serving(v1, notServed), waiting, Action{Verb: Route, Container: "old", Proven: true}},
		{"same release under a newer generation changes nothing", ready(7, v1.ImageID), serving(v1), waiting, Action{}},
	}
	runNext(t, tests)
}

func TestNextFailsRollout(t *testing.T) {
	tests := []nextTest{
		{
			"container that is not ready in time fails the rollout", v2, serving(v1, runs("new", v2, Starting, since(10*time.Second))), mine(v2),
			Action{Verb: Fail, Container: "new", Kind: UpdateFail, Reason: "not ready after 10s"},
		},
		{
			"container that exits before it is ready fails the rollout", v2, serving(v1, runs("new", v2, Starting, crashed)), mine(v2),
			Action{Verb: Fail, Container: "new", Kind: UpdateFail, Reason: "exit code 3"},
		},
		{
			"port that cannot be opened fails the rollout", v1, host(portTaken), mine(v1),
			Action{Verb: Fail, Kind: UpdateFail, Reason: "listen 0.0.0.0:80: address in use"},
		},
		{
			"image that went away and cannot be pulled fails the rollout", v2, serving(v1, image(v2, ImageState{Failures: PullTries, Problem: "gone"})), mine(v2),
			Action{Verb: Fail, Kind: PullFail, Reason: "gone"},
		},
		{
			"old container gets its traffic back after a failure in bake", v2,
			serving(v1, record(v2, RolloutHalted), runs("new", v2, Serving, unhealthy, failed), primary("new")), waiting,
			Action{Verb: Route, Container: "old"},
		},
		{
			"failed container drains once the old one serves again", v2, serving(v1, record(v2, RolloutHalted), runs("new", v2, Serving, unhealthy, failed)), waiting,
			Action{Verb: Drain, Container: "new"},
		},
		{
			"failed container that never served is stopped", v2, serving(v1, record(v2, RolloutHalted), runs("new", v2, Starting, failed)), waiting,
			Action{Verb: Stop, Container: "new"},
		},
		{
			"halted generation starts nowhere", v2, serving(v1, record(v2, RolloutHalted)), waiting,
			Action{Verb: Wait, Reason: "rollout halted: h2 is sad"},
		},
		{"halted generation gives its turn back", v2, serving(v1, record(v2, RolloutHalted)), mine(v2), Action{Verb: Yield}},
		{
			"halted generation keeps what a host has proven of it", v2, serving(v2, record(v2, RolloutHalted)), waiting,
			Action{},
		},
		{"new generation of a failed release is a new try", ready(7, v2.ImageID), serving(v1, record(v2, RolloutHalted), runs("bad", v2, Stopped, failed)), mine(ready(7, v2.ImageID)), Action{Verb: Start, Release: release(ready(7, v2.ImageID))}},
		{
			"old container that crashes under a halted rollout is discarded", v2, serving(v1, record(v2, RolloutHalted), is("old", crashed)), waiting,
			Action{Verb: Discard, Container: "old", Reason: "exit code 3"},
		},
		{
			"old release starts again under a halted rollout", v2, host(proven(v1), record(v2, RolloutHalted)), waiting,
			Action{Verb: Start, Release: release(v1)},
		},
		{
			"first release that failed goes on serving when it can", v1, host(record(v1, RolloutHalted), runs("new", v1, Serving, unhealthy, failed), primary("new")), waiting,
			Action{Verb: Wait, Reason: "rollout halted: h2 is sad"},
		},
		{
			"first release that is halted before it was routed to is left alone", v1, host(record(v1, RolloutHalted), runs("new", v1, Serving)), waiting,
			Action{Verb: Wait, Reason: "rollout halted: h2 is sad"},
		},
		{
			"first release that failed elsewhere stops starting", v1, host(record(v1, RolloutHalted), runs("new", v1, Starting)), waiting,
			Action{Verb: Stop, Container: "new"},
		},
		{
			"first release that crashed is kept for inspection", v1, host(record(v1, RolloutHalted), runs("new", v1, Starting, crashed)), waiting,
			Action{Verb: Discard, Container: "new", Reason: "exit code 3"},
		},
	}
	runNext(t, tests)
}

func TestNextLosesTurn(t *testing.T) {
	tests := []nextTest{
		{
			"turn lost in bake holds still", v2, serving(v1, runs("new", v2, Serving), primary("new")), waiting,
			Action{Verb: AwaitTurn, Reason: "update"},
		},
		{
			"turn lost before ready holds still", v2, serving(v1, runs("new", v2, Starting, isReady)), waiting,
			Action{Verb: AwaitTurn, Reason: "update"},
		},
		{
			"store lost in bake holds still", v2, serving(v1, runs("new", v2, Serving), primary("new")), unreachable,
			Action{Verb: Wait, Reason: "the store does not answer: no new release is started"},
		},
		{
			"turn that comes back goes on where it was", v2, serving(v1, runs("new", v2, Starting, isReady)), mine(v2),
			Action{Verb: Route, Container: "new"},
		},
		{
			"container that was not ready in time without a turn is not held against the next one", v2,
			serving(v1, runs("new", v2, Starting, since(time.Minute))), waiting,
			Action{Verb: Discard, Container: "new", Reason: "not ready after 10s"},
		},
		{
			"container that crashed without a turn is not held against the next one", v2, serving(v1, runs("new", v2, Serving, crashed)), waiting,
			Action{Verb: Discard, Container: "new", Reason: "exit code 3"},
		},
		{
			"crash in bake without a turn routes back to the old container in one step", v2, serving(v1, runs("new", v2, Serving, crashed), primary("new")), waiting,
			Action{Verb: Route, Container: "old"},
		},
		{
			"unhealthy in bake without a turn routes back to the old container in one step", v2,
			serving(v1, runs("new", v2, Serving, unhealthy), primary("new")), unreachable,
			Action{Verb: Route, Container: "old"},
		},
		{
			"crash in bake routes back to the old container in one step", v2, serving(v1, runs("new", v2, Serving, crashed), primary("new")), mine(v2),
			Action{Verb: Route, Container: "old"},
		},
		{
			"crash in bake fails the rollout once the old container serves again", v2, serving(v1, runs("new", v2, Serving, crashed)), mine(v2),
			Action{Verb: Fail, Container: "new", Kind: UpdateFail, Reason: "exit code 3"},
		},
		{
			"unhealthy in bake routes back to the old container in one step", v2, serving(v1, runs("new", v2, Serving, unhealthy), primary("new")), mine(v2),
			Action{Verb: Route, Container: "old"},
		},
		{
			"crash in bake routes back even to an unhealthy old container", v2,
			serving(v1, is("old", unhealthy), runs("new", v2, Serving, crashed), primary("new")), mine(v2),
			Action{Verb: Route, Container: "old"},
		},
		{
			"old container stays although both are unhealthy", v2,
			serving(v1, is("old", unhealthy), runs("new", v2, Serving, unhealthy), primary("new")), mine(v2),
			Action{Verb: Fail, Container: "new", Kind: UpdateFail, Reason: "unhealthy: GET /ping: 503"},
		},
		{
			"crash of a release that only the other hosts have proven routes back, too", v2,
			serving(v1, record(v2, RolloutDone), runs("new", v2, Serving, crashed), primary("new")), waiting,
			Action{Verb: Route, Container: "old"},
		},
		{
			"old container that crashes while the new one gets ready is replaced", v2, host(proven(v1), runs("new", v2, Starting)), mine(v2),
			Action{Verb: Start, Release: release(v1)},
		},
		{
			"unhealthy old container is left alone in the turn that replaces it", v2, serving(v1, is("old", unhealthy), runs("new", v2, Starting)), mine(v2),
			Action{Verb: Wait, Container: "new", Reason: "ready checks", At: t0.Add(8 * time.Second)},
		},
		{
			"replacement of the old container and the new one get ready side by side", v2,
			host(proven(v1), runs("next", v1, Starting, since(5*time.Second)), runs("new", v2, Starting)), mine(v2),
			Action{Verb: Wait, Container: "new", Reason: "ready checks", At: t0.Add(5 * time.Second)},
		},
		{"superseded generation yields the turn", v3, serving(v1, runs("new", v2, Starting)), mine(v2), Action{Verb: Yield}},
		{"stop yields the turn", stopped, serving(v1), Turn{State: TurnMine, Generation: 9}, Action{Verb: Yield}},
	}
	runNext(t, tests)
}

func TestNextRepairs(t *testing.T) {
	tests := []nextTest{
		{"crashed container is kept for inspection", v1, serving(v1, is("old", crashed)), waiting, Action{Verb: Discard, Container: "old", Reason: "exit code 3"}},
		{"crashed container is replaced without a turn", v1, host(proven(v1), runs("old", v1, Stopped, failed), primary("old")), waiting, Action{Verb: Start, Release: release(v1)}},
		{"crashed container is replaced while the store is away", v1, host(proven(v1)), unreachable, Action{Verb: Start, Release: release(v1)}},
		{
			"replacement of a crashed container is routed to as proven", v1, host(proven(v1), runs("next", v1, Starting, isReady)), waiting,
			Action{Verb: Route, Container: "next", Proven: true},
		},
		{
			"replacement that is not ready in time is kept for inspection", v1, host(proven(v1), runs("next", v1, Starting, since(time.Minute))), waiting,
			Action{Verb: Discard, Container: "next", Reason: "not ready after 10s"},
		},
		{
			"replacements in a row back off", v1, host(proven(v1), restarts(3, time.Second)), waiting,
			Action{Verb: Wait, Reason: "back-off after a broken container", At: t0.Add(time.Second)},
		},
		{"back-off ends", v1, host(proven(v1), restarts(3, 2*time.Second)), waiting, Action{Verb: Start, Release: release(v1)}},
		{"first crash in a row is repaired at once", v1, host(proven(v1), restarts(1, 0)), waiting, Action{Verb: Start, Release: release(v1)}},
		{
			"second unhealthy container in a row waits like a second crash", v1, serving(v1, is("old", unhealthy), restarts(1, 0)), mine(v1),
			Action{Verb: Wait, Reason: "back-off after a broken container", At: t0.Add(time.Second)},
		},
		{
			"unhealthy container is replaced only in a turn", v1, serving(v1, is("old", unhealthy)), waiting,
			Action{Verb: AwaitTurn, Reason: "replace the unhealthy container"},
		},
		{"replacement of an unhealthy container starts beside it", v1, serving(v1, is("old", unhealthy)), mine(v1), Action{Verb: Start, Release: release(v1), Repair: true}},
		{"unhealthy container is replaced while the store is away", v1, serving(v1, is("old", unhealthy)), unreachable, Action{Verb: Start, Release: release(v1), Repair: true}},
		{
			"unhealthy container drains once its replacement serves", v1, serving(v1, is("old", unhealthy), runs("next", v1, Serving), primary("next")), waiting,
			Action{Verb: Drain, Container: "old"},
		},
		{
			"two unhealthy containers are one too many", v1, serving(v1, is("old", unhealthy), runs("next", v1, Serving, unhealthy), primary("next")), mine(v1),
			Action{Verb: Drain, Container: "old"},
		},
		{
			"the unhealthy container that serves is the one that stays", v1, serving(v1, is("old", unhealthy), runs("next", v1, Serving, unhealthy)), waiting,
			Action{Verb: Drain, Container: "next"},
		},
		{
			"unhealthy container serves when nothing else does", v1, serving(v1, is("old", unhealthy), primary("")), waiting,
			Action{Verb: Route, Container: "old", Proven: true},
		},
		{
			"of two containers that could serve, the one that does stays", v1, serving(v1, runs("next", v1, Serving), primary("next")), waiting,
			Action{Verb: Drain, Container: "old"},
		},
		{
			"unhealthy container that recovers stays, its replacement goes", v1, serving(v1, is("old", healthy), runs("next", v1, Starting)), waiting,
			Action{Verb: Stop, Container: "next"},
		},
		{"container not checked yet is no reason to replace it", v1.with(checked), serving(v1.with(checked)), waiting, Action{}},
		{"old release that crashed is repaired before the turn for a new one", v2, host(proven(v1)), waiting, Action{Verb: Start, Release: release(v1)}},
		{
			"old release that crashes again and again does not hold up the new one", v2, host(proven(v1), restarts(3, time.Second)), waiting,
			Action{Verb: AwaitTurn, Reason: "update", At: t0.Add(time.Second)},
		},
		{
			"old release that does not get ready does not hold up the new one", v2, host(proven(v1), runs("next", v1, Starting)), waiting,
			Action{Verb: AwaitTurn, Reason: "update", At: t0.Add(8 * time.Second)},
		},
		{
			"image of the new release is pulled while the old one is unhealthy", v2, serving(v1, is("old", unhealthy), image(v2, ImageState{})), waiting,
			Action{Verb: Pull, Release: release(v2)},
		},
		{
			"a stopped component does not come back as its old release while a new one waits for its turn", v2, host(proven(v1), notServed), waiting,
			Action{Verb: AwaitTurn, Reason: "update"},
		},
		{
			"a stopped component stays down when its new release is halted", v2, host(proven(v1), notServed, record(v2, RolloutHalted)), waiting,
			Action{Verb: Wait, Reason: "rollout halted: h2 is sad"},
		},
		{"a stopped component starts again without a turn", v1, host(proven(v1), notServed), waiting, Action{Verb: Start, Release: release(v1)}},
		{"proven release is pulled for ever", v1, host(proven(v1), image(v1, ImageState{Failures: 50})), waiting, Action{Verb: Pull, Release: release(v1)}},
		{
			"waits for a missing link, naming it", v1.with(needsLink), host(proven(v1.with(needsLink))), waiting,
			Action{Verb: Wait, Reason: `component link "db" is served nowhere yet`},
		},
		{"starts once its link is there", v1.with(needsLink), host(proven(v1.with(needsLink)), link), waiting, Action{Verb: Start, Release: release(v1.with(needsLink))}},
		{
			"port that cannot be opened keeps a release waiting that did not serve here", v1, host(proven(v1), notServed, portTaken), waiting,
			Action{Verb: Wait, Reason: "listen 0.0.0.0:80: address in use", At: t0.Add(time.Second)},
		},
		{"port that cannot be opened does not keep a crash from being repaired", v1, host(proven(v1), portTaken), waiting, Action{Verb: Start, Release: release(v1)}},
		{"deleted state keeps what serves", Desired{}, serving(v1), waiting, Action{}},
		{"deleted state still repairs a crash", Desired{}, host(proven(v1)), waiting, Action{Verb: Start, Release: release(v1)}},
		{
			"deleted state has no turns, not even to replace an unhealthy container",
			Desired{},
			serving(v1, is("old", unhealthy)), waiting,
			Action{Verb: Start, Release: release(v1), Repair: true},
		},
		{
			"state without an image keeps what serves and says what it lacks",
			Desired{Status: StatusReady, Generation: 4, Spec: v1.Spec},
			serving(v1), waiting,
			Action{Verb: Wait, Reason: "the state names no image ID; run update"},
		},
		{
			"state without configuration keeps what serves and says what it lacks",
			Desired{Status: StatusReady, Generation: 4, ImageID: "sha256:two"},
			serving(v1), waiting,
			Action{Verb: Wait, Reason: "the project has no configuration for this component"},
		},
	}
	runNext(t, tests)
}
