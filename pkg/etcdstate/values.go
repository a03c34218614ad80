package etcdstate

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/gantryd/gantryd/pkg/component"
)

// maxValue bounds what is read from and written to one key. etcd itself refuses requests above 1.5 MiB.
const maxValue = 1 << 20

// The values that hosts write. Operation recognises one's own write after an error.
type (
	turnValue struct {
		Host       string `json:"host"`
		Generation int64  `json:"generation"`
		Repair     bool   `json:"repair,omitempty"`
		Task       bool   `json:"task,omitempty"` // to run the pre-deploy task
		Operation  string `json:"operation,omitempty"`
	}
	rolloutValue struct {
		component.Rollout
		Operation string `json:"operation,omitempty"`
	}
	hostValue struct {
		component.HostStatus
		Operation string `json:"operation,omitempty"`
	}
	machineValue struct {
		component.Machine
		Operation string `json:"operation,omitempty"`
	}
)

// newID is an ID that no one else has.
func newID() string { return rand.Text() }

// encode is the JSON of v, refused when a key should not hold it.
func encode(key string, v any) (string, error) {
	b, err := json.Marshal(v)
	if err == nil && len(b) > maxValue {
		err = fmt.Errorf("%d bytes are more than %d", len(b), maxValue)
	}
	if err != nil {
		return "", fmt.Errorf("write %q: %w", key, err)
	}
	return string(b), nil
}

// decode reads the JSON of a key into v. Fields it does not know are those of a newer version.
func decode(key string, raw []byte, v any) error {
	if len(raw) > maxValue {
		return fmt.Errorf("read %q: %d bytes are more than %d", key, len(raw), maxValue)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	return nil
}

// decodeDesired reads the value of a state key.
func decodeDesired(key string, raw []byte, generation int64) (component.Desired, error) {
	var d component.Desired
	if err := decode(key, raw, &d); err != nil {
		return component.Desired{}, err
	}
	switch d.Status {
	case "", component.StatusReady, component.StatusStopped, component.StatusKilled:
	default:
		return component.Desired{}, fmt.Errorf("read %q: status %q is none of ready, stopped, killed", key, d.Status)
	}
	d.Generation = generation
	return d, nil
}

// mergeDesired is the value of a state key after d was written over raw. What a newer version
// wrote is kept; so is a release that is only stopped or killed.
func mergeDesired(key string, raw []byte, d component.Desired) (string, error) {
	was := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &was); err != nil || was == nil {
		was = map[string]json.RawMessage{} // absent, or not an object: nothing in it to keep
	}
	whole, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("write %q: %w", key, err)
	}
	now := map[string]json.RawMessage{}
	if err := json.Unmarshal(whole, &now); err != nil {
		return "", fmt.Errorf("write %q: %w", key, err)
	}
	fields := []string{"status", "operation", "by", "at", "reason", "command", "from", "source", "automatic", "prepared", "follows", "together"}
	if d.Status == component.StatusReady {
		fields = append(fields, "imageid", "image", "spec", "restart")
	}
	for _, f := range fields {
		delete(was, f)
		if v, ok := now[f]; ok {
			was[f] = v
		}
	}
	return encode(key, was)
}

// projectConfig is what could be read of a project's config.
type projectConfig struct {
	specs map[string]component.Spec
	order []string         // names in specs, as in the file
	bad   map[string]error // components that do not parse
	err   error            // the whole does not parse
}

// decodeConfig reads a config component by component, so that one mistake stops one component. What
// does not parse keeps its last good form, if it had one.
func decodeConfig(key string, raw []byte, last projectConfig) projectConfig {
	var list struct {
		Components []json.RawMessage `json:"components"`
	}
	if err := decode(key, raw, &list); err != nil {
		last.err = err
		return last
	}
	c := projectConfig{specs: map[string]component.Spec{}, bad: map[string]error{}}
	for i, raw := range list.Components {
		var spec component.Spec
		err := json.Unmarshal(raw, &spec)
		if err == nil {
			err = checkName("component", spec.Name)
		}
		if err == nil {
			c.add(spec)
			continue
		}
		var named struct {
			Name string `json:"name"`
		}
		if json.Unmarshal(raw, &named) != nil || named.Name == "" {
			named.Name = fmt.Sprintf("components[%d]", i)
		}
		c.bad[named.Name] = fmt.Errorf("read %q: component %q: %w", key, named.Name, err)
		if spec, ok := last.specs[named.Name]; ok {
			c.add(spec)
		}
	}
	return c
}

func (c *projectConfig) add(spec component.Spec) {
	if _, ok := c.specs[spec.Name]; !ok {
		c.order = append(c.order, spec.Name)
	}
	c.specs[spec.Name] = spec
}

// problem is why the config says nothing, or something old, about a component.
func (c projectConfig) problem(name string) error {
	if c.err != nil {
		return c.err
	}
	return c.bad[name]
}

// problems is everything wrong with the config, or nil.
func (c projectConfig) problems() error {
	errs := []error{c.err}
	for _, err := range c.bad {
		errs = append(errs, err)
	}
	return together(errs)
}

// together is one error of all errs, nil when there are none.
func together(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	all := &multierror.Error{ErrorFormat: oneLine}
	return multierror.Append(all, errs...).ErrorOrNil()
}

func oneLine(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// clone is a copy of v that shares nothing with it. It follows pointers, slices and maps of plain
// data, which is all that component's values are made of.
func clone[T any](v T) T {
	var c T
	copyInto(reflect.ValueOf(&c).Elem(), reflect.ValueOf(&v).Elem())
	return c
}

func copyInto(dst, src reflect.Value) {
	dst.Set(src)
	switch src.Kind() {
	case reflect.Pointer:
		if !src.IsNil() {
			dst.Set(reflect.New(src.Type().Elem()))
			copyInto(dst.Elem(), src.Elem())
		}
	case reflect.Slice:
		if !src.IsNil() {
			dst.Set(reflect.MakeSlice(src.Type(), src.Len(), src.Len()))
			for i := range src.Len() {
				copyInto(dst.Index(i), src.Index(i))
			}
		}
	case reflect.Map:
		if !src.IsNil() {
			dst.Set(reflect.MakeMapWithSize(src.Type(), src.Len()))
			for it := src.MapRange(); it.Next(); {
				v := reflect.New(src.Type().Elem()).Elem()
				copyInto(v, it.Value())
				dst.SetMapIndex(it.Key(), v)
			}
		}
	case reflect.Struct:
		for i := range src.NumField() {
			if src.Type().Field(i).IsExported() { // time.Time has none: it is copied whole above
				copyInto(dst.Field(i), src.Field(i))
			}
		}
	default:
	}
}
