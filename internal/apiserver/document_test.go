package apiserver

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
)

var rewrite = flag.Bool("update", false, "write the files of docs that describe the API")

// TestDocument compares what is served with what is in the repository, and so in the hands of its readers.
func TestDocument(t *testing.T) {
	r := newRig(t, nil)
	for _, form := range []string{"json", "yaml"} {
		a := r.do("GET", "/v2/openapi."+form, "")
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", form, a.status, a.body)
		}
		got := []byte(a.body)
		if form == "json" {
			var b bytes.Buffer
			if err := json.Indent(&b, got, "", "  "); err != nil {
				t.Fatal(err)
			}
			got = append(bytes.TrimSpace(b.Bytes()), '\n')
		}
		name := "../../docs/openapi." + form
		if *rewrite {
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what is served: go test ./internal/apiserver -run Document -update", name)
		}
	}
}

// The book is the document, which all servers have alike, and what was compiled of it.
var book struct {
	sync.Mutex
	doc      any
	compiler *jsonschema.Compiler
}

func openBook(r *rig) {
	r.t.Helper()
	raw, err := json.Marshal(r.server.document)
	if err != nil {
		r.t.Fatal(err)
	}
	if book.doc, err = jsonschema.UnmarshalJSON(bytes.NewReader(raw)); err != nil {
		r.t.Fatal(err)
	}
	book.compiler = jsonschema.NewCompiler()
	book.compiler.AssertFormat()
	if err := book.compiler.AddResource("openapi.json", book.doc); err != nil {
		r.t.Fatal(err)
	}
}

// conforms fails the test when an answer of a route of the document is not as the document says.
func (r *rig) conforms(method, path string, a answered) {
	r.t.Helper()
	book.Lock() // requests come from several goroutines
	defer book.Unlock()
	if book.compiler == nil {
		openBook(r)
	}
	doc := book.doc
	path, _, _ = strings.Cut(path, "?")
	for pattern := range r.server.document.Paths {
		if !matches(pattern, path) {
			continue
		}
		responses, ok := at(doc, "paths", pattern, strings.ToLower(method), "responses").(map[string]any)
		if !ok {
			return
		}
		status := strconv.Itoa(a.status)
		if _, listed := responses[status]; !listed {
			status = "default"
		}
		content := at(responses, status, "content")
		if content == nil && a.body == "" {
			return
		}
		kind := a.header.Get("Content-Type")
		if at(content, kind, "schema") == nil {
			r.t.Errorf("%s %s: answer %d of %q is not in the document", method, path, a.status, kind)
			return
		}
		escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
		r.validate(fmt.Sprintf("#/paths/%s/%s/responses/%s/content/%s/schema", escape.Replace(pattern), strings.ToLower(method), status, escape.Replace(kind)), a.body)
	}
}

func (r *rig) validate(pointer, body string) {
	r.t.Helper()
	schema, err := book.compiler.Compile("openapi.json" + pointer)
	if err != nil {
		r.t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		r.t.Errorf("%s: %s: %v", pointer, body, err)
	}
}

// at is what is at a place in a tree of JSON, nil when nothing is.
func at(v any, path ...string) any {
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func matches(pattern, path string) bool {
	a, b := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !strings.HasPrefix(a[i], "{") {
			return false
		}
	}
	return true
}

