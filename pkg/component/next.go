package component

import (
	"slices"
	"time"
)

// Next returns the one action that brings the host closer to want. It is pure: no clock, no I/O.
//
// The host steers towards a goal, which is the wanted release once it is proven (here, or by a
// rollout that is done) or while the host has the turn for it; else it is the release that served
// before. Repair, roll out and go back are therefore one and the same: get a container of the goal
// ready, route to it, retire the others.
func Next(want Desired, have Observed, turn Turn) Action {
	if a := sweep(want, have); a.Verb != Nothing {
		return a
	}
	if a := clearTasks(want, have, turn); a.Verb != Nothing {
		return a
	}
	a := pursue(want, have, turn)
	if a.Verb == AwaitTurn && currentTask(want, have) != nil { // any other turn would end with the task under way
		if a.Task, a.Repair = true, false; have.Hold != "" {
			a = Action{Verb: Wait, Reason: have.Hold, At: a.At}
		}
	}
	if a.idles() {
		out := turnOut(want, have)
		if out.Verb != Nothing {
			return out
		}
		a = a.noLater(out.At)
	}
	return a.noLater(drainDeadline(want, have))
}

// idles reports whether there is nothing to do but wait.
func (a Action) idles() bool { return a.Verb <= AwaitTurn }

// noLater is a, which when it idles ends at the given time, unless that is zero.
func (a Action) noLater(at time.Time) Action {
	if a.idles() {
		a.At = earliest(a.At, at)
	}
	return a
}

func pursue(want Desired, have Observed, turn Turn) Action {
	mine := turn.State == TurnMine
	if mine && (turn.Generation != want.Generation || want.Status != StatusReady) {
		return Action{Verb: Yield}
	}
	switch want.Status {
	case StatusStopped, StatusKilled:
		return retire(have, want.Status, "")
	case StatusReady:
	default: // nobody asks for anything: there is no generation to take a turn for
		return keep(have, Turn{State: TurnUnreachable})
	}
	if why := want.lacks(); why != "" {
		return orWait(keep(have, turn), why)
	}
	r := want.Release()
	hash := r.Hash()
	recorded := have.Rollout.Generation == want.Generation
	switch {
	case have.Proven != nil && have.Proven.Hash() == hash:
		return settle(r, hash, have, turn)
	case have.Out != "" && !mine && (!have.Awaited || currentTask(want, have) == nil): // others wait for how that ends
		return orWait(keep(have, turn), have.Out)
	case recorded && slices.Contains(have.Rollout.Failed, have.Host):
		return orWait(keep(have, turn), "this host failed; the rollout passed it over")
	case recorded && have.Rollout.Status == RolloutDone:
		return beside(r, have, func() Action { return settle(r, hash, have, turn) })
	case recorded && have.Rollout.Status == RolloutHalted:
		return orWait(keep(have, turn), "rollout halted: "+have.Rollout.Reason)
	case mine && turn.Repair:
		return keep(have, turn)
	case mine && turn.Task != want.NeedsTask(have.Rollout):
		return Action{Verb: Yield} // the task comes first, and has succeeded when it does not
	case mine && turn.Task:
		return prepare(r, hash, have)
	case mine:
		return beside(r, have, func() Action { return advance(r, hash, have) })
	}
	a := queueUp(r, hash, have, turn)
	a.Task = a.Task || a.Verb == AwaitTurn && !a.Repair && want.NeedsTask(have.Rollout)
	return a
}

// settle keeps a proven release served.
func settle(r Release, hash string, have Observed, turn Turn) Action {
	a := steer(r, hash, have, turn)
	if a.Verb != Nothing {
		a.Proven = a.Verb == Route
		return a
	}
	switch {
	case turn.State == TurnMine:
		return Action{Verb: Finish}
	case !have.Served || have.Proven == nil || have.Proven.Hash() != hash:
		// It was routed to before it was proven, and the turn was lost: say that it is proven now.
		return Action{Verb: Route, Container: have.Primary, Proven: true}
	}
	return retire(have, StatusReady, hash)
}

