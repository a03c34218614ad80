package daemontest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// turnWithin is the longest wait for one host's turn.
const turnWithin = 3 * time.Minute

// An Operator writes the state of one project, as the command line does, and follows it.
type Operator struct {
	project string
	client  *etcdstate.Client

	mu      sync.Mutex
	now     etcdstate.Project
	changed chan struct{} // closed and replaced when now changes
}

// Dial returns the operator of a project, until the test ends.
func Dial(tb testing.TB, endpoint, project string) *Operator {
	tb.Helper()
	c, err := etcdstate.Dial(tb.Context(), etcdstate.Config{Endpoints: []string{endpoint}})
	if err != nil {
		tb.Fatal(err)
	}
	o := &Operator{project: project, client: c, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Watch(ctx, project, o.see) }) // Await tells when nothing comes
	tb.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = c.Close()
	})
	return o
}

func (o *Operator) see(p etcdstate.Project) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = p
	close(o.changed)
	o.changed = make(chan struct{})
}

// Configure stores the project's components.
func (o *Operator) Configure(tb testing.TB, specs ...component.Spec) {
	tb.Helper()
	b, err := json.Marshal(component.Project{Components: specs})
	if err != nil {
		tb.Fatal(err)
	}
	if err := o.client.PutConfig(tb.Context(), o.project, b); err != nil {
		tb.Fatal(err)
	}
}

// Update asks for a new release, with new containers whatever is the same, and returns its generation.
func (o *Operator) Update(tb testing.TB, spec component.Spec, ref, imageID string) int64 {
	tb.Helper()
	id := rand.Text()
	gen, err := o.client.SetDesired(tb.Context(), o.project, spec.Name, component.Desired{
		Status: component.StatusReady, ImageID: imageID, Image: component.Image{Ref: ref}, Spec: &spec,
		Operation: id, Restart: id, By: "test", At: time.Now().UTC(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return gen
}

// Served waits until the host has published that it serves the generation.
func (o *Operator) Served(tb testing.TB, name string, gen int64) {
	tb.Helper()
	o.Await(tb, name, "to be served", func(st component.HostStatus) bool {
		if st.Failure != nil && st.Failure.Generation == gen {
			tb.Fatalf("component %q: %s", name, st.Failure.Reason)
		}
		return st.Generation >= gen && st.Step == component.StepServing
	})
}

// Await waits until what the host publishes of the component is as ok wants it.
func (o *Operator) Await(tb testing.TB, name, what string, ok func(component.HostStatus) bool) {
	tb.Helper()
	deadline := time.After(turnWithin)
	for {
		o.mu.Lock()
		st, changed := o.now.Components[name].Hosts[Host], o.changed
		o.mu.Unlock()
		if ok(st) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			tb.Fatalf("wait for component %q %s: not within %v; the host says %+v", name, what, turnWithin, st)
		}
	}
}
