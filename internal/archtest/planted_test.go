package archtest

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// plant is a tree of these files: path and content by turns.
func plant(pairs ...string) fs.FS {
	m := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return m
}

// importing is a Go file of package p that imports the paths.
func importing(paths ...string) string {
	src := "package p\n"
	for _, p := range paths {
		src += fmt.Sprintf("import _ %q\n", p)
	}
	return src
}

// long is a Go file with a function of n lines.
func long(name string, n int) string {
	return "package p\nfunc " + name + "() {\n" + strings.Repeat("_ = 1\n", n-2) + "}\n"
}

// TestRulesFire plants violations next to what is allowed. Want is how each thing said begins.
func TestRulesFire(t *testing.T) {
	tests := []struct {
		rule  string
		files fs.FS
		want  []string
	}{
		{
			rule: "documents name tests that exist",
			files: plant(
				"docs/a.md", "`TestThere` and `TestGone`, TestNotNamed, `Tests` and `test`",
				"pkg/a/a_test.go", "package a\nfunc TestThere() {}\n",
				"pkg/a/a.go", "package a\nfunc TestGone() {}\n",
			),
			want: []string{"docs/a.md names TestGone, "},
		},
		{
			rule: "libraries have owners",
			files: plant(
				"pkg/etcdstate/a.go", importing("go.etcd.io/etcd/client/v3"),
				"internal/etcdtest/a.go", importing("go.etcd.io/etcd/server/v3/embed", "go.uber.org/zap"),
				"pkg/engine/auth/a.go", importing("github.com/docker/docker/client", "github.com/docker/cli/cli/config"),
				"internal/cli/a.go", importing("github.com/spf13/cobra"),
				"internal/app/a.go", importing("go.etcd.io/etcd/client/v3", "github.com/docker/docker/client"),
				"pkg/enginex/a.go", importing("github.com/docker/docker/client"),
				"cmd/gantryd/main.go", importing("github.com/spf13/cobra"),
				"pkg/config/a_test.go", importing("github.com/google/go-containerregistry/pkg/registry"),
				"pkg/supervisor/a_test.go", importing("go.etcd.io/etcd/client/v3"),
			),
			want: []string{
				"cmd/gantryd/main.go imports github.com/spf13/cobra: ",
				"internal/app/a.go imports go.etcd.io/etcd/client/v3: ",
				"internal/app/a.go imports github.com/docker/docker/client: ",
				"pkg/config/a_test.go imports github.com/google/go-containerregistry/pkg/registry: ",
				"pkg/enginex/a.go imports github.com/docker/docker/client: ",
				"pkg/supervisor/a_test.go imports go.etcd.io/etcd/client/v3: ",
			},
		},
		{
			rule: "libraries have reasons",
			files: plant(
				"docs/design/0001-a.md", "| `go.etcd.io/etcd` | the store |\n",
				"docs/design/0002-b.md", "`golang.org/x/sync` and github.com/unquoted/a\n",
				"pkg/p/a.go", importing("time", module+"pkg/q", "go.etcd.io/etcd/client/v3", "golang.org/x/sync/errgroup"),
				"pkg/p/b.go", importing("github.com/unquoted/a", "golang.org/x/syncmap"),
				"pkg/p/a_test.go", importing("github.com/stretchr/testify/require"),
			),
			want: []string{
				"pkg/p/a_test.go imports github.com/stretchr/testify/require: ",
				"pkg/p/b.go imports github.com/unquoted/a: ",
				"pkg/p/b.go imports golang.org/x/syncmap: ",
			},
		},
		{
			rule: "test libraries do not ship",
			files: plant(
				"pkg/config/a.go", importing("github.com/santhosh-tekuri/jsonschema/v6"),
				"pkg/engine/a.go", importing("testing"),
				"pkg/engine/b.go", importing("github.com/google/go-containerregistry/pkg/v1"),
				"pkg/engine/a_test.go", importing("testing", "go.uber.org/goleak"),
				"internal/dockertest/a.go", importing("testing", "github.com/google/go-cmp/cmp"),
			),
			want: []string{
				"pkg/config/a.go imports github.com/santhosh-tekuri/jsonschema/v6: ",
				"pkg/engine/a.go imports testing: ",
				"pkg/engine/b.go imports github.com/google/go-containerregistry/pkg/v1: ",
			},
		},
		{
			rule: "dependencies point down",
			files: plant(
				"pkg/component/a.go", importing("time", "golang.org/x/sync/errgroup"),
				"pkg/component/b.go", importing(module+"pkg/config"),
				"pkg/component/a_test.go", importing("github.com/google/go-cmp/cmp"),
				"pkg/proxy/a.go", importing("net", "golang.org/x/sys/unix", module+"pkg/proxy/sniff"),
				"pkg/proxy/b.go", importing(module+"pkg/component", "google.golang.org/grpc"),
				"pkg/rollout/a.go", importing(module+"pkg/component", module+"pkg/supervisor"),
				"pkg/supervisor/a.go", importing(module+"pkg/rollout", module+"internal/workqueue", module+"pkg/engine"),
				"pkg/etcdstate/a.go", importing("go.etcd.io/etcd/client/v3", module+"pkg/component", module+"pkg/supervisor"),
				"pkg/etcdstate/statetest/a.go", importing(module+"pkg/supervisor"),
				"internal/workqueue/a.go", importing(module+"pkg/component"),
				"internal/app/a.go", importing(module+"pkg/engine", module+"pkg/supervisor"),
				"internal/operator/a.go", importing(module+"pkg/etcdstate", module+"pkg/engine"),
				"internal/apiserver/a.go", importing(module+"internal/operator", module+"pkg/proxy/certs", module+"pkg/supervisor"),
				"pkg/api/a.go", importing(module+"pkg/component", module+"pkg/etcdstate"),
			),
			want: []string{
				"internal/apiserver/a.go imports " + module + "pkg/supervisor: ",
				"internal/operator/a.go imports " + module + "pkg/engine: ",
				"pkg/api/a.go imports " + module + "pkg/etcdstate: ",
				"pkg/component/a.go imports golang.org/x/sync/errgroup: ",
				"pkg/component/b.go imports " + module + "pkg/config: ",
				"pkg/etcdstate/a.go imports " + module + "pkg/supervisor: ",
				"pkg/proxy/b.go imports " + module + "pkg/component: ",
				"pkg/proxy/b.go imports google.golang.org/grpc: ",
				"pkg/rollout/a.go imports " + module + "pkg/supervisor: ",
				"pkg/supervisor/a.go imports " + module + "pkg/engine: ",
				"internal/workqueue/a.go imports " + module + "pkg/component: ",
			},
		},
		{
			rule: "adapters are strangers",
			files: plant(
				"pkg/engine/a.go", importing(module+"pkg/proxy", module+"pkg/engine/auth"),
				"pkg/localstate/a_test.go", importing(module+"pkg/etcdstate", module+"pkg/etcdstate/statetest"),
				"internal/app/a.go", importing(module+"pkg/proxy", module+"pkg/engine"),
			),
			want: []string{
				"pkg/engine/a.go imports " + module + "pkg/proxy: ",
				"pkg/localstate/a_test.go imports " + module + "pkg/etcdstate: ",
			},
		},
		{
			rule: "pkg keeps out of internal",
			files: plant(
				"pkg/supervisor/a.go", importing(module+"internal/workqueue"),
				"pkg/health/a.go", importing(module+"internal/version"),
				"pkg/engine/a_test.go", importing(module+"internal/dockertest"),
				"internal/app/a.go", importing(module+"internal/version"),
			),
			want: []string{"pkg/health/a.go imports " + module + "internal/version: "},
		},
		{
			rule: "the top is imported by nobody",
			files: plant(
				"cmd/gantry/main.go", importing(module+"internal/cli"),
				"internal/cli/a.go", importing(module+"internal/app"),
				"internal/cli/b_test.go", importing(module+"internal/cli"),
				"internal/app/a.go", importing(module+"internal/cli", module+"internal/apiserver"),
				"pkg/api/a_test.go", importing(module+"internal/app"),
				"internal/fleettest/a.go", importing(module+"internal/app"),
			),
			want: []string{
				"internal/app/a.go imports " + module + "internal/cli: ",
				"internal/app/a.go imports " + module + "internal/apiserver: ",
				"pkg/api/a_test.go imports " + module + "internal/app: ",
			},
		},
		{
			rule: "helpers do not ship",
			files: plant(
				"internal/app/a.go", importing(module+"internal/etcdtest"),
				"internal/app/a_test.go", importing(module+"internal/etcdtest"),
				"internal/fleettest/a.go", importing(module+"internal/etcdtest"),
			),
			want: []string{"internal/app/a.go imports " + module + "internal/etcdtest: "},
		},
		{
			rule: "goroutines are waited for",
			files: plant(
				"pkg/p/a.go", "package p\nfunc f() {\n\tgo f()\n\tfunc() { go f() }()\n}\n",
				"pkg/p/a_test.go", "package p\nfunc g() { go f() }\n",
			),
			want: []string{"pkg/p/a.go:3: ", "pkg/p/a.go:4: "},
		},
		{
			rule: "nothing runs on import",
			files: plant(
				"pkg/p/a.go", "package p\nfunc init() {}\ntype T struct{}\nfunc (T) init() {}\n",
				"pkg/p/a_test.go", "package p\nfunc init() {}\n",
			),
			want: []string{"pkg/p/a.go:2: ", "pkg/p/a_test.go:2: "},
		},
		{
			rule: "contexts come from the caller",
			files: plant(
				"pkg/p/a.go", "package p\nimport c \"context\"\nvar x = c.Background()\nvar y = c.TODO()\nvar z = c.WithoutCancel\n",
				"pkg/p/a_test.go", "package p\nimport \"context\"\nvar w = context.Background()\n",
				"internal/etcdtest/a.go", "package etcdtest\nimport \"context\"\nvar w = context.Background()\n",
				"cmd/gantry/main.go", "package main\nimport \"context\"\nvar w = context.Background()\n",
			),
			want: []string{"pkg/p/a.go:3: ", "pkg/p/a.go:4: "},
		},
		{
			rule: "contexts are not kept",
			files: plant(
				"pkg/p/a.go", "package p\nimport \"context\"\ntype t struct {\n\tctx context.Context\n\tcancel context.CancelFunc\n}\ntype u struct{ context.Context }\n",
			),
			want: []string{"pkg/p/a.go:4: ", "pkg/p/a.go:7: "},
		},
		{
			rule: "only main exits",
			files: plant(
				"internal/cli/a.go", "package cli\nimport (\n\"os\"\n\"log\"\n)\nfunc f() { os.Exit(1) }\nfunc g() { log.Fatalf(\"\") }\n",
				"cmd/gantry/main.go", "package main\nimport \"os\"\nfunc main() { os.Exit(1) }\n",
			),
			want: []string{"internal/cli/a.go:6: ", "internal/cli/a.go:7: "},
		},
		{
			rule: "nobody prints",
			files: plant(
				"pkg/p/a.go", "package p\nimport \"fmt\"\nfunc f() {\nfmt.Println()\nprintln()\nfmt.Fprintln(nil)\n}\n",
				"pkg/p/a_test.go", "package p\nimport \"fmt\"\nfunc g() { fmt.Println() }\n",
			),
			want: []string{"pkg/p/a.go:4: ", "pkg/p/a.go:5: "},
		},
		{
			rule:  "nobody sleeps",
			files: plant("internal/dockertest/a.go", "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }\n"),
			want:  []string{"internal/dockertest/a.go:3: "},
		},
		{
			rule: "tests sleep in bubbles",
			files: plant("pkg/p/a_test.go", `package p
import ("time"; "testing"; "testing/synctest")
func TestBubble(t *testing.T) { synctest.Test(t, func(*testing.T) { time.Sleep(1); inside(); deep() }) }
func TestWall(t *testing.T) { time.Sleep(1); outside(); both() }
func TestBoth(t *testing.T) { synctest.Test(t, func(*testing.T) { both() }) }
func inside() { time.Sleep(1) }
func deep() { deeper() }
func deeper() { time.Sleep(1); deep() }
func outside() { time.Sleep(1) }
func both() { time.Sleep(1) }
func nobody() { time.Sleep(1) }
var literal = func() { time.Sleep(1) }
`),
			want: []string{
				"pkg/p/a_test.go:4: ", "pkg/p/a_test.go:9: ", "pkg/p/a_test.go:10: ",
				"pkg/p/a_test.go:11: ", "pkg/p/a_test.go:12: ",
			},
		},
		{
			rule: "files are short",
			files: plant(
				"pkg/p/ok.go", "package p\n"+strings.Repeat("//\n", 499),
				"pkg/p/long.go", "package p\n"+strings.Repeat("//\n", 500),
				"pkg/p/a_test.go", "package p\n"+strings.Repeat("//\n", 900),
				"cmd/gantry/main.go", "package main\n"+strings.Repeat("//\n", 40),
			),
			want: []string{"cmd/gantry/main.go: 41 lines", "pkg/p/long.go: 501 lines"},
		},
		{
			rule: "functions are short",
			files: plant(
				"pkg/p/ok.go", long("ok", 60),
				"pkg/p/long.go", long("long", 61),
				"pkg/p/a_test.go", long("table", 300),
			),
			want: []string{"pkg/p/long.go: long has 61 lines"},
		},
		{
			rule: "packages say what they are",
			files: plant(
				"pkg/ok/doc.go", "// Package ok does one thing.\npackage ok\n", "pkg/ok/ok.go", "package ok\n",
				"pkg/silent/a.go", "package silent\n",
				"pkg/elsewhere/a.go", "// Package elsewhere does one thing.\npackage elsewhere\n",
				"pkg/twice/doc.go", "// Package twice does one thing.\npackage twice\n",
				"pkg/twice/twice.go", "// Package twice does another.\npackage twice\n",
				"pkg/wrong/doc.go", "// This is about something.\npackage wrong\n",
				"cmd/ok/main.go", "// Command ok does one thing.\npackage main\n",
				"cmd/silent/main.go", "package main\n",
				"examples/ok_test.go", "// Package examples runs the examples.\npackage examples\n",
			),
			want: []string{
				"cmd/silent: no package comment", "pkg/elsewhere: doc.go does not begin", "pkg/silent: no package comment",
				"pkg/twice: package comments in several files", "pkg/wrong: doc.go does not begin",
			},
		},
		{
			rule: "the map matches the code",
			files: plant(
				"ARCHITECTURE.md", "- `pkg/named` and `pkg/named.Func`, see `docs/design`\n- `pkg/gone`, `pkg/named/gone.go`, `pkg/gone.Func`\n- `examples/...` are run\n"+strings.Repeat("\n", 150),
				"docs/design/a.md", "",
				"pkg/named/a.go", "package named\n",
				"pkg/named/below/a.go", "package below\n",
				"pkg/forgotten/a_test.go", "package forgotten\n",
				"examples/web/main.go", "package main\n",
			),
			want: []string{
				"ARCHITECTURE.md names pkg/gone, ", "ARCHITECTURE.md names pkg/named/gone.go, ", "ARCHITECTURE.md names pkg/gone.Func, ",
				"ARCHITECTURE.md does not name pkg/forgotten", "ARCHITECTURE.md does not name pkg/named/below",
				"ARCHITECTURE.md has 153 lines",
			},
		},
	}
	planted := map[string]bool{}
	for _, tt := range tests {
		planted[tt.rule] = true
		t.Run(tt.rule, func(t *testing.T) {
			sources, err := load(tt.files)
			if err != nil {
				t.Fatal(err)
			}
			got := find(t, tt.rule).check(sources)
			if diff := cmp.Diff(beginnings(got, tt.want), sorted(tt.want)); diff != "" {
				t.Errorf("found (-got +want):\n%s", diff)
			}
		})
	}
	for _, r := range rules {
		if !planted[r.name] {
			t.Errorf("rule %q is not shown to fire", r.name)
		}
	}
}

