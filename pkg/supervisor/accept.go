package supervisor

import (
	"reflect"
	"slices"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// accept decides which desired state the host acts on: the store's, or the last one it accepted when
// the store is silent, not to be trusted, or says nothing that can be read. Settings that only steer
// gantryd are those of the project's config. It remembers what it accepts. The view is cut down to
// what may be acted on.
func (s *Supervisor) accept(u *unit, view *component.View) (component.Desired, component.Turn) {
	rec := u.record()
	epoch, ok := s.trust(s.Store.Cluster())
	if !ok {
		view.Rollout, view.Turn = component.Rollout{}, component.Turn{State: component.TurnUnreachable}
		return rec.Accepted, view.Turn
	}
	if view.DesiredErr != nil {
		s.Log.Debug("state not readable, keeping the last one", "component", u.name, "err", view.DesiredErr)
		return s.steer(u, rec.Accepted, view.Config), view.Turn
	}
	d := view.Desired
	known := epoch == rec.Epoch && d.Generation <= rec.Generation
	s.heard(u, view.Rollout)
	if d.Status == "" || known && (rec.Accepted.Spec != nil || view.Config == nil) {
		accepted := rec.Accepted
		if known && d.Generation == rec.Generation {
			accepted = s.catchUp(u, accepted, d)
		}
		return s.steer(u, accepted, view.Config), view.Turn
	}
	if d.Spec == nil {
		d.Spec = view.Config // a state written by hand
	}
	if d.Image.Ref == "" && d.Spec != nil {
		d.Image.Ref = d.Spec.Ref()
	}
	if epoch != rec.Epoch {
		u.startErr = startError{}
	}
	s.note(u, func(r *component.Record) { take(r, d, epoch) })
	s.retryPull(d.ImageID)
	s.announce(u, rec, d)
	return s.steer(u, d, view.Config), view.Turn
}

// catchUp is what was accepted with what an older daemon, which accepted it, may not have known of d. It is remembered:
// whoever ends is looked for among those that follow it.
func (s *Supervisor) catchUp(u *unit, accepted, d component.Desired) component.Desired {
	full := accepted
	full.Follows, full.Together, full.Prepared = d.Follows, d.Together, d.Prepared
	if !reflect.DeepEqual(full, accepted) {
		s.note(u, func(r *component.Record) { r.Accepted = full })
	}
	return full
}

// steer is d with the settings of config that need no other container, as far as d has any
// configuration. So is what serves, when d is another release that halted, say. They are remembered, so
// that they outlive the store and this process.
func (s *Supervisor) steer(u *unit, d component.Desired, config *component.Spec) component.Desired {
	if config == nil {
		return d
	}
	s.steerServed(u, *config)
	if d.Spec == nil {
		return d
	}
	spec := d.Spec.Steered(*config)
	if reflect.DeepEqual(spec, *d.Spec) {
		return d
	}
	d.Spec = &spec
	s.Log.Info("settings changed that need no new container", "component", u.name, "generation", d.Generation)
	s.note(u, func(r *component.Record) {
		r.Accepted.Spec = &spec
		steerProven(r, d.Release())
	})
	return d
}

// steerServed gives the proven release the settings of config that need no other container.
func (s *Supervisor) steerServed(u *unit, config component.Spec) {
	rec := u.record()
	if rec.Proven == nil {
		return
	}
	rel := *rec.Proven
	if rel.Spec = rel.Spec.Steered(config); reflect.DeepEqual(rel.Spec, rec.Proven.Spec) {
		return
	}
	s.Log.Info("settings of what serves changed, without a new container", "component", u.name, "generation", rel.Generation)
	s.note(u, func(r *component.Record) { steerProven(r, rel) })
}

// steerProven gives the proven release the settings of rel when both have the same containers.
func steerProven(r *component.Record, rel component.Release) {
	if r.Proven != nil && r.Proven.Hash() == rel.Hash() {
		r.Proven = &rel
	}
}

// take makes d what the host acts on.
func take(r *component.Record, d component.Desired, epoch string) {
	if epoch != r.Epoch {
		outlive(r)
	}
	r.Accepted, r.Generation, r.Epoch, r.Attempt = d, d.Generation, epoch, 0
	switch d.Status {
	case component.StatusStopped, component.StatusKilled:
		r.Served = false
	case component.StatusReady:
		steerProven(r, d.Release())
		if r.Failure != nil && r.Failure.Generation < d.Generation {
			r.Failure = nil
		}
		r.Restarts = component.Restarts{}
	}
}

// outlive takes the generations off what r keeps from other data of the store: in the new data the
// same numbers stand for something else.
func outlive(r *component.Record) {
	r.Failure = nil
	if r.Proven != nil {
		p := *r.Proven
		p.Generation = 0
		r.Proven = &p
	}
}

// retryPull makes a new state a new try for its image.
func (s *Supervisor) retryPull(imageID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pulls[imageID]; p != nil && !p.Pulling {
		delete(s.pulls, imageID)
	}
}

// announce tells what was asked for, in the original's words.
func (s *Supervisor) announce(u *unit, before component.Record, d component.Desired) {
	s.Log.Info("desired state accepted", "component", u.name, "status", string(d.Status), "generation", d.Generation, "image", component.Short(d.ImageID))
	switch d.Status {
	case component.StatusStopped, component.StatusKilled:
		s.report(u, component.EventWaiting, "", "Component "+u.name+" is marked as "+string(d.Status), "")
		s.announceEnd(u, before, d.Status)
	case component.StatusReady:
		if before.Primary != "" {
			s.report(u, component.EventWaiting, "", "Detected pushed update for component "+u.name, "")
			return
		}
		s.report(u, component.EventWaiting, "", "Component "+u.name+" is not running; starting", "")
	}
}

// announceEnd begins the story of a stop or kill, when there is anything to end.
func (s *Supervisor) announceEnd(u *unit, before component.Record, status component.Status) {
	running := false
	for _, c := range before.Containers {
		running = running || c.Stage < component.Stopped
	}
	if !running {
		return
	}
	s.report(u, component.EventDrain, "", "Draining all containers...", "")
	if status == component.StatusStopped {
		s.report(u, component.EventDrain, "", "Checking container statuses...", "")
		s.report(u, component.EventProxy, "", "Updating proxy...", "")
		s.report(u, component.EventMonitoring, "", "Starting monitoring...", "")
	}
}

// trust reports whether the store's data may be acted on, and names that data.
func (s *Supervisor) trust(c component.Cluster) (epoch string, ok bool) {
	if c.ID == "" {
		return "", false // it never answered
	}
	s.mu.Lock()
	next, ok, reason := rollout.Trust(c, s.host)
	changed := ok != s.trusted || reason != s.reason
	identity := ok && (next.Cluster != s.host.Cluster || !slices.Equal(next.Adoptions, s.host.Adoptions))
	s.trusted, s.reason = ok, reason
	if ok {
		next.LinkPorts = s.host.LinkPorts
		s.host = next
	}
	s.mu.Unlock()
	if identity {
		s.saveHost()
	}
	if changed && !ok {
		s.Log.Error("store not trusted: what serves goes on, nothing new is started", "reason", reason)
		s.Report(component.Event{
			Host: s.Host, Kind: component.EventStoreUntrusted, Detail: reason,
			Text: "The store cannot be trusted; run 'gantryd adopt PROJECT --confirm' when it is right",
		})
	}
	epoch = c.ID
	if n := len(next.Adoptions); n > 0 {
		epoch += "/" + next.Adoptions[n-1]
	}
	return epoch, ok
}

// counts reports whether the generations that r holds are those of the store's data now.
func (s *Supervisor) counts(r component.Record) bool {
	epoch, ok := s.trust(s.Store.Cluster())
	return ok && epoch == r.Epoch
}

// Trusted reports whether the store's data is acted on, and else why not.
func (s *Supervisor) Trusted() (ok bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trusted, s.reason
}

// saveHost stores what is remembered of the host; a failure is logged and tried again with the
// next change.
func (s *Supervisor) saveHost() {
	s.mu.Lock()
	h := s.host
	s.mu.Unlock()
	if err := s.Memory.SaveHost(h); err != nil {
		s.Log.Warn("save host record", "err", err)
	}
}
