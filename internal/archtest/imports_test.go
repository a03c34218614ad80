package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// libraries may be imported by their owners only, in tests too: whoever else needs what they do
// asks the owner, so that a library can be replaced in one place.
var libraries = []struct {
	path   string
	owners []string
	why    string
}{
	{"go.etcd.io", []string{"pkg/etcdstate", "internal/etcdtest"}, "only pkg/etcdstate knows etcd"},
	{"go.uber.org/zap", []string{"pkg/etcdstate", "internal/etcdtest"}, "zap is etcd's logger; ours is log/slog"},
	{"github.com/docker/docker", []string{"pkg/engine", "internal/dockertest"}, "only pkg/engine knows Docker Engine"},
	{"github.com/docker/cli", []string{"pkg/engine"}, "only pkg/engine knows registries and their credentials"},
	{"github.com/docker/docker-credential-helpers", []string{"pkg/engine"}, "only pkg/engine knows registries and their credentials"},
	{"github.com/docker/go-connections", []string{"pkg/engine", "internal/dockertest"}, "only pkg/engine knows Docker Engine"},
	{"github.com/google/go-containerregistry", []string{"internal/dockertest", "pkg/engine"}, "images and registries for tests are internal/dockertest's"},
	{"github.com/spf13", []string{"internal/cli"}, "commands and flags live in internal/cli"},
	{"golang.org/x/term", []string{"internal/cli"}, "only internal/cli talks to a person"},
	{"github.com/coreos/go-systemd", []string{"internal/sdnotify"}, "only internal/sdnotify knows systemd"},
	{"go.yaml.in/yaml", []string{"pkg/config", "internal/cli"}, "pkg/config reads YAML, internal/cli writes it"},
	{"github.com/danielgtaylor/huma", []string{"internal/apiserver"}, "only internal/apiserver has routes that are described"},
	{"github.com/invopop/jsonschema", []string{"pkg/config"}, "the schema is the project file's"},
	{"google.golang.org/grpc", []string{"pkg/health", "pkg/etcdstate", "internal/etcdtest"}, "gRPC is how health checks ask and how etcd fails"},
}

// testLibraries must not be in what ships.
var testLibraries = []string{
	"github.com/google/go-cmp", "github.com/google/go-containerregistry", "github.com/santhosh-tekuri/jsonschema",
	"go.uber.org/goleak", "testing",
}

// layers are the packages of the module that a package may import in what ships. A package may
// always import what is below itself.
var layers = []struct {
	pkg     string
	may     []string
	stdOnly bool     // no library at all, except
	but     []string // these
	why     string
}{
	{pkg: "pkg/component", stdOnly: true, why: "it is the vocabulary of all the others"},
	{pkg: "pkg/rollout", may: []string{"pkg/component"}, stdOnly: true, why: "its decisions are pure"},
	{pkg: "pkg/config", may: []string{"pkg/component"}, why: "a file is parsed without asking anybody"},
	{pkg: "pkg/etcdstate", may: []string{"pkg/component", "internal/failpoint"}, why: "adapters know the vocabulary and their library"},
	{pkg: "pkg/localstate", may: []string{"pkg/component"}, why: "adapters know the vocabulary and their library"},
	{pkg: "pkg/engine", may: []string{"pkg/component", "internal/failpoint"}, why: "adapters know the vocabulary and their library"},
	{pkg: "pkg/health", may: []string{"pkg/component"}, why: "adapters know the vocabulary and their library"},
	{pkg: "pkg/proxy", stdOnly: true, but: []string{"golang.org/x"}, why: "it knows addresses, not components"},
	{
		pkg: "pkg/supervisor", may: []string{"pkg/component", "pkg/rollout", "internal/workqueue"},
		why: "it names what it needs and is given it; adapters are none of its business",
	},
	{pkg: "pkg/api", may: []string{"pkg/component"}, stdOnly: true, why: "it is what programs read, whoever wrote it"},
	{
		pkg: "internal/operator", may: []string{"pkg/api", "pkg/component", "pkg/config", "pkg/etcdstate", "pkg/rollout"},
		why: "it is asked by command lines and servers, and knows neither",
	},
	{
		pkg: "internal/apiserver", may: []string{
			"pkg/api", "pkg/component", "pkg/config", "pkg/etcdstate", "pkg/proxy/certs", "internal/operator",
		}, why: "it knows HTTP; what a request asks for is internal/operator's, and engines are given to it",
	},
	{pkg: "internal/failpoint", stdOnly: true, why: "it ends processes and knows nothing of what they do"},
	{pkg: "internal/workqueue", stdOnly: true, why: "it holds keys and knows nothing of what they mean"},
	{pkg: "internal/version", stdOnly: true, why: "everybody may ask for the version"},
	{pkg: "internal/sdnotify", why: "it knows systemd and nothing of gantryd"},
}

