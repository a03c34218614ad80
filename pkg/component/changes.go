package component

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A Change is one field that differs between two releases. A side that does not have it is empty.
type Change struct {
	Field string `json:"field"` // such as image, or environmentVariables.LOG.value
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
}

// Changes lists what differs from a to b: the image first, then the fields of the configuration by
// name. Entries of lists go by their name where they have one, so that a new one in front does not
// look like a change of all; that their order is another is a change of its own. A list of plain
// values is one field. An empty list is [] and an empty text "", which absent ones are not.
func Changes(a, b Release) []Change {
	var out []Change
	if a.ImageID != b.ImageID {
		out = append(out, Change{"image", a.imageTitle(), b.imageTitle()})
	}
	from, to := a.Spec.fields(), b.Spec.fields()
	for path, before := range from.orders {
		if x, y := common(before, to.orders[path]); x != y {
			path += " (order)"
			from.values[path], to.values[path] = x, y
		}
	}
	names := maps.Clone(from.values)
	maps.Copy(names, to.values)
	for _, f := range slices.Sorted(maps.Keys(names)) {
		if from.values[f] != to.values[f] {
			out = append(out, Change{f, from.values[f], to.values[f]})
		}
	}
	if a.Restart != b.Restart {
		out = append(out, Change{"restart", a.Restart, b.Restart})
	}
	return out
}

// common are the entries that both lists have, as each has them in order.
func common(a, b []string) (string, string) {
	in := func(list []string) func(string) bool {
		return func(e string) bool { return !slices.Contains(list, e) }
	}
	a, b = slices.DeleteFunc(slices.Clone(a), in(b)), slices.DeleteFunc(slices.Clone(b), in(a))
	return strings.Join(a, ", "), strings.Join(b, ", ")
}

// imageTitle is the image for people, empty when there is none.
func (r Release) imageTitle() string {
	if r.ImageID == "" {
		return ""
	}
	if r.Image.Ref == "" {
		return Short(r.ImageID)
	}
	return r.Image.Ref + " (" + Short(r.ImageID) + ")"
}

// settings are those of a Spec, each with its path.
type settings struct {
	values map[string]string
	orders map[string][]string // of lists: the titles of their entries
}

// fields are the settings of s; an empty one has none.
func (s Spec) fields() settings {
	out := settings{map[string]string{}, map[string][]string{}}
	if reflect.DeepEqual(s, Spec{}) {
		return out
	}
	b, err := json.Marshal(s)
	var tree any
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber() // 1000000 is not 1e+06
		err = d.Decode(&tree)
	}
	if err != nil {
		panic(fmt.Sprintf("component: a Spec is always JSON: %v", err))
	}
	out.flatten("", tree)
	return out
}

func (s settings) flatten(path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			s.flatten(dotted(path, k), e)
		}
	case []any:
		if plain(v) {
			s.values[path] = compact(v)
			return
		}
		s.orders[path] = titles(v)
		for i, e := range v {
			s.flatten(dotted(path, s.orders[path][i]), e)
		}
	case string:
		s.values[path] = v
		if v == "" {
			s.values[path] = `""`
		}
	default:
		s.values[path] = fmt.Sprint(v)
	}
}

// plain reports whether the list has no entries with fields of their own.
func plain(list []any) bool {
	return !slices.ContainsFunc(list, func(e any) bool { _, object := e.(map[string]any); return object })
}

// compact is the list as JSON.
func compact(list []any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(list); err != nil {
		panic(fmt.Sprintf("component: what was JSON is JSON: %v", err))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func dotted(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// titles are names for the entries of a list: what identifies each, or its number when two of them
// have the same.
func titles(list []any) []string {
	out := make([]string, len(list))
	count := map[string]int{}
	for i, e := range list {
		entry, _ := e.(map[string]any)
		for _, key := range []string{"name", "id", "external", "kind"} {
			if t, ok := entry[key]; ok {
				out[i] = fmt.Sprint(t)
				break
			}
		}
		count[out[i]]++
	}
	for i, t := range out {
		if t == "" || count[t] > 1 {
			out[i] = strconv.Itoa(i)
		}
	}
	return out
}
