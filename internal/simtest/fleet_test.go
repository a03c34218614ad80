package simtest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// project is the one that all hosts run.
const project = "sim"

// Images of the components.
const (
	imageOne = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	imageTwo = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// A fleet is hosts around one etcd.
type fleet struct {
	member *etcdtest.Member
	op     *etcdstate.Client
	specs  []component.Spec
	hosts  []*host
}

// A host is what a machine is to a daemon, and its daemon while there is one.
type host struct {
	name   string
	dir    string
	client *etcdstate.Client
	engine *engine
	memory *memory
	end    context.CancelFunc
	ended  chan struct{} // closed when the daemon has ended
}

// newFleet runs so many hosts and waits until each serves the first release of every component.
func newFleet(tb testing.TB, hosts, components int, policy component.RolloutPolicy) *fleet {
	tb.Helper()
	f := &fleet{member: etcdtest.Start(tb)}
	f.op = dial(tb, f.member)
	for i := range components {
		f.specs = append(f.specs, component.Spec{
			Name: fmt.Sprintf("c%02d", i), Repo: "registry.example/app",
			ReadyChecks: []component.Check{{Kind: component.CheckTCP, Port: 8080}},
			Rollout:     policy,
		})
	}
	config, err := json.Marshal(component.Project{Components: f.specs})
	if err != nil {
		tb.Fatal(err)
	}
	if err := f.op.PutConfig(tb.Context(), project, config); err != nil {
		tb.Fatal(err)
	}
	for _, spec := range f.specs {
		f.update(tb, spec, imageOne)
	}
	dir := tb.TempDir()
	for i := range hosts {
		name := fmt.Sprintf("h%04d", i)
		h := &host{name: name, dir: dir, client: dial(tb, f.member), engine: &engine{host: name}, memory: &memory{}}
		f.settle(h)
		f.hosts = append(f.hosts, h)
		h.start(tb)
	}
	tb.Cleanup(f.stop)
	f.rest(tb, 8*time.Minute+time.Duration(hosts*components)*30*time.Millisecond)
	return f
}

func dial(tb testing.TB, m *etcdtest.Member) *etcdstate.Client {
	tb.Helper()
	c, err := etcdstate.Dial(tb.Context(), etcdstate.Config{Endpoints: []string{m.Endpoint()}, CommandTimeout: 30 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// settle gives a host a past: it served the first release of everything before its daemon was stopped,
// so that a fleet need not be rolled out to be there.
func (f *fleet) settle(h *host) {
	recs := map[string]component.Record{}
	for i, spec := range f.specs {
		r := component.Release{ImageID: imageOne, Spec: spec}
		id := fmt.Sprintf("%s-%012d", h.name, -1-i)
		h.engine.containers = append(h.engine.containers, component.EngineContainer{
			ID: id, Component: spec.Name, Release: r, Hash: r.Hash(), State: component.RunRunning,
			ImageID: imageOne, Addr: "10.0.0.1", Created: time.Now(), Status: "Up",
		})
		recs[spec.Name] = component.Record{
			Primary: id, Proven: &r, Served: true,
			Containers: map[string]component.ContainerRecord{id: {Stage: component.Serving, StageSince: time.Now()}},
		}
	}
	h.memory.recs, h.memory.used = component.Records{Components: recs}, true
}

// leaseTTL is a minute, or when fleets are measured the default. Fifty hosts whose leases end because a busy machine
// does not get round to them come back all at once, and keep it from the next ones.
func leaseTTL() time.Duration {
	if os.Getenv(sizes) != "" {
		return 0
	}
	return time.Minute
}

// start runs the daemon of a host.
func (h *host) start(tb testing.TB) {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("GANTRYD_SIM_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", h.name)
	}
	store, err := etcdstate.NewStore(h.client, etcdstate.StoreOptions{
		Project: project, Host: h.name, TTL: leaseTTL(), LeaseFile: filepath.Join(h.dir, h.name), Log: log,
	})
	if err != nil {
		tb.Fatal(err)
	}
	sup, err := supervisor.New(supervisor.Options{
		Host: h.name, Bind: "127.0.0.1", Advertise: "192.0.2.1", Machine: component.Machine{Status: "running"},
		Store: store, Engine: h.engine, Router: router{}, Prober: prober{}, Memory: h.memory, Log: log,
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	h.end, h.ended = cancel, make(chan struct{})
	go func() {
		defer close(h.ended)
		_ = sup.Run(ctx) // it ends with ctx
	}()
}

// stop ends all daemons as a crash would: they give nothing up.
func (f *fleet) stop() {
	for _, h := range f.hosts {
		h.end()
	}
	for _, h := range f.hosts {
		<-h.ended
	}
}

// restart ends all daemons and starts them again.
func (f *fleet) restart(tb testing.TB) {
	tb.Helper()
	f.stop()
	for _, h := range f.hosts {
		h.start(tb)
	}
}

// update asks for an image.
func (f *fleet) update(tb testing.TB, spec component.Spec, imageID string) {
	tb.Helper()
	_, err := f.op.SetDesired(tb.Context(), project, spec.Name, component.Desired{
		Status: component.StatusReady, ImageID: imageID, Image: component.Image{Ref: "registry.example/app:1"}, Spec: &spec, By: "sim",
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// rest waits until every host runs, and said that it serves what is wanted of every component.
func (f *fleet) rest(tb testing.TB, within time.Duration) {
	tb.Helper()
	root := "/gantryd/projects/" + project + "/"
	deadline := time.After(within)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for f.member.Count(tb, root+"machines/") < len(f.hosts) || f.statuses(tb, root) < len(f.hosts)*len(f.specs) {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("not at rest within %v: %d machines, %d statuses", within, f.member.Count(tb, root+"machines/"), f.statuses(tb, root))
		}
	}
	for _, spec := range f.specs {
		f.done(tb, spec, within)
	}
}

func (f *fleet) statuses(tb testing.TB, root string) int {
	n := 0
	for _, spec := range f.specs {
		n += f.member.Count(tb, root+"components/"+spec.Name+"/hosts/")
	}
	return n
}

// done waits until the rollout of the component's newest generation is recorded as done.
func (f *fleet) done(tb testing.TB, spec component.Spec, within time.Duration) {
	tb.Helper()
	key := "/gantryd/projects/" + project + "/components/" + spec.Name + "/"
	generation := f.member.All(tb, key+"state")[key+"state"].Revision
	f.member.Await(tb, key+"rollout", within, func(value string) bool {
		var r component.Rollout
		if value != "" {
			if err := json.Unmarshal([]byte(value), &r); err != nil {
				tb.Fatal(err)
			}
		}
		if r.Generation == generation && r.Status == component.RolloutHalted {
			tb.Fatalf("component %s: %s", spec.Name, r.Reason)
		}
		return r.Generation == generation && r.Status == component.RolloutDone
	})
}
