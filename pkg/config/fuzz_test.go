package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
)

// addFiles gives f the files that match, with their names.
func addFiles(f *testing.F, pattern ...string) {
	f.Helper()
	found, err := filepath.Glob(filepath.Join(pattern...))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range found {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(filepath.Base(name), data)
	}
}

// FuzzParse holds that Parse answers for any file, and that what it takes is valid, has a stored
// form that is read back as the same project, and is taken by the schema.
func FuzzParse(f *testing.F) {
	addFiles(f, "testdata", "*.json")
	addFiles(f, "testdata", "*.yaml")
	addFiles(f, "..", "..", "examples", "*", "*.json")
	addFiles(f, "..", "..", "examples", "*", "*.yaml")
	for _, data := range []string{
		"\uFEFF{\t\"components\": []}", "components: [&a {name: a, repo: r}, {<<: *a, name: b}]",
		"a: &a [*a]", "components: [{name: a, repo: r, ports: [{external: 0x50, container: 8_0}]}]",
		"components: [{name: a, repo: r, healthChecks: [{kind: exec, exec_command: \"a 'b'\"}]}]",
		`{"components": [{"name": "a", "repo": "r", "rollout": {"bake": "0s"}, "terminationChecks": []}]}`,
		`{"components": [{"name": "a", "repo": "r", "maintenance": true, "ports": [{"external": 443, "container": 80, "kind": "http", "match": {"hosts": ["*.a.example"], "path": "/x"}, "tls": {"certs": [{"cert": "/c", "key": "/k"}]}, "trusted": ["::1/128"]}]}]}`,
	} {
		f.Add("", []byte(data))
	}
	schema := compiled(f)
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		p, err := config.Parse(name, data)
		if err != nil {
			_, syntax := errors.AsType[*config.SyntaxError](err)
			if syntax == (len(config.Mistakes(err)) > 0) || err.Error() == "" {
				t.Fatalf("error %q is neither of syntax nor a list of mistakes", err)
			}
			return
		}
		if err := config.Validate(p); err != nil {
			t.Fatalf("parsed, but not valid: %v", err)
		}
		stored, err := config.Canonical(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse("", stored)
		if err != nil {
			t.Fatalf("the stored form %s is not read back: %v", stored, err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Fatalf("read back (-want +got):\n%s", diff)
		}
		var plain component.Project
		if err := json.Unmarshal(stored, &plain); err != nil || len(p.Components) > 0 && !cmp.Equal(p, plain) {
			t.Fatalf("a plain decoder reads %s differently: %v", stored, err)
		}
		for _, file := range [][]byte{stored, bytes.TrimPrefix(data, []byte("\uFEFF"))} {
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(file))
			if err != nil {
				continue // YAML
			}
			if err := schema.Validate(v); err != nil {
				t.Fatalf("the schema refuses %s: %v", file, err)
			}
		}
	})
}

// FuzzOverride holds that Override answers for any text, leaves its argument alone, and that two
// overrides at once are the same as one after the other.
func FuzzOverride(f *testing.F) {
	for _, o := range []string{
		"tag=1.4", "command=a=b", "ports.80=8080", "ports.80.kind=http", `environmentVariables."a.b"=x`,
		`labels."\"\\="=c`, "readyChecks.web.headers.Host=x", "drain.timeout=30s", "privileged=False",
		"terminationChecks.x.timeout=5", "rollout.bake=1s", "ulimits.core.soft=-1", "resources.cpus=1e3",
	} {
		f.Add(o, "tag=2")
	}
	spec := component.Spec{
		Name: "web", Repo: "my/web", Command: make([]string, 1, 8),
		Ports:  []component.Port{{External: 80, Container: 8000}},
		Labels: map[string]string{"a": "b"},
	}
	before, err := json.Marshal(spec)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		both, errBoth := config.Override(spec, []string{first, second})
		if after, err := json.Marshal(spec); err != nil || !bytes.Equal(before, after) {
			t.Fatalf("the argument became %s (%v)", after, err)
		}
		one, err := config.Override(spec, []string{first})
		if err == nil {
			one, err = config.Override(one, []string{second})
		}
		if (err == nil) != (errBoth == nil) {
			t.Fatalf("at once %v, one after the other %v", errBoth, err)
		}
		nan := cmp.Comparer(func(a, b float64) bool { return a == b || a != a && b != b })
		if diff := cmp.Diff(one, both, nan); diff != "" {
			t.Fatalf("one after the other (-), at once (+):\n%s", diff)
		}
		if err == nil {
			_ = config.Validate(component.Project{Components: []component.Spec{both}})
		}
	})
}
