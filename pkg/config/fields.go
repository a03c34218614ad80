package config

import (
	"reflect"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

// A property is a field of a type as a project file knows it, from its tags.
type property struct {
	name     string
	index    int
	required bool
	tellsNil bool // an empty list is not the same as none
	field    reflect.StructField
}

// properties lists the fields of struct type t, in order.
func properties(t reflect.Type) []property {
	out := make([]property, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || name == "" {
			continue
		}
		optional := strings.Contains(opts, "omitempty") || strings.Contains(opts, "omitzero")
		tellsNil := f.Type.Kind() == reflect.Slice && strings.Contains(opts, "omitzero")
		out = append(out, property{name: name, index: i, required: !optional, tellsNil: tellsNil, field: f})
	}
	return out
}

// find is the one of ps called name.
func find(ps []property, name string) (property, bool) {
	for _, p := range ps {
		if p.name == name {
			return p, true
		}
	}
	return property{}, false
}

func names(ps []property) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.name
	}
	return out
}

// title is what messages call an object of type t that has no name of its own.
func title(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[component.Project]():
		return "Configuration"
	case reflect.TypeFor[component.Spec]():
		return "Component"
	case reflect.TypeFor[component.Port]():
		return "Port Mapping"
	case reflect.TypeFor[component.Check]():
		return "Health Check"
	case reflect.TypeFor[component.Signal]():
		return "Termination Signal"
	case reflect.TypeFor[component.Binding]():
		return "Volume Binding"
	case reflect.TypeFor[component.LinkDefinition]():
		return "Component Link"
	case reflect.TypeFor[component.LinkRequest]():
		return "Required Component Link"
	case reflect.TypeFor[component.EnvVar]():
		return "Environment Variable"
	case reflect.TypeFor[component.KeyPair]():
		return "certificate"
	}
	return t.Name()
}
