package component

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInLinkOrder(t *testing.T) {
	spec := func(name, exports, needs string) Spec {
		s := Spec{Name: name}
		for l := range strings.FieldsSeq(exports) {
			s.DefineComponentLinks = append(s.DefineComponentLinks, LinkDefinition{Name: l, Port: 80})
		}
		for l := range strings.FieldsSeq(needs) {
			s.RequireComponentLinks = append(s.RequireComponentLinks, LinkRequest{Name: l, Alias: l})
		}
		return s
	}
	tests := []struct {
		name string
		in   []Spec
		want string
		bad  string
	}{
		{"as given without links", []Spec{spec("b", "", ""), spec("a", "", "")}, "b a", ""},
		{"exporters first", []Spec{spec("web", "", "api"), spec("api", "api", "db"), spec("db", "db", "")}, "db api web", ""},
		{"links from elsewhere do not count", []Spec{spec("web", "", "api"), spec("worker", "", "")}, "web worker", ""},
		{"its own link", []Spec{spec("web", "x", "x")}, "web", ""},
		{"a cycle", []Spec{spec("c", "", ""), spec("a", "x", "y"), spec("b", "y", "x")}, "", "cycle among the components a, b"},
	}
	for _, tt := range tests {
		got, err := InLinkOrder(tt.in)
		if (err != nil) != (tt.bad != "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.bad)
		}
		if d := cmp.Diff(tt.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}
