package etcdstate_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// TestValuesOfOthers writes what other tools, other versions and mistakes leave behind.
func TestValuesOfOthers(t *testing.T) {
	tests := []struct {
		name    string
		state   string
		wantErr string // in View.DesiredErr
		want    component.Status
	}{
		{"by hand", `{"status":"ready","imageid":"sha256:aa"}`, "", component.StatusReady},
		{"other order and white space", "\n{ \"imageid\" :\t\"sha256:aa\",\n\"status\":\"stopped\" }\n", "", component.StatusStopped},
		{"unknown fields", `{"status":"killed","new":{"a":1}}`, "", component.StatusKilled},
		{"status of the original", `{"status":"updating","machine":"m1"}`, `status "updating"`, ""},
		{"not JSON", `ready`, "invalid character", ""},
		{"cut short", `{"status":"ready"`, "unexpected end", ""},
		{"byte order mark", "\xef\xbb\xbf{}", "invalid character", ""},
		{"another type", `[1,2,3]`, "cannot unmarshal", ""},
		{"nothing", ``, "unexpected end", ""},
		{"number too big", `{"status":"ready","spec":{"readyTimeout":1e99}}`, "cannot unmarshal", ""},
		{"deep", strings.Repeat("[", 20000), "exceeded max depth", ""},
		{"huge", `{"status":"ready","reason":"` + strings.Repeat("x", 1<<20) + `"}`, "bytes are more than", ""},
	}
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{})
	f.put(t, key("db", "state"), `{"status":"ready","imageid":"sha256:bb"}`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.put(t, key("web", "state"), `{"status":"ready","imageid":"sha256:00","by":"before"}`)
			eventually(t, "good state", func() bool { return h.View("web").Desired.By == "before" })
			rev := f.put(t, key("web", "state"), tt.state)
			eventually(t, "state", func() bool { return h.View("web").Desired.By == "" })
			v := h.View("web")
			if tt.wantErr != "" {
				if v.DesiredErr == nil || !strings.Contains(v.DesiredErr.Error(), tt.wantErr) || !strings.Contains(v.DesiredErr.Error(), key("web", "state")) {
					t.Errorf("DesiredErr = %v, want %q and the key", v.DesiredErr, tt.wantErr)
				}
				if !reflect.DeepEqual(v.Desired, component.Desired{}) {
					t.Errorf("Desired = %+v beside an error", v.Desired)
				}
			} else if v.DesiredErr != nil || v.Desired.Status != tt.want || v.Desired.Generation != rev {
				t.Errorf("Desired = %+v, %v; want %s of generation %d", v.Desired, v.DesiredErr, tt.want, rev)
			}
			if d := h.View("db").Desired; d.Status != component.StatusReady {
				t.Errorf("another component has %+v", d)
			}
		})
	}
}

func TestOtherKeysThatDoNotParse(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{})
	g := f.ready(t, "web", "sha256:aa")
	for _, k := range []string{
		key("web", "rollout"), key("web", "hosts/h9"), key("web", "turns/7"), key("web", "turns/x"), key("web", "what/is/this"), key("web", ""),
		"/gantryd/projects/p/adopted", machineKey("h9"), "/gantryd/projects/p/components/", "/gantryd/projects/p/",
	} {
		f.put(t, k, "\xff not JSON")
	}
	next := f.ready(t, "db", "sha256:aa")
	eventually(t, "everything before", func() bool { return h.View("db").Desired.Generation == next })
	v := h.View("web")
	if v.Desired.Generation != g || v.RolloutRevision == 0 || v.Rollout.Generation != 0 || len(v.Hosts) != 0 || len(v.Machines) != 1 {
		t.Errorf("view = %+v", v)
	}
	if len(v.Turn.Holders) != 1 || v.Turn.Holders[0] != "unknown" {
		t.Errorf("Holders = %v, want an unknown one", v.Turn.Holders)
	}
	wantErr(t, "TakeTurn", h.TakeTurn(t.Context(), "web", 1, v), component.ErrTurnTaken)
	wantNil(t, "TakeTurn of two slots", h.TakeTurn(t.Context(), "web", 2, v)) // the broken record is replaced
	if r := h.View("web").Rollout; r.Generation != g {
		t.Errorf("Rollout = %+v", r)
	}
}

func TestConfigThatDoesNotParse(t *testing.T) {
	f := newFleet(t)
	h := f.host(t, "h1", etcdstate.StoreOptions{})
	const config = "/gantryd/projects/p/config"
	f.put(t, config, `{"components":[{"name":"web","repo":"web"},{"name":"db","repo":"db"}]}`)
	f.put(t, key("new", "state"), `{"status":"ready","imageid":"sha256:aa"}`)
	eventually(t, "config", func() bool { return len(h.Names()) == 3 })
	f.put(t, config, `{"components":[{"name":"web","repo":"web","tag":"2"},{"name":"db","repo":7},{"name":"new","ports":"x"}]}`)
	eventually(t, "newer config", func() bool {
		c := h.View("web").Config
		return c != nil && c.Tag == "2"
	})
	if c := h.View("db").Config; c == nil || c.Repo != "db" {
		t.Errorf("Config of a component that does not parse = %+v, want the last good one", c)
	}
	if v := h.View("new"); v.DesiredErr == nil || !strings.Contains(v.DesiredErr.Error(), config) || !strings.Contains(v.DesiredErr.Error(), `"new"`) {
		t.Errorf("DesiredErr of a state without a spec anywhere = %v", v.DesiredErr)
	}
	f.put(t, config, `{`)
	last := f.ready(t, "last", "sha256:aa")
	eventually(t, "everything before", func() bool { return h.View("last").Desired.Generation == last })
	if c := h.View("web").Config; c == nil || c.Tag != "2" {
		t.Errorf("Config after a broken one = %+v, want the last good one", c)
	}
	f.put(t, config, `{"components":[]}`)
	eventually(t, "good config", func() bool { return h.View("web").Config == nil && h.View("new").DesiredErr == nil })
}

// TestReaction measures the time from an operator's write to the report of the change.
func TestReaction(t *testing.T) {
	f := newFleet(t)
	o := etcdstate.StoreOptions{Project: "p", Host: "h1"}
	s := newStore(t, dial(t, etcdstate.Config{Endpoints: []string{f.member.Endpoint()}}), o)
	reports := make(chan time.Time, 1000)
	h := &host{Store: s, name: "h1", changes: map[string]int{}}
	ctx := t.Context()
	ended := make(chan error, 1)
	go func() {
		ended <- s.Run(ctx, func(name string) {
			if name == "web" {
				reports <- time.Now()
			}
		})
	}()
	h.awaitReachable(t, true)
	const n = 200
	var puts, fromStart, afterReturn []time.Duration
	for range n {
		start := time.Now()
		f.put(t, key("web", "state"), `{"status":"ready"}`)
		returned := time.Now()
		at := <-reports
		puts, fromStart, afterReturn = append(puts, returned.Sub(start)), append(fromStart, at.Sub(start)), append(afterReturn, at.Sub(returned))
	}
	t.Logf("put to changed(): median %s, p99 %s; after the put returned: median %s",
		quantile(fromStart, 50), quantile(fromStart, 99), quantile(afterReturn, 50))
	put := quantile(puts, 50)
	if m := quantile(fromStart, 50); m > max(250*time.Millisecond, 5*put) { // etcd itself may be slow
		t.Errorf("median reaction %s, a put takes %s", m, put)
	}
}