// adapters never import each other, not even in tests.
var adapters = []string{"pkg/etcdstate", "pkg/localstate", "pkg/engine", "pkg/health", "pkg/proxy"}

// inside is what pkg may import of internal, in what ships.
var inside = []string{
	"internal/workqueue", // the supervisor's loop; nobody outside needs a queue of ours
	"internal/failpoint", // where a test ends the daemon; nobody outside has such tests
}

// importers of a package that only the top may know.
var importers = []struct {
	pkg  string
	from []string
	why  string
}{
	{"internal/cli", []string{"cmd", "internal/fleettest", "internal/demo", "examples"}, "a command line is the outermost layer"},
	{"internal/apiserver", []string{"internal/cli"}, "a server of requests is as far out as a command line"},
	{"internal/app", []string{"internal/cli", "internal/fleettest", "internal/demo", "examples"}, "only the one who starts a daemon needs all of it"},
}

// ours returns the package of the module that an import path names.
func ours(imported string) (string, bool) { return strings.CutPrefix(imported, module) }

func isStd(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// eachImport calls check with every import of every file, and collects what it says.
func eachImport(t *tree, check func(f *file, imported string) string) []string {
	var found []string
	for _, f := range t.files {
		for _, imported := range f.imports {
			if problem := check(f, imported); problem != "" {
				found = append(found, fmt.Sprintf("%s imports %s: %s", f.path, imported, problem))
			}
		}
	}
	return found
}

func librariesHaveOwners(t *tree) []string {
	return eachImport(t, func(f *file, imported string) string {
		for _, lib := range libraries {
			if within(imported, lib.path) && !within(f.pkg, lib.owners...) {
				return lib.why
			}
		}
		return ""
	})
}

func testLibrariesDoNotShip(t *tree) []string {
	return eachImport(t, func(f *file, imported string) string {
		if f.test || f.isHelper() || !within(imported, testLibraries...) {
			return ""
		}
		return "it is for tests"
	})
}

func dependenciesPointDown(t *tree) []string {
	return eachImport(t, func(f *file, imported string) string {
		for _, l := range layers {
			if f.test || !within(f.pkg, l.pkg) {
				continue
			}
			if isHelper(f.pkg) && !isHelper(l.pkg) {
				continue // pkg/etcdstate/statetest is a helper, not the adapter
			}
			if pkg, ok := ours(imported); ok {
				if !within(pkg, l.pkg) && !slices.Contains(l.may, pkg) {
					return l.why
				}
				continue
			}
			if l.stdOnly && !isStd(imported) && !within(imported, l.but...) {
				return l.why
			}
		}
		return ""
	})
}

func adaptersAreStrangers(t *tree) []string {
	return eachImport(t, func(f *file, imported string) string {
		pkg, ok := ours(imported)
		if !ok || isHelper(pkg) || isHelper(f.pkg) || !within(f.pkg, adapters...) {
			return ""
		}
		for _, other := range adapters {
			if within(pkg, other) && !within(f.pkg, other) {
				return "adapters never import each other; internal/app joins them"
			}
		}
		return ""
	})
}

func libraryCodeKeepsOutOfInternal(t *tree) []string {
	return eachImport(t, func(f *file, imported string) string {
		pkg, ok := ours(imported)
		if !ok || f.test || f.isHelper() || !within(f.pkg, "pkg") || !within(pkg, "internal") || slices.Contains(inside, pkg) {
			return ""
		}
		return "pkg is what others may build on, and does not build on internal"
	})
}

func topIsImportedByNobody(t *tree) []string {
	return eachImport(t, func(f *file, imported string) string {
		pkg, ok := ours(imported)
		if !ok {
			return ""
		}
		for _, top := range importers {
			if within(pkg, top.pkg) && !within(f.pkg, append(top.from, top.pkg)...) {
				return top.why
			}
		}
		return ""
	})
}

func helpersDoNotShip(t *tree) []string {
	return eachImport(t, func(f *file, imported string) string {
		pkg, ok := ours(imported)
		if !ok || !isHelper(pkg) || f.test || f.isHelper() || within(f.pkg, "internal/demo", "examples") {
			return ""
		}
		return "it is a test helper"
	})
}
