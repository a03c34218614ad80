package component

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestStageText(t *testing.T) {
	for s := Starting; s <= Stopped; s++ {
		b, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		back := Stage(-1)
		if err := back.UnmarshalText(b); err != nil || back != s {
			t.Errorf("%q reads as %v (%v), want %v", b, back, err, s)
		}
	}
	var s Stage
	if err := s.UnmarshalText([]byte("stage(4)")); err == nil {
		t.Error("an unknown stage is taken")
	}
	if got := fmt.Sprint(Stage(9), Stage(-1)); got != "stage(9) stage(-1)" {
		t.Errorf("unknown stages print as %s", got)
	}
}

func TestVerbsHaveNames(t *testing.T) {
	seen := map[string]Verb{}
	for v := Nothing; v <= Remove; v++ {
		if other, ok := seen[v.String()]; ok || v.String() == "" {
			t.Errorf("verbs %d and %d are both called %q", v, other, v)
		}
		seen[v.String()] = v
	}
	if got := Verb(99).String(); got != "verb(99)" {
		t.Errorf("Verb(99) prints as %s", got)
	}
}

func TestShort(t *testing.T) {
	tests := []struct{ name, id, want string }{
		{"container", "4ae76210a4fe6d3c1e2f", "4ae76210a4fe"},
		{"image", "sha256:4ae76210a4fe6d3c1e2f", "4ae76210a4fe"},
		{"short one", "4ae7", "4ae7"},
		{"short image", "sha256:4ae7", "4ae7"},
		{"hash's name alone", "sha256:", "sha256:"},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		if got := Short(tt.id); got != tt.want {
			t.Errorf("%s: Short(%q) = %q, want %q", tt.name, tt.id, got, tt.want)
		}
	}
}

// TestHashIsStable guards the containers of running hosts: were the hash of what they run to change
// with an upgrade of gantryd, all of them would be replaced.
func TestHashIsStable(t *testing.T) {
	r := Release{
		Generation: 7, ImageID: "sha256:one", Image: Image{Ref: "example/web:1", Digest: "sha256:d"}, Restart: "again",
		Spec: Spec{
			Name: "web", Repo: "example/web", Tag: "1", Command: []string{"serve", "<&>"},
			Ports:                []Port{{External: 80, Container: 8080}},
			ReadyChecks:          []Check{{Kind: CheckHTTP, Port: 8080, Path: "/ping", Timeout: 0.5}},
			EnvironmentVariables: []EnvVar{{Name: "A", Value: "1"}},
			Labels:               map[string]string{"b": "2", "a": "1"},
			Resources:            Resources{Memory: "512m", CPUs: 1.5},
		},
	}
	if got, want := r.Hash(), "10c7eb5a5067cf9f"; got != want {
		t.Errorf("hash is %s, want %s", got, want)
	}
	if got, want := (Release{ImageID: "sha256:one", Spec: Spec{Name: "web", Repo: "example/web"}}).Hash(), "30b6a984222eedf3"; got != want {
		t.Errorf("hash of a plain release is %s, want %s", got, want)
	}
}

func TestHashCoversAllSettings(t *testing.T) {
	steers := map[string]bool{"Rollout": true, "Drain": true, "Hold": true, "Restart": true, "StopTimeout": true, "Maintenance": true, "Repo": true, "Tag": true}
	base := Release{Generation: 1, ImageID: "sha256:one", Spec: Spec{Name: "web"}}
	spec := reflect.TypeFor[Spec]()
	for i := range spec.NumField() {
		name := spec.Field(i).Name
		for _, r := range changed(base, i) {
			if same := r.Hash() == base.Hash(); same != steers[name] {
				t.Errorf("Spec.%s set to %v: same hash = %t, want %t", name, reflect.ValueOf(r.Spec).Field(i), same, steers[name])
			}
		}
	}
}

// What only steers the proxy restarts no container; where it listens and what it hears does, so
// that the proxy and the container change at one moment.
func TestHashOfAPort(t *testing.T) {
	contract := map[string]bool{"External": true, "Container": true, "Kind": true, "Upstream": true, "ProxyProtocol.To": true}
	base := Port{External: 80, Container: 8080}
	of := func(ports ...Port) string { return Release{ImageID: "sha256:one", Spec: Spec{Ports: ports}}.Hash() }
	fields := map[string]Port{}
	add := func(name string, f func(*Port)) {
		p := base
		f(&p)
		fields[name] = p
	}
	typ := reflect.TypeFor[Port]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		if name == "ProxyProtocol" {
			continue // its two fields differ
		}
		add(name, func(p *Port) { reflect.ValueOf(p).Elem().Field(i).Set(values(typ.Field(i).Type)[0]) })
	}
	add("ProxyProtocol.To", func(p *Port) { p.ProxyProtocol.To = ProxyV2 })
	add("ProxyProtocol.From", func(p *Port) { p.ProxyProtocol.From = []string{"10.0.0.0/8"} })
	for name, p := range fields {
		if same := of(p) == of(base); same == contract[name] {
			t.Errorf("Port.%s: same hash = %t", name, same)
		}
	}
	if two := (Port{External: 80, Container: 8080, Match: Match{Path: "/x"}}); of(base, two) != of(base) {
		t.Error("a second match of the same port needs another container")
	}
	if two := (Port{External: 80, Container: 8081, Match: Match{Path: "/x"}}); of(base, two) == of(base) {
		t.Error("another port of the container needs no other container")
	}
}

