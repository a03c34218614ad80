package routes

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"
)

func table(t testing.TB, rules ...Rule[string]) *Table[string] {
	t.Helper()
	for i := range rules {
		rules[i].Name = rules[i].Value
	}
	x, err := New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func rule(value, path string, hosts ...string) Rule[string] {
	return Rule[string]{Value: value, Path: path, Hosts: hosts}
}

// shop has rules of every kind.
func shop(t testing.TB) *Table[string] {
	t.Helper()
	return table(t,
		rule("all", ""), rule("status", "/status"),
		rule("a", "/", "a.example"), rule("a-api", "/api", "a.example"), rule("a-api-v2", "/api/v2/", "a.example", "aa.example"),
		rule("wild", "", "*.example"), rule("wild-x", "/x", "*.example"),
		rule("ip", "", "192.0.2.1"),
		rule("flat", "", "*.flat.test"),
	)
}

func TestFind(t *testing.T) {
	x := shop(t)
	tests := []struct{ name, path, want string }{
		{"", "/", "all"},
		{"other.test", "/", "all"},
		{"other.test", "/status", "status"},
		{"other.test", "/status/x", "status"},
		{"other.test", "/statusx", "all"},
		{"other.test", "/Status", "all"},
		{"a.example", "/", "a"},
		{"a.example", "/status", "a"},
		{"a.example", "/api", "a-api"},
		{"a.example", "/api/", "a-api"},
		{"a.example", "/api/v2", "a-api-v2"},
		{"a.example", "/api/v2/x/y/z", "a-api-v2"},
		{"a.example", "/api/v22", "a-api"},
		{"a.example", "/x", "a"}, // its own rule for all paths comes before the wildcard's
		{"aa.example", "/api/v2/", "a-api-v2"},
		{"aa.example", "/api", "wild"}, // it has none for this path, the wildcard has
		{"aa.example", "/x/y", "wild-x"},
		{"b.example", "/", "wild"},
		{"c.b.example", "/", "all"},
		{"192.0.2.1", "/", "ip"},
		{"a.example", "*", "a"},
		{"a.example", "", "a"},
		{"a.example", "/.well-known/acme", "a"},
		{"a.example", "/api/...", "a-api"},
	}
	for _, tt := range tests {
		if got, v := x.Find(tt.name, tt.path); v != Found || got != tt.want {
			t.Errorf("find %q %q = %q, %v, want %q", tt.name, tt.path, got, v, tt.want)
		}
	}
}

func TestNobody(t *testing.T) {
	x := table(t, rule("a", "/api", "a.example"))
	for _, tt := range []struct{ name, path string }{{"a.example", "/"}, {"b.example", "/api"}, {"", "/api"}} {
		if got, v := x.Find(tt.name, tt.path); v != Nobody || got != "" {
			t.Errorf("find %q %q = %q, %v, want nobody", tt.name, tt.path, got, v)
		}
	}
	if _, v := table(t).Find("a", "/"); v != Nobody {
		t.Errorf("an empty table finds %v", v)
	}
}

func TestPathsThatCanBeReadInTwoWays(t *testing.T) {
	x := shop(t)
	tests := []struct {
		path string
		want Verdict
	}{
		{"/%61pi/x", Ambiguous},
		{"/api/%61", Found},
		{"/api%2fv2", Ambiguous},
		{"/api%2Fx", Ambiguous}, // of /api or not
		{"/api/a%2Fb", Found},
		{"/b%2Fc?", Found},
		{"//api", Ambiguous},
		{"/api//v2", Ambiguous},
		{"/b//c", Found},
		{`/api\v2`, Ambiguous},
		{"/api;x=1/v2", Ambiguous},
		{"/api/v2;x=1", Ambiguous},
		{"/b;x=1", Found},
		{"/api/../x", Ambiguous},
		{"/api/..", Ambiguous},
		{"/b/./c", Ambiguous},
		{"/b/%2e%2E/c", Ambiguous},
		{"/b/..%2fc", Ambiguous},
		{"/b/..;/c", Ambiguous},
		{`/b/..\c`, Ambiguous},
		{"/b/%5c..%5Cc", Ambiguous},
		{"/b/..c", Found},
		{"/100%", Found},
		{"/%zz", Found},
		{"/api/100%25", Found},
	}
	for _, tt := range tests {
		if _, v := x.Find("a.example", tt.path); v != tt.want {
			t.Errorf("verdict on %q = %v, want %v", tt.path, v, tt.want)
		}
		if got, v := table(t, rule("flat", "", "a.example")).Find("a.example", tt.path); v != Found || got != "flat" {
			t.Errorf("verdict on %q where the host decides = %v", tt.path, v)
		}
	}
}

func TestConflicts(t *testing.T) {
	tests := []struct {
		name  string
		rules []Rule[string]
		want  string
	}{
		{"all twice", []Rule[string]{rule("a", ""), rule("b", "/")}, "b and a both match any host, any path"},
		{"one of several hosts", []Rule[string]{rule("a", "/x", "a.example", "b.example"), rule("b", "/x/", "B.example.", "c.example")}, "b and a both match b.example, /x"},
		{"a wildcard", []Rule[string]{rule("a", "", "*.example"), rule("b", "", "*.EXAMPLE")}, "b and a both match *.example, any path"},
		{"in one rule", []Rule[string]{rule("a", "", "x", "X")}, "a and a both match x, any path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i := range tt.rules {
				tt.rules[i].Name = tt.rules[i].Value
			}
			_, err := New(tt.rules)
			var conflict *ConflictError
			if !errors.As(err, &conflict) || err.Error() != tt.want {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	table(t, rule("a", "/x", "a.example"), rule("b", "/x", "*.example"), rule("c", "/x"), rule("d", "/x/y", "a.example"))
}

func TestRefusedRules(t *testing.T) {
	for value, r := range map[string]Rule[string]{
		"does not begin with /":  rule("", "api"),
		"not in its shortest":    rule("", "/a//b"),
		"/../b\" is not in":      rule("", "/a/../b"),
		"'%' is not possible":    rule("", "/a%20b"),
		"'?' is not possible":    rule("", "/a?b"),
		"' ' is not possible":    rule("", "/a b"),
		"stands for one whole":   rule("", "", "a*.example"),
		"contains '/'":           rule("", "", "a/b"),
		"to match every name, n": rule("", "", "*"),
	} {
		r.Name = "listener"
		if _, err := New([]Rule[string]{r}); err == nil || !strings.Contains(err.Error(), value) || !strings.HasPrefix(err.Error(), "listener: ") {
			t.Errorf("rule %+v: %v, want %q", r, err, value)
		}
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	x := shop(t)
	if n := testing.AllocsPerRun(100, func() {
		x.Find("a.example", "/api/v2/x/y/z")
		x.Find("b.example", "/index.html")
		x.Find("other.test", "/some/where")
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzFind: whichever way a server reads the path of a request, it is the path of a listener that we
// would give it to.
func FuzzFind(f *testing.F) {
	for _, s := range []string{"/", "/api/v2", "/api%2fv2", "/a/../api", "//api//v2", `/api\v2`, "/%2e%2e/api", "/api;/v2", "/%", "/..;/api/", "/api/%2e"} {
		f.Add(s)
	}
	x := shop(f)
	f.Fuzz(func(t *testing.T, p string) {
		if p == "" || p[0] != '/' || strings.ContainsAny(p, "?#") {
			return
		}
		got, v := x.Find("a.example", p)
		if v != Found {
			return
		}
		ways := []string{p, path.Clean(p)}
		if u, err := url.PathUnescape(p); err == nil {
			ways = append(ways, u, path.Clean(u), path.Clean(strings.ReplaceAll(u, `\`, "/")))
		}
		for _, way := range ways {
			if strings.ContainsAny(way, "%;?#") || odd(way) {
				continue // not a path as a server has it in the end
			}
			if again, v := x.Find("a.example", way); v != Found || again != got {
				t.Errorf("%q is for %q, but read as %q for %q (%v)", p, got, way, again, v)
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	x := shop(b)
	b.ReportAllocs()
	for b.Loop() {
		x.Find("a.example", "/api/v2/products/4711")
	}
}
