package supervisor

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

func now() time.Time { return time.Now() }

// observe reads the world again: the engine's containers, what is remembered of them, the checks
// and connections. It brings the record up to what is there, and the listeners and probes up to the
// record.
func (s *Supervisor) observe(ctx context.Context, u *unit, view component.View, want component.Desired, turn component.Turn) (component.Observed, error) {
	busy := u.busy() // what is under way now may end before the list is read, and make it old
	all, err := s.Engine.Containers(ctx)
	if err != nil {
		return component.Observed{}, err
	}
	cs, tasks := split(all, u.name)
	s.adopt(u, cs, busy, settled(view, want))
	rec := u.record()
	u.see(cs)
	s.watchAll(ctx, u, cs, rec)
	have := component.Observed{
		Now: now(), Primary: rec.Primary, Proven: rec.Proven, Served: rec.Served,
		Restarts: rec.Restarts, Failure: rec.Failure,
		Containers: s.containers(u, cs, rec, busy),
	}
	u.routeErr = ""
	if err := s.applyRoutes(ctx, u, want, turn, cs, rec); err != nil {
		u.routeErr = err.Error()
	}
	have.RouteErr = u.routeErr
	if e := u.startErr; turn.State == component.TurnMine && e.gen == want.Generation && e.reason != "" {
		have.RouteErr = e.reason
	}
	have.Links = s.served(want, rec.Proven)
	if have.Tasks, err = s.taskStates(ctx, u, tasks, busy); err != nil {
		return have, err
	}
	have.Images, err = s.images(ctx, cs, want, rec.Proven)
	return have, err
}

// containers joins what the engine, the record and the probes say.
func (s *Supervisor) containers(u *unit, cs []component.EngineContainer, rec component.Record, busy map[string]bool) []component.Container {
	guests := s.guestsOf(u, cs)
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]component.Container, 0, len(cs))
	for i, c := range cs {
		r, l := rec.Containers[c.ID], u.liveOf(c.ID)
		out = append(out, component.Container{
			ID: c.ID, Hash: c.Hash, Stage: r.Stage, StageSince: r.StageSince, DrainingSince: r.DrainingSince,
			Running: c.State == component.RunRunning, Ready: l.ready, Health: l.health, Problem: l.problem,
			Conns: s.Router.Conns(c.ID).Open, Terminated: l.terminated, Busy: busy[c.ID] || l.busy != "", Failed: r.Failed != "",
			WithEngine: c.WithEngine, Guests: guests[i], Cutting: l.out != nil,
		})
		if c.State != component.RunRunning && l.problem == "" {
			out[len(out)-1].Problem = c.Status
		}
	}
	return out
}

// adopt brings the record up to the containers that are there.
func (s *Supervisor) adopt(u *unit, cs []component.EngineContainer, busy map[string]bool, settled string) {
	before := u.record()
	lost := s.lost && !u.looked // what starts later is this process's own
	u.looked = true
	f := func(r *component.Record) { adopted(r, cs, busy, lost, settled) }
	after := before
	after.Containers = maps.Clone(before.Containers)
	f(&after)
	s.forget(u, after.Containers)
	if !reflect.DeepEqual(before, after) {
		s.note(u, f)
	}
}

// adopted is r with the containers that are there: new ones start at the first stage, those that are
// gone are forgotten, those that ended on their way out are stopped. A container that was created
// and never started is what a daemon left that died in between.
func adopted(r *component.Record, cs []component.EngineContainer, busy map[string]bool, lost bool, settled string) {
	if lost && len(r.Containers) == 0 && r.Proven == nil {
		adoptLost(r, cs, settled)
	}
	there := make(map[string]component.ContainerRecord, len(cs))
	for _, c := range cs {
		rec, known := r.Containers[c.ID]
		if !known {
			rec = component.ContainerRecord{Stage: component.Starting, StageSince: now()}
		}
		ended := c.State != component.RunRunning
		if ended && (rec.Stage == component.Draining || rec.Failed != "") || c.State == component.RunCreated && !busy[c.ID] {
			rec.Stage = component.Stopped
		}
		there[c.ID] = rec
	}
	r.Containers = there
	if _, ok := there[r.Primary]; !ok {
		r.Primary = ""
	}
}

// adoptLost makes up for a lost memory. The container of the release that is rolled out everywhere is
// taken as the one that served; when there is none, or nobody knows, the oldest running one, so that
// the host goes on serving. The others have to pass their ready checks.
func adoptLost(r *component.Record, cs []component.EngineContainer, settled string) {
	runs := slices.DeleteFunc(slices.Clone(cs), func(c component.EngineContainer) bool { return c.State != component.RunRunning })
	if len(runs) == 0 {
		return
	}
	i := slices.IndexFunc(runs, func(c component.EngineContainer) bool { return c.Hash == settled })
	c := runs[max(0, i)]
	rel := c.Release
	r.Containers[c.ID] = component.ContainerRecord{Stage: component.Serving, StageSince: now()}
	r.Primary, r.Proven, r.Served = c.ID, &rel, true
}

// settled is the hash of the wanted release when its rollout is done; empty otherwise.
func settled(view component.View, want component.Desired) string {
	if r := view.Rollout; want.Status == component.StatusReady && r.Generation == want.Generation && r.Status == component.RolloutDone {
		return want.Release().Hash()
	}
	return ""
}

// see remembers the engine's view for the status.
func (u *unit) see(cs []component.EngineContainer) {
	seen := make(map[string]component.EngineContainer, len(cs))
	for _, c := range cs {
		seen[c.ID] = c
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = seen
}

// busy are the containers with an operation under way.
func (u *unit) busy() map[string]bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	ids := make(map[string]bool)
	for id, l := range u.live {
		if l.busy != "" {
			ids[id] = true
		}
	}
	return ids
}

// forget ends the probes of containers that are gone.
func (s *Supervisor) forget(u *unit, left map[string]component.ContainerRecord) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, l := range u.live {
		if _, ok := left[id]; !ok && l.busy == "" {
			if l.stop != nil {
				l.stop()
			}
			delete(u.live, id)
		}
	}
}

// images says which of the images that may be started are here. A container that runs proves it.
func (s *Supervisor) images(ctx context.Context, cs []component.EngineContainer, want component.Desired, proven *component.Release) (map[string]component.ImageState, error) {
	ids := []string{want.ImageID}
	if proven != nil && proven.ImageID != want.ImageID {
		ids = append(ids, proven.ImageID)
	}
	out := make(map[string]component.ImageState, len(ids))
	for _, id := range ids {
		if id == "" {
			continue
		}
		runs := slices.ContainsFunc(cs, func(c component.EngineContainer) bool {
			return c.ImageID == id && c.State == component.RunRunning
		})
		st := s.pullState(id)
		if runs {
			st.Present = true
		} else if !st.Pulling {
			present, err := s.Engine.ImagePresent(ctx, id)
			if err != nil {
				return nil, err
			}
			st.Present = present
		}
		out[id] = st
	}
	return out, nil
}

func (s *Supervisor) pullState(id string) component.ImageState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pulls[id]; p != nil {
		return *p
	}
	return component.ImageState{}
}
