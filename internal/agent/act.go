package agent

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// lookEvery is how often an action looks whether it has come to its end; events make it look sooner.
const lookEvery = 20 * time.Millisecond

func (s *Server) act(ctx context.Context, req Request, events <-chan component.Event, out *stream) error {
	i := slices.IndexFunc(req.Project.Components, func(c component.Spec) bool { return c.Name == req.Component })
	if i < 0 {
		return refuse(CodeUnknown, "Unknown component: %s", req.Component)
	}
	runs := s.runs(req.Component)
	if req.Resume != 0 {
		return s.resume(ctx, req, events, out)
	}
	switch req.Action {
	case Start:
		if runs {
			return refuse(CodeRunning, "Component %s is already running", req.Component)
		}
		return s.update(ctx, req, req.Project.Components[i], events, out)
	case Update:
		return s.update(ctx, req, req.Project.Components[i], events, out)
	case Stop, Kill:
		if !runs {
			return refuse(CodeNotRunning, "Component %s is not running", req.Component)
		}
		return s.end(ctx, req, events, out)
	}
	return refuse(CodeInvalid, "unknown action %q", req.Action)
}

// runs reports whether any container of the component runs, a draining one too.
func (s *Server) runs(name string) bool {
	return slices.ContainsFunc(s.Status(name).Containers, func(c component.ContainerStatus) bool {
		return c.Stage < component.Stopped
	})
}

// update asks for a new container of the spec and follows until it serves or has failed.
func (s *Server) update(ctx context.Context, req Request, spec component.Spec, events <-chan component.Event, out *stream) error {
	if err := s.Store.PutProject(ctx, req.Project); err != nil {
		return err
	}
	img, id, err := s.Resolve(ctx, spec.Ref(), func(text string) { out.say(spec.Name, component.EventPull, text) })
	if err != nil {
		return err
	}
	gen, err := s.Store.SetDesired(ctx, spec.Name, component.Desired{
		Status: component.StatusReady, ImageID: id, Image: img, Spec: &spec,
		Restart: rand.Text(), Operation: rand.Text(), By: req.By, At: time.Now(),
	})
	if err != nil {
		return err
	}
	out.write(line{Generation: gen})
	return s.until(ctx, events, out, func() (bool, error) { return s.updated(spec.Name, gen) })
}

// resume follows an action that was begun by the process before.
func (s *Server) resume(ctx context.Context, req Request, events <-chan component.Event, out *stream) error {
	switch req.Action {
	case Start, Update:
		return s.until(ctx, events, out, func() (bool, error) { return s.updated(req.Component, req.Resume) })
	case Stop, Kill:
		return s.ended(ctx, req, req.Resume, events, out)
	}
	return refuse(CodeInvalid, "unknown action %q", req.Action)
}

// updated reports whether the update to a generation is over: the new container serves and the old
// ones drain.
func (s *Server) updated(name string, gen int64) (bool, error) {
	v, st := s.Store.View(name), s.Status(name)
	if v.Desired.Generation > gen {
		return true, refuse(CodeSuperseded, "Component %s: another command came in between", name)
	}
	if r := v.Rollout; r.Generation == gen && r.Status == component.RolloutHalted {
		f := st.Failure
		if f == nil || f.Generation != gen || starting(st, gen) {
			return false, nil // the host is about to say why, and to clear up
		}
		e := refuse(CodeFailed, "Could not update component %s: %s", name, f.Reason)
		e.Log = f.Log
		return true, e
	}
	if st.Generation != gen || st.Step != component.StepServing {
		return false, nil
	}
	serving := 0
	for _, c := range st.Containers {
		if c.Stage == component.Serving {
			serving++
		}
	}
	return serving == 1, nil
}

// starting reports whether a container of the generation that never served is still there.
func starting(st component.HostStatus, gen int64) bool {
	return slices.ContainsFunc(st.Containers, func(c component.ContainerStatus) bool {
		return c.Generation == gen && c.Stage == component.Starting
	})
}

// end stops or kills the component and follows.
func (s *Server) end(ctx context.Context, req Request, events <-chan component.Event, out *stream) error {
	name := req.Component
	d := s.Store.View(name).Desired
	d.Status, d.Operation, d.By, d.At = component.StatusStopped, rand.Text(), req.By, time.Now()
	if req.Action == Kill {
		d.Status = component.StatusKilled
	}
	gen, err := s.Store.SetDesired(ctx, name, d)
	if err != nil {
		return err
	}
	out.write(line{Generation: gen})
	return s.ended(ctx, req, gen, events, out)
}

// ended follows a stop or a kill until no container is left.
func (s *Server) ended(ctx context.Context, req Request, gen int64, events <-chan component.Event, out *stream) error {
	name := req.Component
	err := s.until(ctx, events, out, func() (bool, error) {
		if s.Store.View(name).Desired.Generation > gen {
			return true, refuse(CodeSuperseded, "Component %s: another command came in between", name)
		}
		st := s.Status(name)
		return st.Target == gen && st.Step == component.StepStopped, nil
	})
	if err != nil {
		return err
	}
	if req.Action == Kill {
		out.say(name, component.EventKill, "Checking container statuses...")
		out.say(name, component.EventProxy, "Shutting down proxy...")
		return nil
	}
	out.say(name, component.EventProxy, "Proxy updated")
	return nil
}

// until passes events on until over says so, or the client leaves.
func (s *Server) until(ctx context.Context, events <-chan component.Event, out *stream, over func() (bool, error)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		done, err := over()
		for drained := false; !drained; { // what led to the end comes before it
			select {
			case e := <-events:
				out.event(e)
			default:
				drained = true
			}
		}
		if done {
			return err
		}
		select {
		case e := <-events:
			out.event(e)
		case <-tick.C:
		case <-s.Moved:
			return refuse(CodeMoved, "the agent was replaced: run the command again")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
