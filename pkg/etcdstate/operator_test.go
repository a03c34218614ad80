package etcdstate_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/faulttest"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func TestSetDesiredKeepsUnknownFields(t *testing.T) {
	f := newFleet(t)
	f.put(t, key("web", "state"), `{"future":{"a":[1,2]},"status":"ready","imageid":"sha256:aa","spec":{"name":"web","repo":"web"}}`)
	_, err := f.client.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusStopped, By: "x", Operation: "op1"})
	wantNil(t, "SetDesired", err)
	var got map[string]any
	wantNil(t, "parse", json.Unmarshal(f.get(t, key("web", "state")), &got))
	delete(got, "at")
	want := map[string]any{
		"future": map[string]any{"a": []any{1.0, 2.0}}, "status": "stopped", "imageid": "sha256:aa",
		"spec": map[string]any{"name": "web", "repo": "web"}, "by": "x", "operation": "op1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("state (-want +got):\n%s", d)
	}
}

func TestSetDesiredIfGeneration(t *testing.T) {
	f := newFleet(t)
	set := func(d component.Desired, g int64) (int64, error) {
		d.Status = component.StatusReady
		return f.client.SetDesired(t.Context(), "p", "web", d, etcdstate.IfGeneration(g))
	}
	g, err := set(component.Desired{}, 0)
	wantNil(t, "first write", err)
	_, err = set(component.Desired{}, 0)
	wantErr(t, "write for no state", err, component.ErrChanged)
	_, err = set(component.Desired{}, g-1)
	wantErr(t, "write for an older generation", err, component.ErrChanged)
	next, err := set(component.Desired{Operation: "mine"}, g)
	wantNil(t, "write for the newest generation", err)
	again, err := set(component.Desired{Operation: "mine"}, g)
	wantNil(t, "the same operation again", err)
	if again != next {
		t.Errorf("generation of the same operation = %d, then %d", next, again)
	}
}

func TestSetDesiredConcurrently(t *testing.T) {
	f := newFleet(t)
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				g, err := f.client.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusReady})
				if err != nil {
					t.Errorf("SetDesired = %v", err)
					return
				}
				mu.Lock()
				if seen[g] {
					t.Errorf("generation %d twice", g)
				}
				seen[g] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	first, err := f.client.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusStopped})
	wantNil(t, "SetDesired", err)
	results := make(chan error, 2)
	for range 2 { // one winner of two who saw the same
		wg.Go(func() {
			_, err := f.client.SetDesired(t.Context(), "p", "web", component.Desired{Status: component.StatusReady}, etcdstate.IfGeneration(first))
			results <- err
		})
	}
	wg.Wait()
	if a, b := <-results, <-results; (a == nil) == (b == nil) {
		t.Errorf("results of two conditional writes: %v, %v", a, b)
	}
}

func TestRefusedInput(t *testing.T) {
	f := newFleet(t)
	for _, name := range []string{"", "a/b", "a\x00", strings.Repeat("a", 300)} {
		if _, err := f.client.SetDesired(t.Context(), "p", name, component.Desired{Status: component.StatusReady}); err == nil {
			t.Errorf("component name %q was taken", name)
		}
		if err := f.client.PutConfig(t.Context(), name, []byte(`{}`)); err == nil {
			t.Errorf("project name %q was taken", name)
		}
		if _, err := etcdstate.NewStore(f.client, etcdstate.StoreOptions{Project: "p", Host: name}); err == nil {
			t.Errorf("host name %q was taken", name)
		}
	}
	if _, err := f.client.SetDesired(t.Context(), "p", "web", component.Desired{Status: "updating"}); err == nil {
		t.Error("status updating was taken")
	}
	for _, config := range []string{"", "nonsense", `[]`, `{"components":[{"name":"a/b"}]}`, `{"components":[{"name":"web","ports":1}]}`, `{"x":"` + strings.Repeat("x", 1<<20) + `"}`} {
		if err := f.client.PutConfig(t.Context(), "p", []byte(config)); err == nil {
			t.Errorf("config %.40q was taken", config)
		}
	}
	if _, err := etcdstate.NewStore(f.client, etcdstate.StoreOptions{Project: "p", Host: "h", TTL: 1500 * time.Millisecond}); err == nil {
		t.Error("TTL 1.5 s was taken")
	}
	if b, ok, err := f.client.Config(t.Context(), "p"); b != nil || ok || err != nil {
		t.Errorf("Config = %s, %v, %v; want none", b, ok, err)
	}
}

