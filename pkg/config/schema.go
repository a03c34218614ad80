package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/gantryd/gantryd/pkg/component"
)

// durationPattern matches what component.Duration reads.
const durationPattern = `^\+?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`

// sharePattern matches the texts that component.Share reads.
const sharePattern = `^[+]?[0-9]+$|^[+]?0*([1-9][0-9]?|100)%$`

// percentPattern and factorPattern match the texts that component.Percent and component.Factor read, and few others.
const (
	percentPattern = `^[0-9]{0,2}(\.[0-9]{0,2})?%$`
	factorPattern  = `^[0-9]{0,4}(\.[0-9]{0,2})?x$`
)

// Schema is the JSON Schema, draft 2020-12, of a project file, in JSON or YAML. It knows what can
// be said of one value at a time; what Parse accepts it accepts, but not the other way round.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{
		Anonymous:      true,
		ExpandedStruct: true,
		Mapper:         textSchema,
		LookupComment:  describe,
	}
	root := r.ReflectFromType(reflect.TypeFor[component.Project]())
	root.Title = "gantryd project file"
	root.Description = "The components of a project, for gantryd and gantry."
	annotate(root, reflect.TypeFor[component.Project]())
	for _, t := range defined(reflect.TypeFor[component.Project]()) {
		if def, ok := root.Definitions[t.Name()]; ok {
			annotate(def, t)
		}
	}
	root.Properties.Set(schemaKey, &jsonschema.Schema{Type: "string", Description: "Where this schema is; for editors."})
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return b, nil
}

// textSchema is the schema of what is written as text and is none: a duration, a share of hosts, a part, a factor; nil
// for any other type.
func textSchema(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[component.Share]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Type: "integer", Minimum: "0"}, {Type: "string", Pattern: sharePattern},
		}}
	case reflect.TypeFor[component.Percent]():
		return &jsonschema.Schema{Type: "string", Pattern: percentPattern, Examples: []any{"1%", "0.5%"}}
	case reflect.TypeFor[component.Factor]():
		return &jsonschema.Schema{Type: "string", Pattern: factorPattern, Examples: []any{"2x", "1.5x"}}
	case reflect.TypeFor[component.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: durationPattern, Examples: []any{"30s", "1h30m"}}
	}
	return nil
}

// describe is the doc tag of a field.
func describe(t reflect.Type, name string) string {
	if name == "" {
		return ""
	}
	f, _ := t.FieldByName(name)
	return f.Tag.Get("doc")
}

// defined are the struct types that t is made of, without t.
func defined(t reflect.Type) []reflect.Type {
	var out []reflect.Type
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(t reflect.Type) {
		for _, p := range properties(t) {
			e := p.field.Type
			for e.Kind() == reflect.Slice || e.Kind() == reflect.Pointer {
				e = e.Elem()
			}
			if e.Kind() == reflect.Struct && !seen[e] {
				seen[e] = true
				out = append(out, e)
				visit(e)
			}
		}
	}
	visit(t)
	return out
}

// annotate adds to the schema of struct type t what its tags and the rules say.
func annotate(s *jsonschema.Schema, t reflect.Type) {
	for _, p := range properties(t) {
		field, ok := s.Properties.Get(p.name)
		if !ok {
			continue
		}
		if v, ok := p.field.Tag.Lookup("default"); ok {
			field.Default = typed(p.field.Type, v)
		}
		if v, ok := p.field.Tag.Lookup("enum"); ok {
			for e := range strings.SplitSeq(v, ",") {
				field.Enum = append(field.Enum, e)
			}
		}
		bound(field, t.Name()+"."+p.name)
	}
	switch t {
	case reflect.TypeFor[component.Check]():
		s.AllOf = needs("port", component.CheckHTTP, component.CheckHTTPS, component.CheckTCP, component.CheckGRPC)
	case reflect.TypeFor[component.Signal]():
		s.AllOf = needs("port", component.CheckHTTP, component.CheckHTTPS)
	default:
		return
	}
	s.AllOf = append(s.AllOf, needsOne(component.CheckExec, "command", "exec_command"))
}

// typed is a default, which tags give as text, as a value of type t.
func typed(t reflect.Type, v string) any {
	switch t.Kind() {
	case reflect.Int, reflect.Float64:
		if _, err := strconv.ParseFloat(v, 64); err == nil {
			return json.Number(v)
		}
	}
	return v
}

// bound adds the rules that concern one value.
func bound(s *jsonschema.Schema, path string) {
	switch path {
	case "Spec.name", "LinkDefinition.name":
		s.Pattern = namePattern
	case "Port.external", "Port.container", "Check.port", "Signal.port", "LinkDefinition.port":
		s.Minimum, s.Maximum = "1", "65535"
	case "Check.expectStatus":
		s.Items.Minimum, s.Items.Maximum = "100", "599"
	case "Check.path", "Signal.path":
		s.Pattern = "^(/|$)"
	case "Check.retries":
		s.Minimum, s.Maximum = "0", json.Number(strconv.Itoa(maxRetries))
	case "Check.timeout", "Signal.timeout":
		s.Minimum, s.Maximum = "0", json.Number(strconv.Itoa(maxWait))
	case "Spec.readyTimeout", "Hold.max", "DrainPolicy.rate", "Resources.cpus", "Resources.pids":
		s.Minimum = "0"
	case "Ulimit.soft", "Ulimit.hard":
		s.Minimum = "-1"
	case "RolloutPolicy.maxParallel":
		s.OneOf[0].Minimum = "1"
	case "RolloutPolicy.maxFailures":
		s.Minimum = "0"
	case "Binding.external", "Binding.volume":
		s.Pattern = "^/"
	case "EnvVar.name":
		s.Pattern = "^[^=]+$"
	case "Spec.labels":
		s.PropertyNames = &jsonschema.Schema{MinLength: new(uint64(1)), Not: &jsonschema.Schema{Pattern: `^dev\.gantryd\.`}}
	case "Spec.tmpfs":
		s.PropertyNames = &jsonschema.Schema{Pattern: "^/"}
	case "TLS.certs":
		s.MinItems = new(uint64(1))
	case "Match.hosts", "Match.sni":
		s.Items.Pattern = `^[!-~]+$`
	case "Match.path", "KeyPair.cert", "KeyPair.key", "Port.pages":
		s.Pattern = "^(/|$)"
	case "Port.maxConns", "Port.maxConnsPerClient":
		s.Minimum, s.Maximum = "0", json.Number(strconv.Itoa(mostConns))
	}
}

// needs requires field when kind is one of kinds.
func needs(field string, kinds ...string) []*jsonschema.Schema {
	return []*jsonschema.Schema{{If: ofKind(kinds...), Then: &jsonschema.Schema{Required: []string{field}}}}
}

// needsOne requires exactly one of fields when kind is kind.
func needsOne(kind string, fields ...string) *jsonschema.Schema {
	then := &jsonschema.Schema{}
	for _, f := range fields {
		then.OneOf = append(then.OneOf, &jsonschema.Schema{Required: []string{f}})
	}
	return &jsonschema.Schema{If: ofKind(kind), Then: then}
}

func ofKind(kinds ...string) *jsonschema.Schema {
	enum := &jsonschema.Schema{}
	for _, k := range kinds {
		enum.Enum = append(enum.Enum, k)
	}
	props := jsonschema.NewProperties()
	props.Set("kind", enum)
	return &jsonschema.Schema{Properties: props, Required: []string{"kind"}}
}
