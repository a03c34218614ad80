package etcdstate_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// together asks for an image of two components as one release.
func together(t *testing.T, f *fleet, image, operation string) int64 {
	t.Helper()
	d := asked(image)
	d.Operation, d.Together = operation, []string{"db", "web"}
	g, err := f.client.SetTogether(t.Context(), "p", []etcdstate.Write{{Component: "db", Desired: d}, {Component: "web", Desired: d}})
	wantNil(t, "SetTogether", err)
	return g
}

func TestSeveralStatesAreOneWrite(t *testing.T) {
	f := newFleet(t)
	g := together(t, f, "a", "first")
	p, err := f.client.Project(t.Context(), "p")
	wantNil(t, "Project", err)
	for _, name := range []string{"db", "web"} {
		if d := p.Components[name].Desired; d.Generation != g || d.ImageID != "a" {
			t.Errorf("%s = %+v, want generation %d", name, d, g)
		}
	}
	if again := together(t, f, "a", "first"); again != g {
		t.Errorf("generation %d after the same operation, want %d", again, g)
	}
	writes := make([]etcdstate.Write, etcdstate.MaxTogether+1)
	for i := range writes {
		writes[i] = etcdstate.Write{Component: fmt.Sprint("c", i), Desired: asked("a")}
	}
	if _, err := f.client.SetTogether(t.Context(), "p", writes); err == nil {
		t.Error("more than a transaction holds was written")
	}
	_, err = f.client.SetTogether(t.Context(), "p", writes[1:])
	wantNil(t, "SetTogether of as many as can be", err)
	_, err = f.client.SetTogether(t.Context(), "p", writes[1:])
	wantNil(t, "SetTogether of as many that have a past", err)
}

// pasts are the images and outcomes of a component, the newest first.
func pasts(t *testing.T, f *fleet, name string) (out []string) {
	t.Helper()
	past, err := f.client.History(t.Context(), "p", name)
	wantNil(t, "History", err)
	for _, e := range past {
		out = append(out, fmt.Sprintf("%s %s", e.Desired.ImageID, e.Outcome))
	}
	return out
}

func TestSeveralGoBackInOneWrite(t *testing.T) {
	tests := []struct {
		name    string
		between func(f *fleet)
		db, web []string
		same    bool
	}{
		{"both", func(*fleet) {}, []string{"a open", "b rolledback", "a done"}, []string{"a open", "b rolledback", "a done"}, true},
		{"one has moved on", func(f *fleet) {
			_, err := f.client.SetDesired(t.Context(), "p", "db", asked("c"))
			wantNil(t, "SetDesired", err)
		}, []string{"c open", "b done", "a done"}, []string{"a open", "b rolledback", "a done"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t)
			s := f.host(t, "h1", etcdstate.StoreOptions{})
			record := func(name string, g int64, st component.RolloutStatus) {
				f.put(t, key(name, "rollout"), fmt.Sprintf(`{"generation":%d,"status":%q}`, g, st))
			}
			g := together(t, f, "a", "first")
			record("db", g, component.RolloutDone)
			record("web", g, component.RolloutDone)
			g = together(t, f, "b", "second")
			record("db", g, component.RolloutDone)
			record("web", g, component.RolloutHalted)
			tt.between(f)
			eventually(t, "the host sees the halt", func() bool {
				v := s.View("web")
				return v.Rollout.Status == component.RolloutHalted && v.Rollout.Generation == g
			})
			by := component.Desired{By: "gantryd@h1", Operation: "back", Automatic: true}
			at := s.View("web")
			wantNil(t, "Rollback", s.Rollback(t.Context(), "web", by, at))
			wantNil(t, "Rollback again", s.Rollback(t.Context(), "web", by, at))
			if d := cmp.Diff(tt.db, pasts(t, f, "db")); d != "" {
				t.Errorf("db (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.web, pasts(t, f, "web")); d != "" {
				t.Errorf("web (-want +got):\n%s", d)
			}
			p, err := f.client.Project(t.Context(), "p")
			wantNil(t, "Project", err)
			if same := p.Components["db"].Desired.Generation == p.Components["web"].Desired.Generation; same != tt.same {
				t.Errorf("one write = %t, want %t", same, tt.same)
			}
		})
	}
}
