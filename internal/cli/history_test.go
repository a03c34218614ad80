package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
)

// asks writes a state of web as update does, and how its rollout ended, if it has.
func (f *fleet) asks(image string, ended component.RolloutStatus) int64 {
	f.t.Helper()
	f.gantryd("", "stop", "shop", "-c", "web") // what was there becomes history; the put below takes the stop's place
	f.put("components/web/state", component.Desired{
		Status: component.StatusReady, ImageID: image, Image: component.Image{Ref: "shop/web:" + image}, By: "ann@build", Command: "update",
		Operation: image + fmt.Sprint(ended), Spec: &component.Spec{Name: "web", Repo: "shop/web", Tag: image},
	})
	g := f.generation("web")
	if ended != "" {
		f.put("components/web/rollout", component.Rollout{Generation: g, Status: ended, Reason: "host h2: not ready"})
	}
	return g
}

func TestHistoryDiffAndRollback(t *testing.T) {
	f := newFleet(t)
	first := f.asks("v1", component.RolloutDone)
	second := f.asks("v2", component.RolloutHalted)
	o := f.gantryd("", "history", "shop", "-c", "web")
	for _, want := range []string{"done", "halted", "update", "ann@build", "host h2: not ready", fmt.Sprint(first), fmt.Sprint(second)} {
		if o.code != exitOK || !strings.Contains(o.out, want) {
			t.Errorf("history = %+v, without %q", o, want)
		}
	}

	diff := "web: changed\n- image: shop/web:v1 (v1)\n+ image: shop/web:v2 (v2)\n- tag: v1\n+ tag: v2\n"
	for _, args := range [][]string{
		{"diff", "shop", "-c", "web", fmt.Sprint(first)},
		{"diff", "shop", "-c", "web", fmt.Sprint(first), fmt.Sprint(second)},
		{"diff", "shop", "-c=web", fmt.Sprint(first), fmt.Sprint(second)},
	} {
		if o := f.gantryd("", args...); o.code != exitOK || o.out != diff {
			t.Errorf("%v = %+v, want\n%s", args, o, diff)
		}
	}

	o = f.gantryd("", "rollback", "shop", "-c", "web", "--reason", "too slow")
	if o.code != exitOK || !strings.Contains(o.out, fmt.Sprintf("to generation %d\nComponent web -> v1\n", first)) {
		t.Fatalf("rollback = %+v", o)
	}
	var h struct {
		Items []api.Release `json:"items"`
	}
	o = f.gantryd("", "history", "shop", "-c", "web", "-o", "json")
	if err := json.Unmarshal([]byte(o.out), &h); err != nil {
		t.Fatal(err)
	}
	now, before := h.Items[0], h.Items[1]
	if now.Source != first || now.ImageID != "v1" || now.Reason != "too slow" || now.Outcome != component.OutcomeOpen || now.From == "" || len(now.Changes) != 2 {
		t.Errorf("newest entry = %+v", now)
	}
	if before.Outcome != component.OutcomeRolledBack || before.Rollout.Reason != "host h2: not ready" {
		t.Errorf("entry before = %+v", before)
	}

	// The release that was brought back is the same as the one before: there is nothing else to go to.
	o = f.gantryd("", "rollback", "shop", "-c", "web")
	if o.code != exitRefused || !strings.Contains(o.err, "there is no release of web to go back to") {
		t.Errorf("second rollback = %+v", o)
	}
	if o := f.gantryd("", "rollback", "shop", "-c", "web", "--to", fmt.Sprint(second)); o.code != exitOK {
		t.Errorf("rollback to a release by name = %+v", o)
	}
}

func TestDiffWithFile(t *testing.T) {
	f := newFleet(t)
	file := `{"components": [{"name": "web", "repo": "shop/web", "tag": "v2", "ports": [{"external": 80, "container": 8080}]},
	  {"name": "worker", "repo": "shop/worker"}, {"name": "new", "repo": "shop/new"}]}`
	o := f.gantryd(file, "diff", "shop", "-")
	want := "web: changed\n- tag: v1\n+ tag: v2\nworker: same\nnew: added\n+ name: new\n+ repo: shop/new\ndb: removed\n"
	if o.code != exitOK || o.out != want {
		t.Errorf("diff = %+v, want\n%s", o, want)
	}
}

func TestHistoryMistakes(t *testing.T) {
	f := newFleet(t)
	g := fmt.Sprint(f.asks("v1", component.RolloutDone))
	tests := []struct {
		name string
		args []string
		code int
		err  string
	}{
		{"no component", []string{"history", "shop"}, exitUsage, "name one component with -c"},
		{"two components", []string{"rollback", "shop", "-c", "web", "db"}, exitUsage, "name one component with -c"},
		{"unknown project", []string{"history", "nope", "-c", "web"}, exitNotFound, "Unknown project nope"},
		{"unknown component", []string{"history", "shop", "-c", "nope"}, exitNotFound, "Unknown component named nope"},
		{"nothing was asked for", []string{"history", "shop", "-c", "db"}, exitNotFound, "component db has no history"},
		{"nothing to go back to", []string{"rollback", "shop", "-c", "web"}, exitRefused, "there is no release of web to go back to"},
		{"back to what is there", []string{"rollback", "shop", "-c", "web", "--to", g}, exitRefused, "is what is asked for now"},
		{"unknown generation", []string{"rollback", "shop", "-c", "web", "--to", "1"}, exitNotFound, "has no generation 1 in its history"},
		{"no number", []string{"diff", "shop", "-c=web", "x"}, exitUsage, `"x" is not a generation`},
		{"nothing to compare", []string{"diff", "shop"}, exitUsage, "name a file, or a component with -c and its generations"},
		{"no generation", []string{"diff", "shop", "-c", "web"}, exitUsage, "name one generation, or two"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if o := f.gantryd("", tt.args...); o.code != tt.code || !strings.Contains(o.err, tt.err) {
				t.Errorf("gantryd %v = %+v, want code %d and %q", tt.args, o, tt.code, tt.err)
			}
		})
	}
}
