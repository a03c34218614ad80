package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
)

func read(t *testing.T, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheOriginalsExampleHasOneMistake(t *testing.T) {
	data := read(t, "..", "..", "examples", "original", "gantryd.json")
	if !strings.Contains(string(data), "\n\t ") {
		t.Error("the example lost its tabs")
	}
	_, err := config.Parse("gantryd.json", data)
	want := []config.Mistake{{
		Path: "components[0].requireComponentLinks[0].name", Line: 27, Column: 20,
		Message: "Component link anotherserver not defined on any component",
	}}
	if diff := cmp.Diff(want, config.Mistakes(err)); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
	const text = "gantryd.json: components[0].requireComponentLinks[0].name (line 27): " +
		"Component link anotherserver not defined on any component"
	if err == nil || err.Error() != text {
		t.Errorf("error is %v, want %s", err, text)
	}
	if !strings.Contains(string(read(t, "..", "..", "examples", "original", "README.md")), text) {
		t.Error("the example's README does not show the mistake")
	}
}

func TestTheOriginalsExampleCompleted(t *testing.T) {
	got, err := config.Parse("complete.json", read(t, "..", "..", "examples", "original", "complete.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := component.Project{Components: []component.Spec{
		{
			Name: "someexamplecomponent", Repo: "my/localrepo", Tag: "latest",
			Command:               []string{"/usr/bin/python", "/somedir/myapplication.py"},
			Ports:                 []component.Port{{External: 8888, Container: 8888}},
			ReadyChecks:           []component.Check{{Kind: "http", Port: 8888}},
			HealthChecks:          []component.Check{{Kind: "http", Port: 8888, Path: "/some/path"}},
			VolumesFrom:           []string{"somedatacontainer"},
			Bindings:              []component.Binding{{External: "/an/external/path", Volume: "/some/container/path"}},
			DefineComponentLinks:  []component.LinkDefinition{{Port: 8888, Name: "mycoolserver", Kind: "tcp"}},
			RequireComponentLinks: []component.LinkRequest{{Name: "anotherserver", Alias: "serveralias"}},
			EnvironmentVariables:  []component.EnvVar{{Name: "FOO", Value: "somevalue"}},
		},
		{
			Name: "anothercomponent", Repo: "my/otherrepo", Tag: "latest",
			Command:              []string{"/usr/bin/python", "/somedir/anotherapplication.py"},
			ReadyChecks:          []component.Check{{Kind: "tcp", Port: 9999}},
			DefineComponentLinks: []component.LinkDefinition{{Port: 9999, Name: "anotherserver", Kind: "tcp"}},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("project (-want +got):\n%s", diff)
	}
	if got, want := config.StartOrder(got), []string{"anothercomponent", "someexamplecomponent"}; !cmp.Equal(got, want) {
		t.Errorf("start order is %q, want %q", got, want)
	}
}

func TestExamplesAreValid(t *testing.T) {
	for _, name := range examples(t) {
		if filepath.ToSlash(name) == "../../examples/original/gantryd.json" {
			continue // it has one mistake, by design
		}
		p, err := config.Parse(name, read(t, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if err := config.Validate(p); err != nil {
			t.Errorf("%s parses but does not validate: %v", name, err)
		}
	}
}

// block matches the examples in a document, with their language.
var block = regexp.MustCompile("(?s)```(json|yaml)\n(.*?)```")

func TestReferenceExamples(t *testing.T) {
	doc := read(t, "..", "..", "docs", "project-file.md")
	blocks := block.FindAllSubmatch(doc, -1)
	if len(blocks) < 8 {
		t.Fatalf("the reference has %d examples", len(blocks))
	}
	for _, b := range blocks[2:] { // whole files, or some fields of a component
		data := b[2]
		if string(b[1]) == "yaml" && !bytes.HasPrefix(data, []byte("components:")) {
			whole := "components:\n  - " + strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "\n    ") + "\n"
			if !bytes.Contains(data, []byte("name: ")) {
				whole += "    name: a\n    repo: a\n"
			}
			data = []byte(whole)
		}
		if _, err := config.Parse("x."+string(b[1]), data); err != nil {
			t.Errorf("example %s: %v", data, err)
		}
	}
	inJSON, err := config.Parse("x.json", blocks[0][2])
	if err != nil {
		t.Error(err)
	}
	// The YAML one is the first component alone, so that its link is missing.
	_, err = config.Parse("x.yaml", blocks[1][2])
	if got := config.Mistakes(err); len(got) != 1 || got[0].Path != "components[0].requireComponentLinks[0].name" {
		t.Errorf("mistakes of the YAML example: %v", err)
	}
	inYAML, err := config.Parse("x.yaml", append(blocks[1][2],
		"  - {name: database, repo: a, defineComponentLinks: [{name: database, port: 1}]}\n"...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inJSON.Components[0], inYAML.Components[0]); diff != "" {
		t.Errorf("first component (-JSON +YAML):\n%s", diff)
	}
}

// everything is a project that gives every field a value.
const everything = "testdata/everything"

func TestJSONAndYAMLSayTheSame(t *testing.T) {
	fromJSON, err := config.Parse("everything.json", read(t, everything+".json"))
	if err != nil {
		t.Fatal(err)
	}
	fromYAML, err := config.Parse("everything.yaml", read(t, everything+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Errorf("projects (-JSON +YAML):\n%s", diff)
	}
	s := fromJSON.Components[0]
	if got, want := s.Bake(), 90*time.Second; got != want {
		t.Errorf("bake is %s, want %s", got, want)
	}
}

func TestDefaults(t *testing.T) {
	p, err := config.Parse("x.json", []byte(`{"components": [{"name": "web", "repo": "my/web"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := p.Components[0]
	if diff := cmp.Diff(component.Spec{Name: "web", Repo: "my/web"}, s); diff != "" {
		t.Errorf("a project stays as it was written (-want +got):\n%s", diff)
	}
	if got := s.Ref(); got != "my/web:latest" {
		t.Errorf("image is %q", got)
	}
	if got := s.ReadyWithin(); got != 10*time.Second {
		t.Errorf("ready timeout is %s", got)
	}
}

func TestSyntaxErrors(t *testing.T) {
	tests := []struct {
		name, file, data string
		want             config.SyntaxError
	}{
		{"empty", "x.json", " \n", config.SyntaxError{Reason: "the file is empty"}},
		{"trailing comma", "x.json", "{\n  \"components\": [1,]\n}", config.SyntaxError{
			Line: 2, Column: 20, Reason: "invalid character ']' looking for beginning of value",
		}},
		{"the end is missing", "x.json", "{\n\"a\": [", config.SyntaxError{
			Line: 2, Column: 7, Reason: "unexpected end of JSON input",
		}},
		{"columns count characters", "x.json", "{\"ä\": ,}", config.SyntaxError{
			Line: 1, Column: 7, Reason: "invalid character ',' looking for beginning of value",
		}},
		{"something follows", "x.json", "{}\nx", config.SyntaxError{
			Line: 2, Column: 1, Reason: "invalid character 'x' after top-level value",
		}},
		{"NaN in JSON", "x.json", "{\"components\": NaN}", config.SyntaxError{
			Line: 1, Column: 16, Reason: "invalid character 'N' looking for beginning of value",
		}},
		{"a brace without an extension is JSON", "gantry", "{components: []}", config.SyntaxError{
			Line: 1, Column: 2, Reason: "invalid character 'c' looking for beginning of object key string",
		}},
		{"not UTF-8", "x.json", "{\n \"a\": \"\xff\"}", config.SyntaxError{
			Line: 2, Column: 8, Reason: "this byte is not UTF-8",
		}},
		{"NaN in YAML", "x.yaml", "components:\n - resources: {cpus: .nan}", config.SyntaxError{
			Line: 2, Column: 22, Reason: "\".nan\" is not a number gantryd can hold",
		}},
		{"infinity", "x.yaml", "a: .inf", config.SyntaxError{
			Line: 1, Column: 4, Reason: "\".inf\" is not a number gantryd can hold",
		}},
		{"octal or not", "x.yaml", "a: 0017", config.SyntaxError{
			Line: 1, Column: 4, Reason: "0017 starts with a zero: leave it out of a number, put a text in quotes",
		}},
		{"two documents", "x.yaml", "a: 1\n---\nb: 2\n", config.SyntaxError{
			Line: 2, Column: 1, Reason: "a second document starts here; a project file is one",
		}},
		{"a tag", "x.yaml", "a: !secret b", config.SyntaxError{
			Line: 1, Column: 4, Reason: "the tag !secret means nothing in a project file",
		}},
		{"a tag on a list", "x.yaml", "a: !x [b]", config.SyntaxError{
			Line: 1, Column: 4, Reason: "the tag !x means nothing in a project file",
		}},
		{"a key that is no text", "x.yaml", "[a]: b", config.SyntaxError{
			Line: 1, Column: 1, Reason: "a key is a text",
		}},
		{"a merge of nothing", "x.yaml", "<<: 1", config.SyntaxError{
			Line: 1, Column: 5, Reason: "<< takes a dictionary or a list of them",
		}},
		{"a comment is all", "x.yaml", "# nothing\n", config.SyntaxError{Reason: "the file is empty"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse(tt.file, []byte(tt.data))
			got, ok := errors.AsType[*config.SyntaxError](err)
			if !ok {
				t.Fatalf("error is %v, want a SyntaxError", err)
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if config.Mistakes(err) != nil {
				t.Error("a file that cannot be read has no mistakes")
			}
		})
	}
}

func TestSyntaxErrorOfYAMLHasItsLine(t *testing.T) {
	_, err := config.Parse("x.yaml", []byte("a: b\nc: d: e\n"))
	got, ok := errors.AsType[*config.SyntaxError](err)
	if !ok || got.Line != 2 {
		t.Errorf("error is %v, want a SyntaxError of line 2", err)
	}
}

// bomb is a YAML file that would be 10^levels values.
func bomb(levels int) string {
	var b strings.Builder
	b.WriteString("l0: &l0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i <= levels; i++ {
		fmt.Fprintf(&b, "l%d: &l%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*l%d,", i-1), 10), ","))
	}
	return b.String()
}

func TestLimits(t *testing.T) {
	tests := []struct{ name, file, data, want string }{
		{"size", "x.json", strings.Repeat(" ", 1<<20) + "{}", "larger than 1048576 bytes"},
		{"depth of JSON", "x.json", strings.Repeat("[", 100) + strings.Repeat("]", 100), "more than 64 levels"},
		{"depth no stack would stand", "x.json", strings.Repeat("[", 1<<20), "exceeded max depth"},
		{"depth of YAML", "x.yaml", strings.Repeat("[", 100) + strings.Repeat("]", 100), "more than 64 levels"},
		{"values", "x.json", "[1" + strings.Repeat(",1", 250_000) + "]", "more than 200000 values"},
		{"aliases in aliases", "x.yaml", bomb(9), "more than 200000 values"},
		{"an alias in itself", "x.yaml", "a: &a [*a]", "more than 64 levels"},
		{"merges in merges", "x.yaml", "a: &a {b: 1}\nc: &c {<<: [*a, *a]}\nd: &d {<<: *d}", "more than 64 levels"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse(tt.file, []byte(tt.data))
			if _, ok := errors.AsType[*config.SyntaxError](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %.200v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	tests := []struct{ name, file, data string }{
		{"a byte order mark", "x.json", "\uFEFF{\"components\": []}"},
		{"a byte order mark before YAML", "x.yaml", "\uFEFFcomponents: []"},
		{"tabs in JSON", "x.json", "{\t\"components\"\t:\t[\t]\t}\t"},
		{"JSON with tabs called YAML", "x.yaml", "{\n\t\"components\": []\n}"},
		{"YAML that starts with a brace", "x.yml", "{components: []}"},
		{"JSON without an extension", "gantry", "{\"components\": []}"},
		{"YAML without an extension", "gantry", "components: []\n"},
		{"where the schema is", "x.json", `{"$schema": "https://example.com/s.json", "components": []}`},
		{"text that looks like a boolean", "x.yaml", "components: [{name: a, repo: a, environmentVariables: [{name: A, value: yes}]}]"},
		{"a date as text", "x.yaml", "components: [{name: a, repo: a, tag: 2024-01-01}]"},
		{"a number in another form", "x.yaml", "components: [{name: a, repo: a, ports: [{external: 0x50, container: 8_0}]}]"},
		{"an anchor", "x.yaml", "components: [{name: a, repo: a, readyChecks: &c [{kind: tcp, port: 1}], healthChecks: *c}]"},
		{"a merge", "x.yaml", "components: [&a {name: a, repo: a}, {<<: *a, name: b}]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := config.Parse(tt.file, []byte(tt.data)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMergedFieldsGiveWay(t *testing.T) {
	p, err := config.Parse("x.yaml", []byte("components: [&a {name: a, repo: r, tag: x}, {<<: *a, name: b}]"))
	if err != nil {
		t.Fatal(err)
	}
	want := []component.Spec{{Name: "a", Repo: "r", Tag: "x"}, {Name: "b", Repo: "r", Tag: "x"}}
	if diff := cmp.Diff(want, p.Components); diff != "" {
		t.Errorf("components (-want +got):\n%s", diff)
	}
}