func TestSteered(t *testing.T) {
	runs := Spec{Name: "web", Repo: "r", Tag: "1", Ports: []Port{{External: 80, Container: 80, Kind: KindHTTP}}}
	runs.Rollout.OnFailure = OnFailureRollback // by a flag of the update
	newer := runs
	newer.Rollout = RolloutPolicy{}
	newer.Tag, newer.Maintenance, newer.Drain.Timeout = "2", true, Duration(time.Minute)
	newer.Ports = []Port{{External: 80, Container: 80, Kind: KindHTTP, Match: Match{Path: "/x"}}}
	want := newer
	want.Tag, want.Rollout = "1", runs.Rollout // what runs is of this tag still, and was rolled out this way
	if got := runs.Steered(newer); !reflect.DeepEqual(got, want) {
		t.Errorf("steered by newer settings: %+v, want %+v", got, want)
	}
	newer.User = "nobody"
	if got := runs.Steered(newer); !reflect.DeepEqual(got, runs) {
		t.Errorf("steered by settings of another container: %+v, want %+v", got, runs)
	}
}

// changed are releases that differ from base in field i of the Spec: once for each setting in it.
func changed(base Release, i int) []Release {
	var out []Release
	field := reflect.ValueOf(&base.Spec).Elem().Field(i)
	for _, v := range values(field.Type()) {
		r := base
		reflect.ValueOf(&r.Spec).Elem().Field(i).Set(v)
		out = append(out, r)
	}
	return out
}

// values are values of type t other than zero: for a struct, one for each of its fields.
func values(t reflect.Type) []reflect.Value {
	var out []reflect.Value
	wrap := func(elems []reflect.Value, f func(reflect.Value) reflect.Value) {
		for _, e := range elems {
			out = append(out, f(e))
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			wrap(values(t.Field(i).Type), func(e reflect.Value) reflect.Value {
				v := reflect.New(t).Elem()
				v.Field(i).Set(e)
				return v
			})
		}
	case reflect.Slice:
		wrap(values(t.Elem()), func(e reflect.Value) reflect.Value { return reflect.Append(reflect.Zero(t), e) })
	case reflect.Pointer:
		wrap(values(t.Elem()), func(e reflect.Value) reflect.Value {
			v := reflect.New(t.Elem())
			v.Elem().Set(e)
			return v
		})
	case reflect.Map:
		v := reflect.MakeMap(t)
		v.SetMapIndex(reflect.ValueOf("key"), reflect.ValueOf("value"))
		out = append(out, v)
	case reflect.String:
		out = append(out, reflect.ValueOf("changed").Convert(t))
	case reflect.Bool:
		out = append(out, reflect.ValueOf(true))
	default: // numbers
		out = append(out, reflect.ValueOf(7).Convert(t))
	}
	return out
}

func TestHashOfAReleaseItself(t *testing.T) {
	base := Release{Generation: 1, ImageID: "sha256:one", Spec: Spec{Name: "web", Repo: "example/web"}}
	tests := []struct {
		name string
		edit func(*Release)
		same bool
	}{
		{"generation does not matter", func(r *Release) { r.Generation = 2 }, true},
		{"name of the image does not matter", func(r *Release) { r.Image = Image{Ref: "other:1", Digest: "sha256:d"} }, true},
		{"content of the image matters", func(r *Release) { r.ImageID = "sha256:two" }, false},
		{"asked for restart matters", func(r *Release) { r.Restart = "again" }, false},
	}
	for _, tt := range tests {
		r := base
		tt.edit(&r)
		if got := r.Hash() == base.Hash(); got != tt.same {
			t.Errorf("%s: same = %t", tt.name, got)
		}
	}
	a, b := Release{Spec: Spec{Repo: "a"}}, Release{Spec: Spec{Repo: "b"}}
	if a.Hash() == b.Hash() {
		t.Error("without content, the name of the image must matter")
	}
}

func TestReleaseOfADesiredState(t *testing.T) {
	d := Desired{
		Status: StatusReady, ImageID: "sha256:one", Image: Image{Ref: "a:1"}, Spec: &Spec{Name: "web"}, Restart: "again", Generation: 4,
		By: "me", At: time.Unix(1, 0), Reason: "why", Operation: "op",
	}
	want := Release{Generation: 4, ImageID: "sha256:one", Image: Image{Ref: "a:1"}, Spec: Spec{Name: "web"}, Restart: "again"}
	if got := d.Release(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (Desired{}).Release(); !reflect.DeepEqual(got, Release{}) {
		t.Errorf("release of nothing is %+v", got)
	}
}

func TestDesiredOnTheWire(t *testing.T) {
	b, err := json.Marshal(Desired{Status: StatusReady, ImageID: "sha256:one", Generation: 9})
	if err != nil || string(b) != `{"status":"ready","imageid":"sha256:one"}` {
		t.Errorf("%s (%v): the generation is stored, or empty fields are", b, err)
	}
	var d Desired
	if err := json.Unmarshal([]byte(`{"status":"stopped","imageid":"sha256:two"}`), &d); err != nil {
		t.Fatal(err)
	}
	if want := (Desired{Status: StatusStopped, ImageID: "sha256:two"}); !reflect.DeepEqual(d, want) {
		t.Errorf("%+v, want %+v", d, want)
	}
}
