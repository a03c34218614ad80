package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

// An OverrideError says why an override cannot be applied. It shows no value of a text, which may
// be a secret.
type OverrideError struct {
	Field  string // what stands before the first =
	Reason string
}

// Error is the reason with the field.
func (e *OverrideError) Error() string {
	return fmt.Sprintf("apply override %s: %s", short(e.Field), e.Reason)
}

// Override applies overrides to spec, in order, and returns the result, which shares no memory
// with it. The forms of an override are
//
//	FIELD=VALUE             sets a plain field; adds VALUE to a list of plain values
//	FIELD.SUB=VALUE         sets a field of a group, or a key of a dictionary
//	LIST.NAME=VALUE         sets the main field of the entry called NAME, which is added when there is none
//	LIST.NAME.SUB=VALUE     sets any field of that entry
//
// The first = outside quotes ends the field; VALUE is taken as it is. A name that holds a dot or
// an = is written in double quotes, inside which a backslash takes the next character as it is.
//
// The error is an *OverrideError. The result may break rules: Validate tells.
func Override(spec component.Spec, overrides []string) (component.Spec, error) {
	out := clone(reflect.ValueOf(&spec).Elem())
	for _, o := range overrides {
		field, path, value, err := splitOverride(o)
		if err == nil {
			err = override(out, path, value)
		}
		if err != nil {
			return component.Spec{}, &OverrideError{Field: field, Reason: err.Error()}
		}
	}
	result, ok := reflect.TypeAssert[component.Spec](out)
	if !ok {
		panic("config: a clone is of the same type")
	}
	return result, nil
}

// OverrideKey is the first key of an override's field, without its quotes; empty when it has none.
func OverrideKey(o string) string {
	key, _, err := overrideKey(o)
	if err != nil {
		return ""
	}
	return key
}

// splitOverride takes o apart. field is the text of path as it was written.
func splitOverride(o string) (field string, path []string, value string, err error) {
	rest := o
	for {
		var key string
		if key, rest, err = overrideKey(rest); err != nil {
			return cutValue(o), nil, "", err
		}
		path = append(path, key)
		if strings.HasPrefix(rest, "=") {
			return o[:len(o)-len(rest)], path, rest[1:], nil
		}
		rest = rest[1:]
	}
}

// cutValue is o without what may be its value.
func cutValue(o string) string {
	field, _, _ := strings.Cut(o, "=")
	return field
}

// overrideKey is the first key of s, and the rest, which starts with a dot or an =.
func overrideKey(s string) (key, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return quotedKey(s[1:])
	}
	end := strings.IndexAny(s, `.=`)
	switch {
	case end < 0:
		return "", "", errors.New("expected FIELD=VALUE")
	case end == 0:
		return "", "", errors.New("a name is empty")
	case strings.Contains(s[:end], `"`):
		return "", "", errors.New("a quote must be at the start of a name")
	}
	return s[:end], s[end:], nil
}

// quotedKey reads up to the closing quote; the opening one is gone.
func quotedKey(s string) (key, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c != '"':
			b.WriteByte(c)
		case b.Len() == 0:
			return "", "", errors.New("a name is empty")
		case i+1 == len(s) || s[i+1] != '.' && s[i+1] != '=':
			return "", "", errors.New("after a closing quote comes a dot or an =")
		default:
			return b.String(), s[i+1:], nil
		}
	}
	return "", "", errors.New("a quote is not closed")
}

// override sets what path names inside v, a struct.
func override(v reflect.Value, path []string, value string) error {
	props := properties(v.Type())
	name, rest := path[0], path[1:]
	p, ok := find(props, name)
	if !ok {
		guess, near := closest(name, names(props))
		return fmt.Errorf("No field named %s found%s", name, didYouMean(guess, near)) //nolint:staticcheck // the original's words
	}
	f := v.Field(p.index)
	switch f.Kind() {
	case reflect.Slice:
		if f.Type().Elem().Kind() == reflect.Struct {
			return overrideEntry(f, name, rest, value)
		}
		if len(rest) > 0 {
			return fmt.Errorf("Found list field %s, expected simply the list name", name) //nolint:staticcheck // the original's words
		}
		return appendText(f, name, value)
	case reflect.Map:
		return overrideKeyed(f, name, rest, value)
	case reflect.Struct:
		if len(rest) == 0 {
			return fmt.Errorf("%s is a group: name one of its fields, such as %s.%s", name, name, properties(f.Type())[0].name)
		}
		return override(f, rest, value)
	default:
		if len(rest) > 0 {
			return fmt.Errorf("Cannot access named keys under %s", name) //nolint:staticcheck // the original's words
		}
		return setText(f, name, value)
	}
}