// keep holds on to the release that served before: nothing new is started, what breaks is repaired.
func keep(have Observed, turn Turn) Action {
	if have.Proven == nil || !have.Served {
		return orYield(retireUnproven(have), turn)
	}
	hash := have.Proven.Hash()
	a := steer(*have.Proven, hash, have, turn)
	if a.Verb == Nothing {
		a = retire(have, StatusReady, hash)
	}
	return orYield(a, turn)
}

func orYield(a Action, turn Turn) Action {
	if a.Verb == Nothing && turn.State == TurnMine {
		return Action{Verb: Yield}
	}
	return a
}

func orWait(a Action, why string) Action {
	if a.Verb == Nothing {
		return Action{Verb: Wait, Reason: why}
	}
	return a
}

// lacks says what d needs before anything can be started from it, or nothing.
func (d Desired) lacks() string {
	switch {
	case d.Spec == nil:
		return "the project has no configuration for this component"
	case d.ImageID == "":
		return "the state names no image ID; run update"
	}
	return ""
}

// queueUp prepares for a turn and waits for it. A container of the new release that is here already
// (the turn was lost in the middle) is left as it is: finish nothing, drain nothing. One that broke
// is sorted out: it would fail the turn to come, be it of a newer generation of the same release.
func queueUp(r Release, hash string, have Observed, turn Turn) Action {
	old := mend(have, turn)
	if !old.idles() {
		return old
	}
	if a := discard(r, hash, have); a.Verb != Nothing {
		return a
	}
	a := fetchOrFail(r, have)
	if a.Verb == Fail && turn.State == TurnUnreachable { // nobody can be told: try on
		a = fetch(r, have)
	}
	if a.Verb == Nothing {
		a = linked(r, have)
	}
	switch {
	case a.Verb != Nothing:
	case turn.State == TurnUnreachable:
		a = Action{Verb: Wait, Reason: "the store does not answer: no new release is started"}
	case have.Hold != "":
		return orWait(keep(have, turn), have.Hold).noLater(old.At) // nobody knows for how long: leave nothing half done
	default:
		a = Action{Verb: AwaitTurn, Reason: "update"}
	}
	return a.noLater(old.At)
}

// mend gets the release that served before going again, when nothing sound serves. What it has to
// wait for is no reason to hold up the new release, which may be the cure.
func mend(have Observed, turn Turn) Action {
	p := have.container(have.Primary)
	if have.Proven == nil || !have.Served || p != nil && p.sound() {
		return Action{}
	}
	return steer(*have.Proven, have.Proven.Hash(), have, turn)
}

// beside keeps the old release going while r comes up, unless the two cannot run side by side.
func beside(r Release, have Observed, up func() Action) Action {
	if have.Proven == nil || r.Spec.StopFirst() || have.Proven.Spec.StopFirst() {
		return up()
	}
	old := mend(have, Turn{})
	if !old.idles() {
		return old
	}
	return up().noLater(old.At)
}

// advance takes this host, which has the turn, to the new release r: it brings r up and watches it
// until it counts as proven, or fails.
func advance(r Release, hash string, have Observed) Action {
	if f := have.Failure; f != nil && f.Generation == r.Generation && f.Attempt == have.attempt(r.Generation) && f.Kind != PreDeployFail {
		return Action{Verb: Fail, Kind: f.Kind, Reason: f.Reason} // it failed, but could not tell
	}
	have.Restarts = Restarts{} // they were the old release's
	for _, c := range have.Containers {
		if c.Hash == hash && c.Stage < Draining && !c.Failed && !c.Busy {
			if why := c.verdict(r, have.Now); why != "" {
				return Action{Verb: Fail, Container: c.ID, Kind: UpdateFail, Reason: why}
			}
		}
	}
	if have.fresh(hash) == nil {
		if have.RouteErr != "" {
			return Action{Verb: Fail, Kind: UpdateFail, Reason: have.RouteErr}
		}
		if a := fetchOrFail(r, have); a.Verb != Nothing {
			return a
		}
		if a := linked(r, have); a.Verb != Nothing {
			return Action{Verb: Yield, Reason: a.Reason} // nobody knows for how long
		}
	}
	if a := steer(r, hash, have, Turn{State: TurnMine}); a.Verb != Nothing {
		return a
	}
	c := have.fresh(hash)
	if baked := c.StageSince.Add(r.Spec.Bake()); have.Now.Before(baked) {
		return Action{Verb: Wait, Container: c.ID, Reason: "bake", At: baked}
	}
	if len(r.Spec.HealthChecks) > 0 && c.Health != Healthy {
		return Action{Verb: Wait, Container: c.ID, Reason: "first health check"}
	}
	return Action{Verb: Finish, Container: c.ID}
}

