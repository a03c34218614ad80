package supervisor_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// A world is one host with everything around it.
type world struct {
	t      *testing.T
	store  *memStore
	engine *memEngine
	router *memRouter
	prober *memProber
	memory *memMemory

	sup  *supervisor.Supervisor
	stop func()

	mu    sync.Mutex // guards story
	story []string
}

// inWorld runs f in a bubble with a host that runs and knows images v1 and v2.
func inWorld(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, store: newStore("h1"), engine: newEngine("v1", "v2"), router: newRouter(),
			prober: newProber(), memory: &memMemory{},
		}
		w.start()
		defer func() { w.stop() }()
		f(w)
	})
}

// start runs a daemon; stop ends it, and leaves the containers as they are.
func (w *world) start() {
	w.t.Helper()
	sup, err := supervisor.New(supervisor.Options{
		Host: "h1", Bind: "127.0.0.1", Advertise: "192.0.2.1", Machine: component.Machine{Status: "running"},
		Store: w.store, Engine: w.engine, Router: w.router, Prober: w.prober, Memory: w.memory,
		Report: w.report, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = sup.Run(ctx) })
	w.sup, w.stop = sup, func() { cancel(); wg.Wait() }
}

// restart is a new daemon, with another router and prober state but the same containers.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.router.mu.Lock()
	w.router.listeners = map[string][]supervisor.Listener{}
	w.router.mu.Unlock()
	w.start()
}

func (w *world) report(e component.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.story = append(w.story, e.Text)
}

// told are the events so far; it forgets them.
func (w *world) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.story
	w.story = nil
	return s
}

// after lets time pass.
func (w *world) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// web is a component with a port and checks.
func web() *component.Spec {
	bake := component.Duration(time.Second)
	return &component.Spec{
		Name: "web", Repo: "r", Ports: []component.Port{{External: 80, Container: 8080}},
		ReadyChecks:  []component.Check{{Kind: component.CheckTCP, Port: 8080}},
		HealthChecks: []component.Check{{Kind: component.CheckTCP, Port: 8080}},
		Rollout:      component.RolloutPolicy{Bake: &bake},
	}
}

// update asks for the image.
func (w *world) update(image string, spec *component.Spec) int64 {
	return w.store.set(component.Desired{Status: component.StatusReady, ImageID: image, Spec: spec}, spec.Name)
}

func (w *world) end(status component.Status) {
	w.store.set(component.Desired{Status: status}, "web")
}

// serving asserts which container new connections to web go to, and that only run are running.
func (w *world) serving(target string, running ...string) {
	w.t.Helper()
	if got := w.router.target("web"); got != target {
		w.t.Errorf("new connections go to %q, want %q", got, target)
	}
	got := w.engine.running()
	if len(got) != len(running) {
		w.t.Fatalf("running containers = %v, want %v", got, running)
	}
	for i := range got {
		if got[i] != running[i] {
			w.t.Fatalf("running containers = %v, want %v", got, running)
		}
	}
}

// published is what the host says of web, in the store.
func (w *world) published() component.HostStatus { return w.store.View("web").Hosts["h1"] }

func (w *world) rollout() component.Rollout { return w.store.View("web").Rollout }
