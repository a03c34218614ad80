package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
)

// compiled is the schema of a project file, by another library than the one that made it.
func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	b, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is a file the way schema validators want it.
func instance(t testing.TB, name string, data []byte) any {
	t.Helper()
	if filepath.Ext(name) != ".json" {
		var v any
		if err := yaml.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		var err error
		if data, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// isProject tells project files from whatever else an example has.
var isProject = regexp.MustCompile(`(?m)^(components:|\s*"components")`)

// examples are the project files under examples/.
func examples(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"*.json", "*.yaml"} {
		found, err := filepath.Glob(filepath.Join("..", "..", "examples", "*", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if isProject.Match(data) {
				out = append(out, name)
			}
		}
	}
	if len(out) < 3 {
		t.Fatalf("found only the examples %q", out)
	}
	return out
}

func TestSchemaTakesTheExamples(t *testing.T) {
	s := compiled(t)
	for _, name := range examples(t) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(instance(t, name, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	tests := []struct{ name, component string }{
		{"an unknown key", `"readyCheks": []`},
		{"a text for a list", `"command": "run me"`},
		{"a list for a dictionary", `"labels": []`},
		{"a text for a boolean", `"privileged": "false"`},
		{"a number for a text", `"tag": 1.4`},
		{"null", `"ports": null`},
		{"a port out of range", `"ports": [{"external": 70000, "container": 80}]`},
		{"a port without container", `"ports": [{"external": 80}]`},
		{"an unknown kind of port", `"ports": [{"external": 80, "container": 80, "kind": "HTTP"}]`},
		{"an unknown kind of check", `"readyChecks": [{"kind": "htp", "port": 80}]`},
		{"a check without kind", `"readyChecks": [{"port": 80}]`},
		{"a check without port", `"readyChecks": [{"kind": "http"}]`},
		{"an exec check without command", `"readyChecks": [{"kind": "exec"}]`},
		{"an exec check with two commands", `"readyChecks": [{"kind": "exec", "command": ["a"], "exec_command": "a"}]`},
		{"a path that does not start with /", `"readyChecks": [{"kind": "http", "port": 80, "path": "x"}]`},
		{"a status that is none", `"readyChecks": [{"kind": "http", "port": 80, "expectStatus": [600]}]`},
		{"a signal of an unknown kind", `"terminationSignals": [{"kind": "tcp", "port": 80}]`},
		{"a signal without port", `"terminationSignals": [{"kind": "https"}]`},
		{"an unknown upstream", `"ports": [{"external": 80, "container": 80, "kind": "http", "upstream": "h2"}]`},
		{"TLS without certificates", `"ports": [{"external": 80, "container": 80, "kind": "http", "tls": {"certs": []}}]`},
		{"a certificate without key", `"ports": [{"external": 80, "container": 80, "kind": "http", "tls": {"certs": [{"cert": "/c"}]}}]`},
		{"a relative directory of pages", `"ports": [{"external": 80, "container": 80, "kind": "http", "pages": "p"}]`},
		{"an unknown version of PROXY", `"ports": [{"external": 80, "container": 80, "proxyProtocol": {"to": "v3"}}]`},
		{"fewer than no connections", `"ports": [{"external": 80, "container": 80, "maxConns": -1}]`},
		{"a negative rate", `"drain": {"rate": -1}`},
		{"a duration without unit", `"stopTimeout": "10"`},
		{"a duration that is a number", `"stopTimeout": 10`},
		{"a negative duration", `"stopTimeout": "-10s"`},
		{"a reserved label", `"labels": {"dev.gantryd.project": "x"}`},
		{"no hosts at a time", `"rollout": {"maxParallel": 0}`},
		{"a part of the hosts that is more than all", `"rollout": {"maxParallel": "101%"}`},
		{"hosts that are no number", `"rollout": {"canary": "some"}`},
		{"an unknown failure policy", `"rollout": {"onFailure": "panic"}`},
		{"an unknown order", `"rollout": {"order": "first"}`},
		{"a variable with = in its name", `"environmentVariables": [{"name": "A=B", "value": ""}]`},
		{"a relative mount", `"bindings": [{"external": "a", "volume": "/b"}]`},
		{"fewer than no processes", `"resources": {"pids": -1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := []byte(`{"components": [{"name": "web", "repo": "my/web", ` + tt.component + `}]}`)
			if err := s.Validate(instance(t, "x.json", data)); err == nil {
				t.Errorf("the schema takes %s", data)
			}
			if _, err := config.Parse("x.json", data); err == nil {
				t.Errorf("Parse takes %s", data)
			}
		})
	}
	for _, data := range []string{`{}`, `[]`, `{"components": {}}`, `{"components": [{"name": "web"}]}`, `{"components": [{"repo": "web"}]}`} {
		if err := s.Validate(instance(t, "x.json", []byte(data))); err == nil {
			t.Errorf("the schema takes %s", data)
		}
	}
}

// jsonFields visits every field of every struct that t is made of.
func jsonFields(t reflect.Type, visit func(owner reflect.Type, name string)) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		visit(t, name)
		e := f.Type
		for e.Kind() == reflect.Slice || e.Kind() == reflect.Pointer {
			e = e.Elem()
		}
		if e.Kind() == reflect.Struct {
			jsonFields(e, visit)
		}
	}
}

func TestSchemaDescribesEveryField(t *testing.T) {
	b, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	type object struct {
		Properties map[string]struct {
			Description string `json:"description"`
		} `json:"properties"`
		Additional *bool `json:"additionalProperties"`
	}
	var schema struct {
		object
		Version string            `json:"$schema"`
		Defs    map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	if want := "https://json-schema.org/draft/2020-12/schema"; schema.Version != want {
		t.Errorf("the schema is of %q, want %q", schema.Version, want)
	}
	jsonFields(reflect.TypeFor[component.Project](), func(owner reflect.Type, name string) {
		o, ok := schema.Defs[owner.Name()]
		if owner == reflect.TypeFor[component.Project]() {
			o, ok = schema.object, true
		}
		if !ok || o.Additional == nil || *o.Additional {
			t.Errorf("the schema has no closed object for %s", owner)
		}
		if p, ok := o.Properties[name]; !ok || p.Description == "" {
			t.Errorf("the schema does not describe field %q of %s", name, owner)
		}
	})
}

func TestSchemaKnowsDefaultsAndKinds(t *testing.T) {
	b, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`\s+`).ReplaceAllString(string(b), " ")
	for _, want := range []string{
		`"default": 10000`, `"default": "latest"`, `"default": "10s"`,
		`"enum": [ "http", "https", "tcp", "connection", "exec", "docker", "grpc" ]`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the schema does not say %s", want)
		}
	}
}

func TestReferenceNamesEveryField(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "project-file.md"))
	if err != nil {
		t.Fatal(err)
	}
	jsonFields(reflect.TypeFor[component.Project](), func(owner reflect.Type, name string) {
		if !bytes.Contains(doc, []byte("`"+name+"`")) {
			t.Errorf("docs/project-file.md does not name field %q of %s", name, owner)
		}
	})
}