// attempt counts the tries of a generation before the present one.
func (o Observed) attempt(generation int64) int {
	if o.Rollout.Generation != generation {
		return 0
	}
	return o.Rollout.Attempt
}

// verdict says why a container of an unproven release has failed, or nothing.
func (c *Container) verdict(r Release, now time.Time) string {
	switch {
	case c.tookAlong():
	case !c.Running:
		return or(c.Problem, "container exited")
	case c.Stage == Starting && !c.Ready && !now.Before(c.StageSince.Add(r.Spec.ReadyWithin())):
		return "not ready after " + r.Spec.ReadyWithin().String() + suffix(c.Problem)
	case c.Stage == Serving && c.Health == Unhealthy:
		return "unhealthy" + suffix(c.Problem)
	}
	return ""
}

// tookAlong reports whether the container ended because the engine did: it is started anew, and nothing is
// counted against its release.
func (c *Container) tookAlong() bool { return !c.Running && c.WithEngine }

// clearAway is what becomes of one that was taken along; there is nothing to be seen in it.
func (c *Container) clearAway() Action {
	return Action{Verb: Stop, Container: c.ID, Reason: "it ended with Docker Engine"}
}

// steer returns the next step towards a sound, routed container of r; Nothing when there is one.
func steer(r Release, hash string, have Observed, turn Turn) Action {
	if a := discard(r, hash, have); a.Verb != Nothing {
		return a
	}
	c, sick := have.fresh(hash), have.sick(hash)
	switch {
	case c == nil && sick != nil && !have.container(have.Primary).alive():
		return Action{Verb: Route, Container: sick.ID} // better than nothing
	case c == nil:
		return begin(r, hash, have, turn)
	case c.Stage == Starting && !c.Ready:
		return Action{Verb: Wait, Container: c.ID, Reason: "ready checks" + suffix(c.Problem), At: c.StageSince.Add(r.Spec.ReadyWithin())}
	case c.Stage == Starting, c.ID != have.Primary:
		return Action{Verb: Route, Container: c.ID}
	}
	return Action{}
}

// discard sorts out a container of r that has ended, or is not ready in time.
func discard(r Release, hash string, have Observed) Action {
	for _, c := range have.Containers {
		if c.Hash != hash || c.Stage > Serving || c.Busy || c.Failed || c.Running && c.Stage == Serving {
			continue
		}
		if c.tookAlong() {
			return c.clearAway()
		}
		if why := c.verdict(r, have.Now); why != "" {
			return Action{Verb: Discard, Container: c.ID, Reason: why}
		}
	}
	return Action{}
}

