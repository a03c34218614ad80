package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

// decode sets v, which is addressable, from n. path is where n is, name what it is called there.
// What does not fit is a mistake and leaves v, or that part of it, zero.
func (m *mistakes) decode(v reflect.Value, n *node, path, name string) {
	m.where[path] = n.at
	if n.kind == kindNull && path != "" {
		m.add(path, "has no value: give it one or leave %s out", name)
		return
	}
	if v.Kind() == reflect.Pointer {
		to := reflect.New(v.Type().Elem())
		m.decode(to.Elem(), n, path, name)
		v.Set(to)
		return
	}
	if s, ok := reflect.TypeAssert[*component.Share](v.Addr()); ok {
		m.share(s, n, path)
		return
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		switch v.Type() {
		case reflect.TypeFor[component.Percent]():
			m.measure(u, n, path, "a part such as \"1%\"")
		case reflect.TypeFor[component.Factor]():
			m.measure(u, n, path, "a factor such as \"2x\"")
		default:
			m.duration(u, n, path)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		m.dict(v, n, path, name)
	case reflect.Slice:
		m.list(v, n, path, name)
	case reflect.Map:
		m.texts(v, n, path, name)
	default:
		m.scalar(v, n, path)
	}
}

// share reads a number of hosts, or a part of them.
func (m *mistakes) share(s *component.Share, n *node, path string) {
	switch {
	case n.kind == kindNumber && !strings.HasPrefix(n.text, "-"), n.kind == kindText:
		if err := s.UnmarshalText([]byte(n.text)); err != nil {
			m.add(path, "expected a number of hosts, or a part of them such as \"25%%\", found %s", n)
		}
	case n.kind == kindNumber:
		m.add(path, "%s is out of range: at least 1", short(n.text))
	default:
		m.add(path, "expected a number of hosts, or a part of them such as \"25%%\", found %s", n)
	}
}

// measure reads text by u, of which like is an example.
func (m *mistakes) measure(u encoding.TextUnmarshaler, n *node, path, like string) {
	if n.kind != kindText {
		m.add(path, "expected %s, found %s", like, n)
		return
	}
	if err := u.UnmarshalText([]byte(n.text)); err != nil {
		m.add(path, "%s", err)
	}
}

// duration reads text by u.
func (m *mistakes) duration(u encoding.TextUnmarshaler, n *node, path string) {
	if n.kind == kindNumber {
		m.add(path, "expected a duration with its unit, such as %q, found %s", n.text+"s", n)
		return
	}
	if n.kind != kindText {
		m.add(path, "expected a duration such as \"30s\", found %s", n)
		return
	}
	if strings.HasPrefix(n.text, "-") {
		m.add(path, "%s is negative", short(n.text))
		return
	}
	if err := u.UnmarshalText([]byte(n.text)); err != nil {
		m.add(path, "%s is not a duration such as \"30s\"", short(n.text))
	}
}

func (m *mistakes) dict(v reflect.Value, n *node, path, name string) {
	if n.kind != kindDict {
		if path == "" {
			m.add(path, "expected a dictionary with the key components, found %s", n)
			return
		}
		m.add(path, "Expected dictionary for field %s", name)
		return
	}
	props := properties(v.Type())
	for _, f := range m.unique(n, path) {
		p, ok := find(props, f.key)
		if !ok {
			m.unknown(join(path, f.key), path, f, names(props))
			continue
		}
		to := v.Field(p.index)
		m.decode(to, f.value, join(path, f.key), f.key)
		if p.tellsNil && to.IsNil() && f.value.kind == kindList {
			to.Set(reflect.MakeSlice(to.Type(), 0, 0))
		}
	}
	for _, p := range props {
		if p.required && n.get(p.name) == nil {
			m.add(join(path, p.name), "Missing required property %s under object %s", p.name, object(v.Type(), n))
		}
	}
}

// object is what messages call n, a dictionary of type t: its name when it has one.
func object(t reflect.Type, n *node) string {
	if own := n.get("name"); own != nil && own.kind == kindText && own.text != "" {
		return plain(own.text)
	}
	return title(t)
}

// unknown reports a key that no field has. A key that looks like another field's stands for it:
// that the other one is absent is no second mistake.
func (m *mistakes) unknown(path, parent string, f field, known []string) {
	m.where[path] = f.at
	guess, ok := closest(f.key, known)
	if hint := elsewhere(f.key); !ok && hint != "" {
		m.add(path, "unknown key %s; %s", short(f.key), hint)
		return
	}
	m.add(path, "unknown key %s%s", short(f.key), didYouMean(guess, ok))
	if ok {
		m.mute(join(parent, guess))
	}
}

// elsewhere tells where gantryd has what other systems call key.
func elsewhere(key string) string {
	switch strings.ToLower(key) {
	case "image":
		return "an image is written as repo and tag"
	case "env", "environment":
		return "variables are in environmentVariables, a list of name and value"
	case "volumes", "mounts":
		return "host paths are mounted by bindings"
	case "links", "depends_on", "dependson":
		return "links are in requireComponentLinks and defineComponentLinks"
	case "healthcheck":
		return "checks are in readyChecks and healthChecks"
	case "memory", "cpus", "pids", "mem_limit", "pids_limit":
		return "limits are in resources, as memory, cpus and pids"
	}
	return ""
}

// unique are the fields of n, each key once; the second one of a key is a mistake.
func (m *mistakes) unique(n *node, path string) []field {
	first := make(map[string]pos, len(n.fields))
	out := make([]field, 0, len(n.fields))
	for _, f := range n.fields {
		before, twice := first[f.key]
		if !twice {
			first[f.key] = f.at
			out = append(out, f)
			continue
		}
		m.addAt(f.at, join(path, f.key), "given twice, first on line %d", before.line)
	}
	return out
}

func (m *mistakes) list(v reflect.Value, n *node, path, name string) {
	if n.kind != kindList {
		m.add(path, "Expected list for field %s", name)
		return
	}
	if len(n.items) == 0 {
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		at := index(path, i)
		if want, ok := itemKind(v.Type().Elem()); ok && want != item.kind {
			m.where[at] = item.at
			m.add(at, "Expected items of kind %s in %s", v.Type().Elem().Kind(), name)
			continue
		}
		m.decode(out.Index(i), item, at, name)
	}
	v.Set(out)
}

// itemKind is the kind of node that a list of plain values of type t holds.
func itemKind(t reflect.Type) (kind, bool) {
	switch t.Kind() {
	case reflect.String:
		return kindText, true
	case reflect.Int:
		return kindNumber, true
	default:
		return 0, false
	}
}

// texts reads a dictionary whose keys are the user's own.
func (m *mistakes) texts(v reflect.Value, n *node, path, name string) {
	if n.kind != kindDict {
		m.add(path, "Expected dictionary for field %s", name)
		return
	}
	if len(n.fields) == 0 {
		return
	}
	out := reflect.MakeMap(v.Type())
	for _, f := range m.unique(n, path) {
		value := reflect.New(v.Type().Elem()).Elem()
		m.decode(value, f.value, join(path, f.key), f.key)
		out.SetMapIndex(reflect.ValueOf(f.key), value)
	}
	v.Set(out)
}

func (m *mistakes) scalar(v reflect.Value, n *node, path string) {
	switch v.Kind() {
	case reflect.String:
		if n.kind == kindNumber || n.kind == kindBool {
			m.add(path, "expected a text, found %s: put it in quotes", n)
			return
		}
		if m.is(n, kindText, path, "a text") {
			v.SetString(n.text)
		}
	case reflect.Bool:
		if m.is(n, kindBool, path, "true or false") {
			v.SetBool(n.text == "true")
		}
	case reflect.Int, reflect.Int64:
		if !m.is(n, kindNumber, path, "a whole number") {
			return
		}
		i, err := strconv.ParseInt(n.text, 10, 64)
		if err != nil {
			m.add(path, "expected a whole number, found %s", short(n.text))
			return
		}
		v.SetInt(i)
	case reflect.Float64:
		if !m.is(n, kindNumber, path, "a number") {
			return
		}
		f, err := strconv.ParseFloat(n.text, 64)
		if err != nil {
			m.add(path, "%s is not a number gantryd can hold", short(n.text))
			return
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("config: a project file holds no %s", v.Type()))
	}
}

// is reports whether n is of kind want, and a mistake if not.
func (m *mistakes) is(n *node, want kind, path, words string) bool {
	if n.kind != want {
		m.add(path, "expected %s, found %s", words, n)
	}
	return n.kind == want
}