// entryFields are the fields by which overrides know an entry of a list: the one that names it and
// the one a bare value is for, if any.
func entryFields(t reflect.Type) (name, value string) {
	switch t {
	case reflect.TypeFor[component.Port]():
		return "external", "container"
	case reflect.TypeFor[component.Check](), reflect.TypeFor[component.Signal]():
		return "id", "kind"
	case reflect.TypeFor[component.Binding]():
		return "external", "volume"
	case reflect.TypeFor[component.LinkDefinition]():
		return "name", "port"
	case reflect.TypeFor[component.LinkRequest]():
		return "name", "alias"
	case reflect.TypeFor[component.EnvVar]():
		return "name", "value"
	case reflect.TypeFor[component.Ulimit]():
		return "name", ""
	case reflect.TypeFor[component.KeyPair]():
		return "cert", "key"
	}
	return "", ""
}

// overrideEntry sets what rest names in list, which is called name.
func overrideEntry(list reflect.Value, name string, rest []string, value string) error {
	t := list.Type().Elem()
	nameField, valueField := entryFields(t)
	props := properties(t)
	by, ok := find(props, nameField)
	if !ok {
		return fmt.Errorf("List field %s does not support overrides by name", name) //nolint:staticcheck // the original's words
	}
	if len(rest) == 0 {
		return fmt.Errorf("%s is a list of entries: name one by its %s, as in %s.NAME=VALUE", name, nameField, name)
	}
	entry := reflect.New(t).Elem()
	if err := setText(entry.Field(by.index), nameField, rest[0]); err != nil {
		return err
	}
	entry, err := entryOf(list, name, entry, by.index)
	if err != nil {
		return err
	}
	if len(rest) > 1 {
		return override(entry, rest[1:], value)
	}
	p, ok := find(props, valueField)
	if !ok {
		return fmt.Errorf("No default value field found for config %s", rest[0]) //nolint:staticcheck // the original's words
	}
	return setText(entry.Field(p.index), valueField, value)
}

// entryOf is the entry of list whose naming field, number by, is that of like; like itself is
// added when there is none. The default of terminationChecks stays when a check is added to it.
func entryOf(list reflect.Value, name string, like reflect.Value, by int) (reflect.Value, error) {
	if name == "terminationChecks" && list.IsNil() {
		list.Set(reflect.Append(list, reflect.ValueOf(component.Check{Kind: component.CheckConnection})))
	}
	var found []reflect.Value
	for i := range list.Len() {
		if list.Index(i).Field(by).Equal(like.Field(by)) {
			found = append(found, list.Index(i))
		}
	}
	switch len(found) {
	case 0:
		list.Set(reflect.Append(list, like))
		return list.Index(list.Len() - 1), nil
	case 1:
		return found[0], nil
	}
	return reflect.Value{}, fmt.Errorf("%d entries of %s are called %v: change the file to tell them apart", len(found), name, like.Field(by))
}

// overrideKeyed sets a key of dict, a dictionary of the user's own keys.
func overrideKeyed(dict reflect.Value, name string, rest []string, value string) error {
	switch {
	case len(rest) == 0:
		return fmt.Errorf("%s is a dictionary: name a key, as in %s.KEY=VALUE", name, name)
	case len(rest) > 1:
		return fmt.Errorf("Cannot access named keys under %s; a key that holds dots is written in quotes", rest[0]) //nolint:staticcheck // the original's words
	}
	v := reflect.New(dict.Type().Elem()).Elem()
	if err := setText(v, rest[0], value); err != nil {
		return err
	}
	if dict.IsNil() {
		dict.Set(reflect.MakeMap(dict.Type()))
	}
	dict.SetMapIndex(reflect.ValueOf(rest[0]), v)
	return nil
}

func appendText(list reflect.Value, name, value string) error {
	item := reflect.New(list.Type().Elem()).Elem()
	if err := setText(item, name, value); err != nil {
		return err
	}
	list.Set(reflect.Append(list, item))
	return nil
}

// setText sets v, a plain value called name, from text. Errors do not show the text.
func setText(v reflect.Value, name, text string) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		switch strings.ToLower(text) {
		case "true", "false":
			v.SetBool(strings.EqualFold(text, "true"))
		default:
			return fmt.Errorf("%s is true or false, not %s", name, short(text))
		}
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%s is a whole number, not %s", name, short(text))
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%s is a number, not %s", name, short(text))
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("config: a project file holds no %s", v.Type()))
	}
	return nil
}

// clone is a deep copy of v that can be set.
func clone(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(clone(v.Elem()))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(clone(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for k, e := range v.Seq2() {
				out.SetMapIndex(k, clone(e))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(clone(v.Field(i)))
		}
	}
	return out
}
