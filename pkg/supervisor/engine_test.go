package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// memEngine is an Engine in memory. Containers do what the maps say of their image.
type memEngine struct {
	mu         sync.Mutex // guards what follows
	n          int
	containers []component.EngineContainer
	envs       map[string][]string // by container ID
	images     map[string]bool
	remote     map[string]bool  // images that can be pulled
	startErr   map[string]error // by image
	stopErr    error
	pullErr    error
	stubborn   bool             // containers end at the end of their grace only
	silent     bool             // nothing answers
	halfDone   bool             // Start stops answering after it created the container
	succeeded  map[string]bool  // containers that ended with exit code 0
	inspectErr map[string]error // by container ID
	calls      []string
	changed    func(string)
}

func newEngine(images ...string) *memEngine {
	e := &memEngine{images: map[string]bool{}, remote: map[string]bool{}, startErr: map[string]error{}, envs: map[string][]string{}, succeeded: map[string]bool{}}
	for _, id := range images {
		e.images[id] = true
	}
	return e
}

func (e *memEngine) Run(ctx context.Context, changed func(string)) error {
	e.mu.Lock()
	e.changed = changed
	e.mu.Unlock()
	<-ctx.Done()
	e.mu.Lock()
	e.changed = nil
	e.mu.Unlock()
	return context.Cause(ctx)
}

// do makes one change, which the Engine tells of.
func (e *memEngine) do(call, name string, f func() error) error {
	e.mu.Lock()
	if e.silent {
		e.mu.Unlock()
		return component.ErrEngineUnreachable
	}
	e.calls = append(e.calls, call)
	err := f()
	changed := e.changed
	e.mu.Unlock()
	if changed != nil {
		changed(name)
	}
	return err
}

func (e *memEngine) Containers(context.Context) ([]component.EngineContainer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.silent {
		return nil, component.ErrEngineUnreachable
	}
	return slices.Clone(e.containers), nil
}

func (e *memEngine) ImagePresent(_ context.Context, id string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.images[id], nil
}

func (e *memEngine) Pull(_ context.Context, _ component.Image, id string, _ func(string)) error {
	return e.do("pull "+id, "", func() error {
		if e.pullErr != nil {
			return e.pullErr
		}
		if !e.remote[id] {
			return errors.New("manifest unknown")
		}
		e.images[id] = true
		return nil
	})
}

func (e *memEngine) Start(_ context.Context, r component.StartRequest) (string, error) {
	id := ""
	err := e.do("start "+r.Release.ImageID, r.Component, func() error {
		if err := e.startErr[r.Release.ImageID]; err != nil {
			return err
		}
		e.n++
		id = fmt.Sprintf("c%d", e.n)
		state := component.RunRunning
		if e.halfDone {
			state = component.RunCreated
		}
		e.containers = append(e.containers, component.EngineContainer{
			ID: id, Component: r.Component, Release: r.Release, Hash: r.Hash, State: state,
			Task: r.Task, Attempt: r.Attempt, ImageID: r.Release.ImageID, Addr: "10.0.0." + fmt.Sprint(e.n), Created: time.Now(),
		})
		e.envs[id] = r.Env
		if e.halfDone {
			e.silent = true
			return component.ErrEngineUnreachable
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

func (e *memEngine) end(call, id string) error {
	return e.do(call+" "+id, e.component(id), func() error {
		if e.stopErr != nil {
			return e.stopErr
		}
		for i := range e.containers {
			if e.containers[i].ID == id {
				e.containers[i].State, e.containers[i].Status, e.containers[i].Addr = component.RunExited, "Exited (0)", ""
			}
		}
		return nil
	})
}

func (e *memEngine) component(id string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.ID == id {
			return c.Component
		}
	}
	return ""
}

func (e *memEngine) Stop(ctx context.Context, id string, grace time.Duration) error {
	e.mu.Lock()
	stubborn := e.stubborn
	e.mu.Unlock()
	if stubborn {
		select {
		case <-time.After(grace):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return e.end("stop", id)
}

func (e *memEngine) Kill(_ context.Context, id string) error { return e.end("kill", id) }

// crash is what a container does by itself.
func (e *memEngine) crash(id string) { _ = e.end("crash", id) }

// restartEngine ends the engine with all containers, and starts it again after d.
func (w *world) restartEngine(d time.Duration) {
	e := w.engine
	e.fault(func(e *memEngine) { e.silent = true })
	w.after(d)
	e.fault(func(e *memEngine) {
		e.silent = false
		for i := range e.containers {
			if c := &e.containers[i]; c.State == component.RunRunning {
				c.State, c.Status, c.Addr, c.WithEngine = component.RunExited, "Exited (137)", "", true
			}
		}
	})
	e.mu.Lock()
	changed := e.changed
	e.mu.Unlock()
	changed("")
}

func (e *memEngine) Remove(_ context.Context, id string) error {
	return e.do("remove "+id, e.component(id), func() error {
		e.containers = slices.DeleteFunc(e.containers, func(c component.EngineContainer) bool { return c.ID == id })
		return nil
	})
}

func (e *memEngine) Logs(_ context.Context, id string, _ int) ([]string, error) {
	return []string{"last words of " + id}, nil
}

func (e *memEngine) ExitReason(_ context.Context, id string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return "exit code 1", e.inspectErr[id]
}

func (e *memEngine) RemoveImage(_ context.Context, id string) error {
	return e.do("remove image "+id, "", func() error { delete(e.images, id); return nil })
}

func (e *memEngine) Gateway(context.Context, string) (string, error) { return "127.0.0.1", nil }

// fault changes how the engine behaves.
func (e *memEngine) fault(f func(*memEngine)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
}

// count is how often a call was made.
func (e *memEngine) count(call string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, c := range e.calls {
		if c == call {
			n++
		}
	}
	return n
}

// running are the IDs of the containers that run, oldest first.
func (e *memEngine) running() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for _, c := range e.containers {
		if c.State == component.RunRunning {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// total counts the containers, running or not.
func (e *memEngine) total() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.containers)
}

func (e *memEngine) env(id string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.envs[id]
}

func (e *memEngine) Succeeded(_ context.Context, id string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.succeeded[id], e.inspectErr[id]
}

// exit ends the process of a container by itself.
func (e *memEngine) exit(id string, ok bool) {
	e.fault(func(e *memEngine) { e.succeeded[id] = ok })
	_ = e.end("exit", id)
}
