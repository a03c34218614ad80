package supervisor_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

func db() *component.Spec {
	return &component.Spec{Name: "db", Repo: "r", DefineComponentLinks: []component.LinkDefinition{{Name: "sql", Port: 5432}}}
}

func app() *component.Spec {
	s := web()
	s.RequireComponentLinks = []component.LinkRequest{{Name: "sql", Alias: "DB"}}
	return s
}

func TestComponentWaitsForItsLink(t *testing.T) {
	inWorld(t, func(w *world) {
		w.store.fault(func(s *memStore) { s.view("db").Config = db() })
		w.update("v1", app())
		w.after(time.Minute)
		if len(w.engine.running()) > 0 {
			t.Fatal("started without its link")
		}
		if st := w.published(); !strings.Contains(st.Detail, `"sql"`) {
			t.Errorf("detail = %q, want that it waits for the link", st.Detail)
		}
		w.update("v2", db())
		w.after(5 * time.Second)
		running := w.engine.running()
		if len(running) != 2 {
			t.Fatalf("running = %v, want db and web", running)
		}
		if got := w.router.target("link:sql"); got != running[0] {
			t.Errorf("link goes to %q, want %q", got, running[0])
		}
		env := w.engine.env(running[1])
		if !slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "DB_") }) {
			t.Errorf("environment = %v, want the link's variables", env)
		}
		if addr := w.store.machine("h1").Links["sql"]; !strings.HasPrefix(addr, "192.0.2.1:") {
			t.Errorf("other hosts are told %q", addr)
		}
	})
}

func TestLinkMovesToAnotherHostAndBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.store.fault(func(s *memStore) { s.view("db").Config = db() })
		remote := component.Machine{Status: "running", Components: []string{"db"}, Links: map[string]string{"sql": "192.0.2.2:20000"}}
		if err := w.store.setMachine("h2", remote); err != nil {
			t.Fatal(err)
		}
		w.update("v1", app())
		w.after(5 * time.Second)
		if got := w.router.target("link:sql"); got != "host:h2" {
			t.Fatalf("link goes to %q, want the other host", got)
		}
		w.update("v2", db())
		w.after(5 * time.Second)
		if got := w.router.target("link:sql"); got != "c2" {
			t.Errorf("link goes to %q, want the local container", got)
		}
		w.store.set(component.Desired{Status: component.StatusStopped}, "db")
		w.after(time.Minute)
		if got := w.router.target("link:sql"); got != "host:h2" {
			t.Errorf("link goes to %q, want the other host again", got)
		}
		if n := w.engine.count("start v1"); n != 1 {
			t.Errorf("web was started %d times: a link's move needs no new container", n)
		}
	})
}