func TestProject(t *testing.T) {
	f := newFleet(t)
	config := []byte(`{"components": [{"name":"web","repo":"web"}, {"name":"db","repo":"postgres","drain":{"timeout":"5s"}}]}`)
	wantNil(t, "PutConfig", f.client.PutConfig(t.Context(), "p", config))
	g := f.ready(t, "web", "sha256:aa")
	h := f.host(t, "h1", etcdstate.StoreOptions{})
	h.takeTurn(t, "web", g)
	wantNil(t, "Publish", h.Publish(t.Context(), "web", status("h1", 1)))
	f.put(t, key("db", "state"), "{")
	p, err := f.client.Project(t.Context(), "p")
	wantNil(t, "Project", err)
	if string(p.ConfigJSON) != string(config) {
		t.Errorf("ConfigJSON = %s", p.ConfigJSON)
	}
	if len(p.Config.Components) != 2 || p.Config.Components[0].Name != "web" || p.Config.Components[1].Name != "db" {
		t.Errorf("Config = %+v, want both components in order", p.Config)
	}
	web := p.Components["web"]
	if web.Desired.Generation != g || web.Hosts["h1"].Generation != 1 || web.Rollout.Generation != g || len(web.Turn.Holders) != 1 {
		t.Errorf("web = %+v", web)
	}
	if p.Machines["h1"].Status != "running" {
		t.Errorf("Machines = %+v", p.Machines)
	}
	if p.Problems == nil || !strings.Contains(p.Problems.Error(), key("db", "state")) || p.Components["db"].DesiredErr == nil {
		t.Errorf("Problems = %v, DesiredErr = %v", p.Problems, p.Components["db"].DesiredErr)
	}
	if c := h.Cluster(); !p.Cluster.Reachable || p.Cluster.ID != c.ID {
		t.Errorf("Cluster = %+v, the host sees %+v", p.Cluster, c)
	}
	if b, ok, err := f.client.Config(t.Context(), "p"); string(b) != string(config) || !ok || err != nil {
		t.Errorf("Config = %s, %v, %v", b, ok, err)
	}
}

func TestWatchProject(t *testing.T) {
	f := newFleet(t)
	p := faulttest.Start(t, f.member.Endpoint())
	c := dial(t, etcdstate.Config{Endpoints: []string{p.Addr()}, CommandTimeout: 5 * time.Second})
	seen := make(chan etcdstate.Project, 100)
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	ctx := t.Context()
	wg.Go(func() { ended <- c.Watch(ctx, "p", func(p etcdstate.Project) { seen <- p }) })
	await := func(what string, cond func(etcdstate.Project) bool) {
		t.Helper()
		late := time.After(patience)
		for {
			select {
			case p := <-seen:
				if cond(p) {
					return
				}
			case err := <-ended:
				t.Fatalf("Watch = %v", err)
			case <-late:
				t.Fatalf("Watch never told %s", what)
			}
		}
	}
	await("the start", func(p etcdstate.Project) bool { return p.Cluster.Reachable && len(p.Components) == 0 })
	g := f.ready(t, "web", "sha256:aa")
	await("the state", func(p etcdstate.Project) bool { return p.Components["web"].Desired.Generation == g })
	p.Set(faulttest.Faults{Deny: true})
	p.Reset()
	await("the loss", func(p etcdstate.Project) bool {
		return !p.Cluster.Reachable && p.Components["web"].Desired.Generation == g
	})
	g = f.ready(t, "web", "sha256:bb")
	p.Set(faulttest.Faults{})
	await("the return", func(p etcdstate.Project) bool {
		return p.Cluster.Reachable && p.Components["web"].Desired.Generation == g
	})
}

func TestUnreachableCommandsSaySo(t *testing.T) {
	c := dial(t, etcdstate.Config{Endpoints: []string{"127.0.0.1:1"}, CommandTimeout: time.Second})
	user := dial(t, etcdstate.Config{Endpoints: []string{"127.0.0.1:1"}, CommandTimeout: time.Second, User: "u", Password: "p", DialTimeout: time.Second})
	start := time.Now()
	_, err := c.Project(t.Context(), "p")
	wantErr(t, "Project", err, component.ErrUnreachable)
	if !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("error %q does not say where", err)
	}
	_, err = user.Project(t.Context(), "p")
	wantErr(t, "Project with a user", err, component.ErrUnreachable)
	wantErr(t, "Watch", c.Watch(t.Context(), "p", func(etcdstate.Project) {}), component.ErrUnreachable)
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("three commands of 1 s took %s", took)
	}
	wantNil(t, "Close", c.Close())
	if _, err := c.Project(t.Context(), "p"); err == nil {
		t.Error("a closed client answers")
	}
}
