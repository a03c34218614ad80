package etcdstate_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// TestFieldsOfANewerVersionAreKept lets this version do all that writes over what others wrote, in a fleet of which some
// hosts are newer.
func TestFieldsOfANewerVersionAreKept(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{})
	g := f.readyWith(t, "web", "sha256:aa", component.RolloutPolicy{Canary: 1})
	record, state := key("web", "rollout"), key("web", "state")
	fields := func(k string) map[string]any {
		t.Helper()
		var m map[string]any
		if err := json.Unmarshal(f.get(t, k), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	novel := map[string]any{"a": []any{1.0, "b"}}
	newer := func(k string, edit func(map[string]any)) { // writes as a newer version does
		t.Helper()
		m := fields(k)
		m["novel"] = novel
		edit(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		rev := f.put(t, k, string(b))
		eventually(t, "newer value", func() bool { return h.Cluster().Revision >= rev && h.View("web").RolloutRevision != 0 })
	}
	kept := func(what, k string) {
		t.Helper()
		if m := fields(k); !reflect.DeepEqual(m["novel"], novel) {
			t.Errorf("%s: field lost, there is %v", what, m)
		}
	}
	f.put(t, record, `{"generation":`+jsonOf(t, g)+`,"status":"progressing","novel":{"a":[1,"b"]}}`)
	eventually(t, "record", func() bool { return h.View("web").RolloutRevision != 0 })
	h.takeTurn(t, "web", g)
	if r := h.View("web").Rollout; len(r.Canaries) != 1 {
		t.Errorf("record after a turn was taken: %+v", r)
	}
	kept("TakeTurn", record)

	_, err := f.client.Steer(t.Context(), "p", "web", func(v component.View) (component.Rollout, error) {
		r := v.Rollout
		r.Paused = &component.Word{By: "ann"}
		return r, nil
	})
	wantNil(t, "Steer", err)
	kept("Steer", record)

	newer(record, func(m map[string]any) {
		m["paused"].(map[string]any)["until"] = "noon"
		m["canaries"] = []string{"h1", "h9"}
	})
	eventually(t, "canary", func() bool { return len(h.View("web").Rollout.Canaries) == 2 })
	v := h.View("web")
	r := v.Rollout
	r.Promoted = &component.Word{By: "bob"}
	wantNil(t, "PutRollout", h.PutRollout(t.Context(), "web", r, v))
	kept("PutRollout", record)
	if m := fields(record); m["paused"].(map[string]any)["until"] != "noon" || m["promoted"] == nil {
		t.Errorf("PutRollout: a field inside is lost, there is %v", m)
	}
	if _, _, err := f.client.Forget(t.Context(), "p", "h9"); err != nil || len(fields(record)["canaries"].([]any)) != 1 {
		t.Fatalf("Forget = %v, record %v", err, fields(record))
	}
	kept("Forget", record)

	halted := component.Rollout{Generation: g, Status: component.RolloutHalted, Host: "h1", Reason: "not ready", At: time.Now()}
	eventually(t, "record without that canary", func() bool { return len(h.View("web").Rollout.Canaries) == 1 })
	wantNil(t, "EndTurn", h.EndTurn(t.Context(), "web", status("h1", g), &halted))
	if fields(record)["status"] != "halted" {
		t.Errorf("record after a halt: %v", fields(record))
	}
	kept("EndTurn", record)

	newer(state, func(map[string]any) {})
	_, err = f.client.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusStopped})
	wantNil(t, "SetDesired", err)
	kept("SetDesired", state)

	g = f.ready(t, "web", "sha256:bb")
	eventually(t, "generation", func() bool { return h.View("web").Desired.Generation == g })
	wantNil(t, "PutRollout", h.PutRollout(t.Context(), "web", component.Rollout{Generation: g, Status: component.RolloutProgressing}, h.View("web")))
	if m := fields(record); m["novel"] != nil || m["paused"] != nil {
		t.Errorf("the record of another generation has fields of the one before: %v", m)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