// TestDeployment walks from a configuration to a rollout, as a script does.
func TestDeployment(t *testing.T) {
	r := newRig(t, nil)
	read := func(a answered, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(a.body), into); err != nil {
			t.Fatalf("%s: %v", a.body, err)
		}
	}
	want := func(a answered, status int, part string) answered {
		t.Helper()
		if a.status != status || !strings.Contains(a.body, part) {
			t.Errorf("%d %s, want %d with %q", a.status, a.body, status, part)
		}
		return a
	}
	const project = "/v2/projects/shop"
	tag := want(r.do("GET", project+"/config", ""), 200, "s3cret").header.Get("ETag")
	want(r.do("POST", project+"/config/validate", shop), 204, "")
	next := strings.ReplaceAll(shop, `"tag":"1"`, `"tag":"2"`)
	want(r.do("POST", project+"/config/plan", next), 200, `"field":"tag"`)
	put := want(r.do("PUT", project+"/config", next, "If-Match", tag), 200, `"change":"changed"`)
	if put.header.Get("ETag") == tag {
		t.Error("the ETag stayed")
	}
	want(r.do("PUT", project+"/config", shop, "If-Match", tag), 412, "precondition_failed")
	want(r.do("PUT", project+"/config", next, "If-Match", "*"), 200, `"change":"same"`)
	want(r.do("PUT", "/v2/projects/blog/config", strings.ReplaceAll(shop, "example/db", "example/gone"), "If-None-Match", "*"), 200, `"change":"added"`)
	want(r.do("POST", "/v2/projects/blog/rollouts", `{"components":["db"]}`), 409, "no such image")

	want(r.do("POST", project+"/rollouts/plan", `{"components":["web"]}`), 200, `"change":"update"`)
	var started struct{ Items []api.Started }
	a := want(r.do("POST", project+"/rollouts", `{"components":["web"],"reason":"first","if_generation":0}`), 202, "example")
	read(a, &started)
	rollout := a.header.Get("Location")
	if rollout != project+"/components/web/rollout" {
		t.Errorf("location = %s", rollout)
	}
	want(r.do("POST", project+"/rollouts", `{"components":["web"],"if_generation":0}`), 409, "conflict")
	want(r.do("GET", rollout, ""), 200, "progressing")
	stale := fmt.Sprintf(`{"generation":%d}`, started.Items[0].Generation-1)
	want(r.do("POST", rollout+"/pause", stale), 409, "is what is asked for")
	want(r.do("POST", rollout+"/pause", `{"reason":"lunch"}`), 200, `"component":"web"`)
	want(r.do("POST", rollout+"/pause", "{}"), 409, "paused already, by user:root")
	want(r.do("GET", rollout, ""), 200, "paused by user:root: lunch")
	want(r.do("POST", rollout+"/resume", "{}"), 200, "")
	want(r.do("POST", rollout+"/promote", "{}"), 409, "no canaries")
	want(r.do("POST", rollout+"/abort", "{}"), 200, "")
	want(r.do("GET", project+"/components", ""), 200, `"status":"aborted"`)
	want(r.do("POST", rollout+"/retry", "{}"), 200, "")
	want(r.do("POST", project+"/components/web/rollback", "{}"), 409, "no release of web to go back to")
	want(r.do("POST", project+"/rollouts", `{"together":["web","db"]}`), 202, `"component":"db"`)
	releases := want(r.do("GET", project+"/components/web/releases", ""), 200, `"by":"user:root"`)
	if strings.Contains(releases.body, "s3cret") {
		t.Error("the releases tell the environment")
	}
	to := fmt.Sprintf(`{"to":%d}`, started.Items[0].Generation)
	want(r.do("POST", project+"/components/web/rollback", to), 202, fmt.Sprintf(`"source":%d`, started.Items[0].Generation))
	want(r.do("GET", project, ""), 200, `"project":"shop"`)
	want(r.do("GET", project+"/hosts", ""), 200, `"items":[]`)
}

func TestHidden(t *testing.T) {
	old, next := component.Spec{Name: "web"}, component.Spec{Name: "web", Tag: "2", EnvironmentVariables: []component.EnvVar{{Name: "KEY", Value: "s3cret"}}}
	changes := hidden(component.Changes(component.Release{Spec: old}, component.Release{Spec: next}))
	if text := fmt.Sprint(changes); len(changes) < 2 || strings.Contains(text, "s3cret") || !strings.Contains(text, "(hidden)") || !strings.Contains(text, "{tag  2}") {
		t.Errorf("changes = %s", text)
	}
}
