package etcdstate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// entries are the generations and outcomes of a history.
func entries(t *testing.T, f *fleet) (out []string) {
	t.Helper()
	past, err := f.client.History(t.Context(), "p", "web")
	wantNil(t, "History", err)
	for _, e := range past {
		out = append(out, fmt.Sprintf("%s %s", e.Desired.ImageID, e.Outcome))
	}
	return out
}

func asked(image string) component.Desired {
	return component.Desired{Status: component.StatusReady, ImageID: image, Spec: &component.Spec{Name: "web"}, By: "ann"}
}

func TestHistoryTellsHowEachStateEnded(t *testing.T) {
	f := newFleet(t)
	if got := entries(t, f); got != nil {
		t.Errorf("history of nothing: %v", got)
	}
	record := func(g int64, s component.RolloutStatus) {
		f.put(t, key("web", "rollout"), fmt.Sprintf(`{"generation":%d,"status":%q,"reason":"why","future":1}`, g, s))
	}
	set := func(d component.Desired) int64 {
		g, err := f.client.SetDesired(t.Context(), "p", "web", d)
		wantNil(t, "SetDesired", err)
		return g
	}
	first := set(asked("a"))
	record(first, component.RolloutDone)
	record(set(asked("b")), component.RolloutHalted)
	back := asked("a")
	back.Source = first
	set(back)
	set(asked("c"))
	set(component.Desired{Status: component.StatusStopped})
	if d := cmp.Diff([]string{"c stopped", "c superseded", "a superseded", "b rolledback", "a done"}, entries(t, f)); d != "" {
		t.Errorf("history (-want +got):\n%s", d)
	}
	past, err := f.client.History(t.Context(), "p", "web")
	wantNil(t, "History", err)
	if e := past[4]; e.Generation != first || e.Rollout.Reason != "why" || e.Desired.By != "ann" || e.Desired.Spec == nil {
		t.Errorf("first entry = %+v", e)
	}
	if raw := f.get(t, fmt.Sprintf("/gantryd/projects/p/releases/web/%d", first)); !strings.Contains(string(raw), `"future":1`) {
		t.Errorf("a field of a newer version is lost: %s", raw)
	}
}

// What an older version, or a hand, has written becomes history like anything else.
func TestHistoryOfStatesByHand(t *testing.T) {
	f := newFleet(t)
	f.put(t, key("web", "state"), `{"status":"ready","imageid":"a","future":[1],"spec":{"name":"web","repo":"web"}}`)
	_, err := f.client.SetDesired(t.Context(), "p", "web", asked("b"))
	wantNil(t, "SetDesired", err)
	f.put(t, key("web", "state"), `{`)
	_, err = f.client.SetDesired(t.Context(), "p", "web", asked("c"))
	wantNil(t, "SetDesired over what does not parse", err)
	if d := cmp.Diff([]string{"c open", "a superseded"}, entries(t, f)); d != "" {
		t.Errorf("history (-want +got):\n%s", d)
	}
}

func TestHistoryKeepsTheLastFifty(t *testing.T) {
	f := newFleet(t)
	var last int64
	for i := range component.KeepReleases + 5 {
		var err error
		last, err = f.client.SetDesired(t.Context(), "p", "web", asked(fmt.Sprint(i)))
		wantNil(t, "SetDesired", err)
	}
	past, err := f.client.History(t.Context(), "p", "web")
	wantNil(t, "History", err)
	if len(past) != component.KeepReleases || past[0].Generation != last || past[len(past)-1].Desired.ImageID != "5" {
		t.Errorf("%d entries, from %d to image %s", len(past), past[0].Generation, past[len(past)-1].Desired.ImageID)
	}
}

// The same operation again, as after a lost answer, is one entry.
func TestHistoryHoldsAnOperationOnce(t *testing.T) {
	f := newFleet(t)
	d := asked("a")
	d.Operation = "op"
	for range 3 {
		_, err := f.client.SetDesired(t.Context(), "p", "web", d)
		wantNil(t, "SetDesired", err)
	}
	if got := entries(t, f); len(got) != 1 {
		t.Errorf("history = %v", got)
	}
}

// A state so large that it and its successor do not fit into one transaction is kept without its
// configuration: the update must not fail because of the past.
func TestHistoryOfLargeStates(t *testing.T) {
	f := newFleet(t)
	f.client = dial(t, etcdstate.Config{Endpoints: []string{f.member.Endpoint()}, CommandTimeout: 2 * patience}) // with the race detector, a MiB takes its time
	large := asked("a")
	large.Spec.Command = []string{strings.Repeat("x", 900<<10)}
	_, err := f.client.SetDesired(t.Context(), "p", "web", large)
	wantNil(t, "first SetDesired", err)
	large.ImageID = "b"
	_, err = f.client.SetDesired(t.Context(), "p", "web", large)
	wantNil(t, "second SetDesired", err)
	past, err := f.client.History(t.Context(), "p", "web")
	wantNil(t, "History", err)
	if len(past) != 2 || past[1].Desired.ImageID != "a" || past[1].Desired.Spec != nil {
		t.Errorf("%d entries", len(past))
	}
}

// Daemons neither list nor watch the past: it costs them nothing.
func TestDaemonsDoNotSeeThePast(t *testing.T) {
	f := newFleet(t)
	for i := range 4 {
		_, err := f.client.SetDesired(t.Context(), "p", "web", asked(fmt.Sprint(i)))
		wantNil(t, "SetDesired", err)
	}
	f.put(t, "/gantryd/projects/p/config", `{"components":[]}`)
	told := 0
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	f.put(t, "/gantryd/projects/p/releases/web/1", "{") // what does not parse there is no problem of a daemon's
	err := f.client.Watch(watching, "p", func(p etcdstate.Project) {
		told++
		if p.Problems != nil {
			t.Errorf("problems: %v", p.Problems)
		}
		if told == 1 {
			f.put(t, "/gantryd/projects/p/releases/web/2", "{")
			f.put(t, "/gantryd/projects/p/adopted", `{"nonce":"n"}`)
			return
		}
		if p.Cluster.Adoption.Nonce == "n" {
			stop()
		}
	})
	if watching.Err() == nil || err == nil {
		t.Errorf("Watch = %v", err)
	}
	if told != 2 {
		t.Errorf("told %d times, want 2", told)
	}
}

func TestHistoryIsJSON(t *testing.T) {
	f := newFleet(t)
	for _, image := range []string{"a", "b"} {
		_, err := f.client.SetDesired(t.Context(), "p", "web", asked(image))
		wantNil(t, "SetDesired", err)
	}
	past, err := f.client.History(t.Context(), "p", "web")
	wantNil(t, "History", err)
	var v struct {
		Desired component.Desired `json:"desired"`
		Outcome component.Outcome `json:"outcome"`
	}
	raw := f.get(t, fmt.Sprintf("/gantryd/projects/p/releases/web/%d", past[1].Generation))
	if err := json.Unmarshal(raw, &v); err != nil || v.Desired.ImageID != "a" || v.Outcome != component.OutcomeSuperseded {
		t.Errorf("value %s, %v", raw, err)
	}
}
