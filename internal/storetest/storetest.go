package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// patience bounds every wait of the suite. It is spent by a failing store only.
const patience = 40 * time.Second

// A Fixture is an empty project in a store that works.
type Fixture struct {
	// Hosts are the stores of different hosts of one project, none of them running yet. One or
	// two: what needs two is skipped for a store that has no hosts.
	Hosts []Host
	// Operator writes to the same project.
	Operator Operator
}

// A Host is the store of one host.
type Host struct {
	Name  string // as in View.Hosts, View.Machines and Turn.Holders
	Store supervisor.Store
}

// An Operator writes what hosts only read. A write that returned has happened; hosts see it soon.
type Operator interface {
	// PutProject replaces the project's config.
	PutProject(ctx context.Context, p component.Project) error
	// SetDesired writes a component's desired state and returns its generation, which is greater
	// than that of any write before, also when nothing changed. StatusReady replaces image, spec
	// and restart; StatusStopped and StatusKilled leave those as they are.
	SetDesired(ctx context.Context, name string, d component.Desired) (generation int64, err error)
}

// Run runs the suite. newFixture is called once for each case and cleans up by t.Cleanup, which
// runs after the stores ended.
func Run(t *testing.T, newFixture func(t *testing.T) Fixture) {
	t.Helper()
	cases := []struct {
		name  string
		hosts int
		test  func(t *testing.T, s *suite)
	}{
		{"an empty project is reachable and has nothing", 1, testEmpty},
		{"config names components and describes them", 1, testConfig},
		{"a component left out of the config goes, unless it has a state", 1, testConfigRemoved},
		{"desired state comes with its generation", 1, testDesired},
		{"every write of desired state is a new generation", 1, testGenerations},
		{"stop and kill keep image and spec", 1, testStopKeeps},
		{"ready replaces image and spec", 1, testReadyReplaces},
		{"a status is visible at once", 1, testPublish},
		{"a machine is visible at once", 1, testMachine},
		{"a view does not change", 1, testMoments},
		{"a turn is visible at once and marks the rollout", 1, testTakeTurn},
		{"a turn leaves a record of its generation alone", 1, testTakeTurnKeepsRecord},
		{"taking the turn one has is done already", 1, testTakeTurnTwice},
		{"a turn for a newer generation replaces the older one", 1, testTakeTurnNewer},
		{"a turn is refused when the state changed", 1, testTurnStateChanged},
		{"a turn is refused when the rollout record changed", 1, testTurnRolloutChanged},
		{"ending a turn publishes, records and gives up", 1, testEndTurn},
		{"ending a turn without a record leaves the record", 1, testEndTurnNoRecord},
		{"a turn one does not have cannot be ended", 1, testEndTurnLost},
		{"ending a turn does not undo a halt", 1, testEndTurnKeepsHalt},
		{"ending a turn does not overwrite a newer record", 1, testEndTurnNewerRecord},
		{"a rollout record needs an unchanged state and record", 1, testPutRollout},
		{"a turn before the promotion is recorded", 1, testCanary},
		{"a turn to repair is no update", 1, testRepairTurn},
		{"a turn for the pre-deploy task makes no canary, and says what came of it", 1, testTaskTurn},
		{"a task that succeeded is not asked for again with the same release", 1, testPrepared},
		{"a failed host is passed over when some may fail", 1, testPassedOver},
		{"a report of an earlier try is not news", 1, testEarlierTry},
		{"a rollback brings the last good state back", 1, testRollback},
		{"a rollback keeps settings that need no other container", 1, testRollbackKeepsSettings},
		{"a rollback without anything to go back to is refused", 1, testRollbackNowhere},
		{"publishing goes on during a turn", 1, testPublishInTurn},
		{"a mere change of connections wakes nobody", 1, testQuiet},
		{"components do not mix", 1, testApart},
		{"all methods at once", 1, testConcurrent},
		{"the other host sees status, machine, turn and record", 2, testOtherSees},
		{"one slot is for one host", 2, testOneSlot},
		{"two slots are for two hosts", 2, testTwoSlots},
		{"others see who runs the pre-deploy task", 2, testTasker},
		{"fewer slots wait for all holders", 2, testFewerSlots},
		{"hosts racing for a turn never both have it", 2, testRace},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			if len(f.Hosts) < tt.hosts {
				t.Skipf("needs %d hosts, the store has %d", tt.hosts, len(f.Hosts))
			}
			tt.test(t, start(t, f))
		})
	}
}

