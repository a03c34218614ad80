package simtest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// An engine is a host's containers. They outlive the daemon.
type engine struct {
	host string

	mu         sync.Mutex // guards what follows
	started    int
	containers []component.EngineContainer
	changed    func(string)
}

func (e *engine) Run(ctx context.Context, changed func(string)) error {
	e.mu.Lock()
	e.changed = changed
	e.mu.Unlock()
	<-ctx.Done()
	e.mu.Lock()
	e.changed = nil
	e.mu.Unlock()
	return context.Cause(ctx)
}

// change changes the containers and tells of it.
func (e *engine) change(f func() string) {
	e.mu.Lock()
	name, changed := f(), e.changed
	e.mu.Unlock()
	if changed != nil && name != "" {
		changed(name)
	}
}

func (e *engine) Containers(context.Context) ([]component.EngineContainer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.containers), nil
}

func (e *engine) Start(_ context.Context, r component.StartRequest) (id string, err error) {
	e.change(func() string {
		e.started++
		id = fmt.Sprintf("%s-%012d", e.host, e.started)
		e.containers = append(e.containers, component.EngineContainer{
			ID: id, Component: r.Component, Release: r.Release, Hash: r.Hash, State: component.RunRunning,
			ImageID: r.Release.ImageID, ImageName: r.Release.Image.Ref, Addr: "10.0.0.1", Created: time.Now(), Status: "Up",
		})
		return r.Component
	})
	return id, nil
}

func (e *engine) end(id string) {
	e.change(func() string {
		for i := range e.containers {
			if c := &e.containers[i]; c.ID == id {
				c.State, c.Status, c.Addr = component.RunExited, "Exited (0)", ""
				return c.Component
			}
		}
		return ""
	})
}

func (e *engine) Stop(_ context.Context, id string, _ time.Duration) error { e.end(id); return nil }

func (e *engine) Kill(_ context.Context, id string) error { e.end(id); return nil }

func (e *engine) Remove(_ context.Context, id string) error {
	e.change(func() string {
		i := slices.IndexFunc(e.containers, func(c component.EngineContainer) bool { return c.ID == id })
		if i < 0 {
			return ""
		}
		name := e.containers[i].Component
		e.containers = slices.Delete(e.containers, i, i+1)
		return name
	})
	return nil
}

func (e *engine) ImagePresent(context.Context, string) (bool, error) { return true, nil }

func (e *engine) Pull(context.Context, component.Image, string, func(string)) error { return nil }

func (e *engine) Logs(context.Context, string, int) ([]string, error) { return nil, nil }

func (e *engine) ExitReason(context.Context, string) (string, error) { return "", nil }

func (e *engine) Succeeded(context.Context, string) (bool, error) { return true, nil }

func (e *engine) RemoveImage(context.Context, string) error { return nil }

func (e *engine) Gateway(context.Context, string) (string, error) { return "127.0.0.1", nil }

// serves reports whether containers of the image, and no others, run for the component.
func (e *engine) serves(name, imageID string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	ok := false
	for _, c := range e.containers {
		if c.Component == name && c.State == component.RunRunning {
			if c.ImageID != imageID {
				return false
			}
			ok = true
		}
	}
	return ok
}

// A router forwards nothing: there are no clients.
type router struct{}

func (router) Apply(string, []supervisor.Listener) error      { return nil }
func (router) Conns(string) supervisor.Conns                  { return supervisor.Conns{} }
func (router) Connections(string, int) []component.Connection { return nil }
func (router) Drain(string)                                   {}
func (router) Guests(string, []netip.Addr) int                { return 0 }
func (router) Cut(context.Context, string, int, []netip.Addr) {}
func (router) Tally(string) component.Tally                   { return component.Tally{} }
func (router) OnIdle(func(string))                            {}

// readyTime is how long a container takes to be ready.
const readyTime = time.Second

// A prober finds every container ready after readyTime, and healthy.
type prober struct{}

func (prober) Ready(ctx context.Context, _ component.ProbeTarget, checks []component.Check, _ func(component.Event)) error {
	if len(checks) == 0 {
		return nil
	}
	t := time.NewTimer(readyTime)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (prober) Health(ctx context.Context, _ component.ProbeTarget, _ []component.Check, changed func(bool, error)) error {
	changed(true, nil)
	<-ctx.Done()
	return context.Cause(ctx)
}

func (prober) Signal(context.Context, component.ProbeTarget, []component.Signal, func(component.Event)) {
}

func (prober) Terminated(context.Context, component.ProbeTarget, []component.Check, func(component.Event)) error {
	return nil
}

// A memory is the disk of a host. It outlives the daemon.
type memory struct {
	mu   sync.Mutex // guards recs
	recs component.Records
	used bool
}

func (m *memory) Load() (component.Records, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := component.Records{Host: m.recs.Host, Components: map[string]component.Record{}}
	maps.Copy(out.Components, m.recs.Components)
	return out, m.used, nil
}

func (m *memory) Save(name string, r component.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.recs.Components == nil {
		m.recs.Components = map[string]component.Record{}
	}
	m.recs.Components[name], m.used = r, true
	return nil
}

func (m *memory) SaveHost(h component.HostRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recs.Host, m.used = h, true
	return nil
}
