package engine

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
)

// counting is an Engine without containers that counts lists; its event stream is open until ended.
func counting(t *testing.T, ended <-chan struct{}) (e *Engine, lists *atomic.Int32) {
	t.Helper()
	lists = new(atomic.Int32)
	e = newEngine(t, "p", fakeEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		switch {
		case strings.HasSuffix(r.URL.Path, "/containers/json"):
			lists.Add(1)
			fmt.Fprint(w, "[]")
		case strings.HasSuffix(r.URL.Path, "/events"):
			w.(http.Flusher).Flush()
			select {
			case <-ended:
			case <-r.Context().Done():
			}
		default:
			fmt.Fprint(w, "{}")
		}
	})))
	e.recent.believe = time.Hour // nothing is asked for again because the machine was busy
	return e, lists
}

func listTimes(t *testing.T, e *Engine, n int) {
	t.Helper()
	for range n {
		if _, err := e.Containers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListsAreRepeatedOnlyWhileEventsComeIn(t *testing.T) {
	ended := make(chan struct{})
	e, lists := counting(t, ended)
	listTimes(t, e, 3)
	if n := lists.Load(); n != 3 {
		t.Fatalf("%d lists without an event stream, want each of 3 to be asked for", n)
	}
	names := run(t, e)
	expect(t, names, "", soon)
	listTimes(t, e, 3)
	if n := lists.Load() - 3; n != 1 {
		t.Errorf("%d lists in a moment, want 1 for all", n)
	}
	e.recent.changed()
	listTimes(t, e, 2)
	if n := lists.Load() - 4; n != 1 {
		t.Errorf("%d lists after a change, want a new one", n)
	}
	close(ended)
	eventually(t, soon, func() string {
		before := lists.Load()
		listTimes(t, e, 2)
		if lists.Load()-before != 2 {
			return "a list is repeated though no events come in"
		}
		return ""
	})
}

// A list that was asked for before a change is not given after it, however late its answer comes.
func TestListFromBeforeAChangeIsNotKept(t *testing.T) {
	r := &recent{believe: believeFor}
	r.watch(true)
	_, changes, _ := r.containers()
	r.changed()
	r.keep([]component.EngineContainer{{ID: "old"}}, time.Now(), changes)
	if list, _, ok := r.containers(); ok {
		t.Errorf("containers() = %v after a change, want none", list)
	}
	_, changes, _ = r.containers()
	r.keep([]component.EngineContainer{{ID: "aged"}}, time.Now().Add(-2*believeFor), changes)
	if list, _, ok := r.containers(); ok {
		t.Errorf("containers() = %v after %v, want none", list, 2*believeFor)
	}
}

// With the event stream open, everything that is done through the Engine is in the next list.
func TestListsShowOwnChangesAtOnce(t *testing.T) {
	e := realEngine(t)
	e.recent.believe = time.Hour // what is new in a list is not there because the one before was too old
	names := run(t, e)
	expect(t, names, "", soon)
	drain(names)
	states := func(want ...component.RunState) {
		t.Helper()
		cs, err := e.Containers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(cs) != len(want) {
			t.Fatalf("%d containers, want %d", len(cs), len(want))
		}
		for i, c := range cs {
			if c.State != want[i] {
				t.Errorf("container %d is %v, want %v", i, c.State, want[i])
			}
		}
	}
	states()
	id := start(t, e, appRequest(t, nil))
	states(component.RunRunning)
	if err := e.Kill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func() string { // the process ends a little after the signal
		cs, err := e.Containers(t.Context())
		if err != nil || len(cs) != 1 || cs[0].State == component.RunRunning {
			return fmt.Sprintf("%v, %v", cs, err)
		}
		return ""
	})
	if err := e.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	states()
}

// What somebody else does to a container is in the list that its event asks for.
func TestListsShowForeignChangesWithTheirEvent(t *testing.T) {
	e := realEngine(t)
	e.recent.believe = time.Hour // only the event can end the belief
	names := run(t, e)
	expect(t, names, "", soon)
	r := appRequest(t, nil)
	id := start(t, e, r)
	expect(t, names, r.Component, soon)
	drain(names)
	find(t, e, id)
	if err := dockertest.Engine(t).ContainerKill(t.Context(), id, "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func() string {
		if c := find(t, e, id); c.State == component.RunRunning {
			return "still listed as running"
		}
		return ""
	})
}