// suite is a fixture whose stores run.
type suite struct {
	op    Operator
	hosts []*running
}

// running is a store in its Run, and what it reported.
type running struct {
	supervisor.Store
	name string

	mu      sync.Mutex
	changes []string
}

func start(t *testing.T, f Fixture) *suite {
	t.Helper()
	s := &suite{op: f.Operator}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{}, len(f.Hosts)) // one for each Run, so that none waits for a reader
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		late := time.After(patience)
		for range f.Hosts {
			select {
			case <-ended:
			case <-late:
				t.Error("Run goes on after its context ended")
				return
			}
		}
		wg.Wait()
	})
	for _, h := range f.Hosts {
		r := &running{Store: h.Store, name: h.Name}
		s.hosts = append(s.hosts, r)
		wg.Go(func() {
			err := r.Run(ctx, r.changed)
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Run of host %q = %v", r.name, err)
			}
			ended <- struct{}{}
		})
	}
	for _, r := range s.hosts {
		r.await(t, "store reachable", func() bool { return r.Cluster().Reachable })
	}
	return s
}

func (r *running) changed(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, name)
}

// mark is the number of changes so far.
func (r *running) mark() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.changes)
}

// reported says whether a change of name, or of all, came after mark.
func (r *running) reported(name string, mark int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	after := r.changes[mark:]
	return slices.Contains(after, name) || slices.Contains(after, "")
}

// times is how often a change of just name came after mark.
func (r *running) times(name string, mark int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.changes[mark:] {
		if c == name {
			n++
		}
	}
	return n
}

// await polls until cond holds.
func (r *running) await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("host %q: no %s after %s; cluster %+v", r.name, what, patience, r.Cluster())
		}
	}
}

// awaitGeneration waits until the host sees the desired state and returns that view.
func (r *running) awaitGeneration(t *testing.T, name string, generation int64) component.View {
	t.Helper()
	r.await(t, fmt.Sprintf("generation %d of %q", generation, name), func() bool {
		return r.View(name).Desired.Generation >= generation
	})
	return r.View(name)
}

// set writes desired state as the operator.
func (s *suite) set(t *testing.T, name string, d component.Desired) int64 {
	t.Helper()
	g, err := s.op.SetDesired(t.Context(), name, d)
	if err != nil {
		t.Fatalf("SetDesired(%q) = %v", name, err)
	}
	return g
}

// ready writes a ready state with the image and waits until all hosts see it.
func (s *suite) ready(t *testing.T, name, imageID string) int64 {
	t.Helper()
	g := s.set(t, name, ready(imageID))
	for _, r := range s.hosts {
		r.awaitGeneration(t, name, g)
	}
	return g
}

func (s *suite) put(t *testing.T, specs ...component.Spec) {
	t.Helper()
	if err := s.op.PutProject(t.Context(), component.Project{Components: specs}); err != nil {
		t.Fatalf("PutProject = %v", err)
	}
}

func ready(imageID string) component.Desired {
	return component.Desired{
		Status:  component.StatusReady,
		ImageID: imageID,
		Image:   component.Image{Ref: "web:1"},
		Spec:    &component.Spec{Name: "web", Repo: "web", Tag: "1", Command: []string{"serve", "--fast"}},
		By:      "tester",
	}
}

func serving(host string, generation int64) component.HostStatus {
	return component.HostStatus{
		Host: host, Generation: generation, Step: component.StepServing, ImageID: "sha256:aa",
		Containers: []component.ContainerStatus{{ID: "c1", Stage: component.Serving, Ready: true, Generation: generation}},
		At:         time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func wantNil(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s = %v, want nil", what, err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s = %v, want %v", what, err, want)
	}
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}
