package config

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/distribution/reference"

	"github.com/gantryd/gantryd/pkg/component"
)

// namePattern is what components and links may be called: it is part of keys, labels and names of
// containers.
const namePattern = `^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`

var nameRegexp = regexp.MustCompile(namePattern)

const nameWords = `letters, digits, "_", "." and "-", at most 63, the first a letter or a digit`

// project applies every rule to p.
func (m *mistakes) project(p component.Project) {
	m.values(reflect.ValueOf(p), "")
	for i, s := range p.Components {
		m.component(index("components", i), s)
	}
	m.uniqueNames(p)
	m.sharedPorts(p)
	m.links(p)
}

// values checks what no field may hold, whatever it means. A parsed file has little of it.
func (m *mistakes) values(v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			m.values(v.Elem(), path)
		}
	case reflect.Struct:
		for _, p := range properties(v.Type()) {
			m.values(v.Field(p.index), join(path, p.name))
		}
	case reflect.Slice:
		for i := range v.Len() {
			m.values(v.Index(i), index(path, i))
		}
	case reflect.Map:
		for k, value := range v.Seq2() {
			m.text(join(path, k.String()), k.String())
			m.values(value, join(path, k.String()))
		}
	case reflect.String:
		m.text(path, v.String())
	case reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			m.add(path, "%v is not a number gantryd can hold", f)
		}
	case reflect.Int64:
		if v.Type() == reflect.TypeFor[component.Duration]() && v.Int() < 0 {
			m.add(path, "%q is negative", fmt.Sprint(v.Interface()))
		}
	}
}

func (m *mistakes) text(path, s string) {
	switch {
	case strings.ContainsRune(s, 0):
		m.add(path, "a text must not hold the character NUL")
	case !utf8.ValidString(s):
		m.add(path, "a text must be UTF-8")
	}
}

// component applies the rules that need no other component. s is a copy.
func (m *mistakes) component(path string, s component.Spec) {
	m.required(path, "name", s.Name, "Component")
	m.named(path+".name", s.Name)
	m.image(path, s)
	m.process(path, s)
	m.ports(path, s)
	m.checks(path+".readyChecks", s.ReadyChecks, gating)
	m.checks(path+".healthChecks", s.HealthChecks, gating)
	m.checks(path+".terminationChecks", s.TerminationChecks, terminating)
	m.signals(path+".terminationSignals", s.TerminationSignals)
	m.mounts(path, s)
	m.environment(path+".environmentVariables", s.EnvironmentVariables)
	m.exports(path+".defineComponentLinks", s.DefineComponentLinks)
	m.imports(path+".requireComponentLinks", s.RequireComponentLinks)
	m.limits(path, s)
	m.network(path, s)
	m.labels(path, s)
	m.timing(path, s)
}

// required reports that field is missing when value is the empty text.
func (m *mistakes) required(path, field, value, of string) {
	switch at := join(path, field); {
	case value != "":
	case m.has(at):
		m.add(at, "must not be empty")
	default:
		m.add(at, "Missing required property %s under object %s", field, plain(of))
	}
}

func (m *mistakes) named(path, name string) {
	if name != "" && !nameRegexp.MatchString(name) {
		m.add(path, "%s is not a name: %s", short(name), nameWords)
	}
}

// oneOf reports a value that is not in known; the empty text is not given.
func (m *mistakes) oneOf(path, value string, known ...string) {
	if value == "" && !m.has(path) || slices.Contains(known, value) {
		return
	}
	guess, ok := closest(value, known)
	m.add(path, "%s is not one of %s%s", short(value), strings.Join(known, ", "), didYouMean(guess, ok))
}

func (m *mistakes) image(path string, s component.Spec) {
	m.required(path, "repo", s.Repo, or(s.Name, "Component"))
	if s.Repo == "" {
		return
	}
	named, err := reference.ParseNormalizedNamed(s.Repo)
	if err != nil {
		m.add(path+".repo", "%s is not a repository: %s", short(s.Repo), reason(err))
		return
	}
	if d, ok := named.(reference.Digested); ok {
		m.add(path+".repo", "holds the digest %s; a digest is pinned when the component is updated, not here", d.Digest())
		return
	}
	if t, ok := named.(reference.Tagged); ok {
		m.add(path+".repo", "holds a tag: write %q as repo and %q as tag", strings.TrimSuffix(s.Repo, ":"+t.Tag()), t.Tag())
		return
	}
	if s.Tag == "" {
		return
	}
	if _, err := reference.WithTag(named, s.Tag); err != nil {
		m.add(path+".tag", "%s is not a tag: letters, digits, \"_\", \".\" and \"-\", at most 128, the first not \".\" or \"-\"", short(s.Tag))
	}
}

// reason is what the library says, without the words that say only that it is an error.
func reason(err error) string {
	const prefix = "invalid reference format"
	s := strings.TrimPrefix(err.Error(), prefix)
	s = strings.TrimPrefix(s, ": ")
	return or(s, "it is lower-case letters and digits, parts joined by \"/\", \".\", \"_\" or \"-\"")
}

func or(s, unset string) string {
	if s == "" {
		return unset
	}
	return s
}

func (m *mistakes) environment(path string, vars []component.EnvVar) {
	first := map[string]int{}
	for i, v := range vars {
		at := index(path, i)
		m.required(at, "name", v.Name, "Environment Variable")
		if strings.Contains(v.Name, "=") {
			m.add(at+".name", "%s is not the name of a variable: it holds \"=\"", short(v.Name))
		}
		if before, twice := first[v.Name]; twice && v.Name != "" {
			m.add(at+".name", "%s is set twice, first by %s", short(v.Name), index(path, before))
			continue
		}
		first[v.Name] = i
	}
}

func (m *mistakes) labels(path string, s component.Spec) {
	const reserved = "dev.gantryd."
	for _, key := range sortedKeys(s.Labels) {
		switch at := join(path+".labels", key); {
		case key == "":
			m.add(at, "a label has a name")
		case strings.HasPrefix(key, reserved):
			m.add(at, "the prefix %s is reserved", reserved)
		}
	}
	if s.Logging.Driver == "" && len(s.Logging.Options) > 0 {
		m.add(path+".logging.options", "options need a driver")
	}
	for _, key := range sortedKeys(s.Logging.Options) {
		if key == "" {
			m.add(join(path+".logging.options", key), "an option has a name")
		}
	}
}