func find(t *testing.T, name string) rule {
	t.Helper()
	for _, r := range rules {
		if r.name == name {
			return r
		}
	}
	t.Fatalf("no rule %q", name)
	return rule{}
}

// beginnings cuts each of got to the one of want that it begins with, and sorts them.
func beginnings(got, want []string) []string {
	var cut []string
	for _, g := range got {
		for _, w := range want {
			if strings.HasPrefix(g, w) {
				g = w
				break
			}
		}
		cut = append(cut, g)
	}
	return sorted(cut)
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// TestLoadSkips what is not ours to judge.
func TestLoadSkips(t *testing.T) {
	sources, err := load(plant(
		"go.mod", "module m\n",
		"pkg/p/a.go", "package p\n",
		"pkg/p/testdata/a.go", "not Go",
		".cache/a.go", "not Go",
		"pkg/_old/a.go", "not Go",
		"tools/lint/go.mod", "module lint\n",
		"tools/lint/a.go", "not Go",
		"README.md", "not Go",
	))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sources.packages(), []string{"pkg/p"}); diff != "" {
		t.Errorf("packages (-got +want):\n%s", diff)
	}
}

func TestLoadRefusesWhatDoesNotParse(t *testing.T) {
	if _, err := load(plant("pkg/p/a.go", "not Go")); err == nil {
		t.Error("load of a file that is not Go succeeded")
	}
}