// begin starts a container of r, once all that it needs is there.
func begin(r Release, hash string, have Observed, turn Turn) Action {
	served := have.Served && have.Proven != nil && have.Proven.Hash() == hash
	if have.RouteErr != "" && !served { // one port of several may be it: what served goes on
		return Action{Verb: Wait, Reason: have.RouteErr, At: have.Now.Add(time.Second)}
	}
	sick := have.sick(hash)
	if p := have.container(have.Primary); sick != nil && p.alive() && p.Hash == hash && p.ID != sick.ID {
		return Action{Verb: Drain, Container: sick.ID} // one of them is enough
	}
	restarts := have.Restarts
	if sick != nil {
		restarts.Count++ // counted once its replacement starts
	}
	if at := restarts.Due(r.Spec.Restart, have.Now); have.Now.Before(at) {
		return Action{Verb: Wait, Reason: "back-off after a broken container", At: at}
	}
	if a := linked(r, have); a.Verb != Nothing {
		return a
	}
	if a := fetch(r, have); a.Verb != Nothing {
		return a
	}
	if sick != nil && turn.State == TurnWaiting {
		return Action{Verb: AwaitTurn, Reason: "replace the unhealthy container", Repair: have.Hold != ""}
	}
	if r.Spec.StopFirst() {
		for _, c := range have.Containers {
			if c.Running {
				return makeRoom(c)
			}
		}
	}
	return Action{Verb: Start, Release: &r, Repair: sick != nil}
}

// makeRoom retires c before its successor starts.
func makeRoom(c Container) Action {
	switch {
	case c.Busy, c.Stage == Draining:
		return Action{Verb: Wait, Container: c.ID, Reason: "the old container must end first"}
	case c.Stage == Starting:
		return Action{Verb: Stop, Container: c.ID}
	}
	return Action{Verb: Drain, Container: c.ID}
}

// linked waits for the links that r needs.
func linked(r Release, have Observed) Action {
	for _, l := range r.Spec.RequireComponentLinks {
		if !have.Links[l.Name] {
			return Action{Verb: Wait, Reason: "component link \"" + l.Name + "\" is served nowhere yet"}
		}
	}
	return Action{}
}

// fetch gets the image of r onto the host; it never gives up.
func fetch(r Release, have Observed) Action {
	img := have.Images[r.ImageID]
	switch {
	case img.Present:
		return Action{}
	case img.Pulling:
		return Action{Verb: Wait, Reason: "pull of the image", Release: &r}
	case have.Now.Before(img.RetryAt):
		return Action{Verb: Wait, Reason: "next try to pull the image" + suffix(img.Problem), At: img.RetryAt}
	}
	return Action{Verb: Pull, Release: &r}
}

// fetchOrFail is fetch for a release nobody has proven: after some tries the rollout fails.
func fetchOrFail(r Release, have Observed) Action {
	if img := have.Images[r.ImageID]; !img.Present && !img.Pulling && img.Failures >= PullTries {
		return Action{Verb: Fail, Kind: PullFail, Reason: img.Problem}
	}
	return fetch(r, have)
}

// fresh is the container of hash that is or will be the serving one: the primary before another
// that serves, one that serves before one that starts. Nil when there is none.
func (o Observed) fresh(hash string) *Container {
	var best *Container
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.Hash != hash || !c.sound() {
			continue
		}
		if best == nil || c.Stage > best.Stage || c.Stage == best.Stage && c.ID == o.Primary {
			best = c
		}
	}
	return best
}

// sound reports whether the container may serve, now or soon.
func (c *Container) sound() bool { return c.alive() && c.Health != Unhealthy }

// alive reports whether the container runs, and is not on its way out.
func (c *Container) alive() bool {
	return c != nil && c.Running && !c.Busy && !c.Failed && c.Stage < Draining
}

// sick is a container of hash that serves, unhealthy as it is: the primary only when it is the only
// one. Nil when there is none.
func (o Observed) sick(hash string) *Container {
	var found *Container
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.Hash != hash || c.Stage != Serving || c.Health != Unhealthy || !c.alive() {
			continue
		}
		if found == nil || found.ID == o.Primary {
			found = c
		}
	}
	return found
}

func (o Observed) container(id string) *Container {
	for i := range o.Containers {
		if id != "" && o.Containers[i].ID == id {
			return &o.Containers[i]
		}
	}
	return nil
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func suffix(problem string) string {
	if problem == "" {
		return ""
	}
	return ": " + problem
}
