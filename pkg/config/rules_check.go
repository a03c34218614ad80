package config

import (
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/google/shlex"
	"golang.org/x/net/http/httpguts"

	"github.com/gantryd/gantryd/pkg/component"
)

// purpose is what a list of checks is for.
type purpose int

const (
	gating      purpose = iota // whether a container may take or keep traffic
	terminating                // whether a draining container may be stopped
)

// Bounds of what a check may ask for.
const (
	maxWait     = 24 * 60 * 60 // seconds
	maxRetries  = 1000
	minInterval = 10_000_000 // nanoseconds: ten milliseconds
)

func (m *mistakes) checks(path string, checks []component.Check, use purpose) {
	for i, c := range checks {
		m.check(index(path, i), c, use)
	}
}

func (m *mistakes) check(path string, c component.Check, use purpose) {
	m.required(path, "kind", c.Kind, "Health Check")
	if c.Kind == "" {
		return
	}
	fields, ok := checkFields(c.Kind)
	switch {
	case !ok:
		guess, near := closest(c.Kind, checkKinds())
		m.add(path+".kind", "Unknown health check: %s%s", plain(c.Kind), didYouMean(guess, near))
	case c.Kind == component.CheckConnection && use != terminating:
		m.add(path+".kind", "a check of kind connection is for terminationChecks: a new container has no connections yet")
	}
	if ok {
		m.request(path, "check", c.Kind, fields, request{
			port: c.Port, path: c.Path, headers: c.Headers, command: c.Command, execCommand: c.ExecCommand,
		})
		m.belongs(path+".expectStatus", "check", c.Kind, len(c.ExpectStatus) > 0, slices.Contains(fields, "expectStatus"))
		m.belongs(path+".service", "check", c.Kind, c.Service != "", slices.Contains(fields, "service"))
	}
	for i, code := range c.ExpectStatus {
		if code < 100 || code > 599 {
			m.add(index(path+".expectStatus", i), "%d is not a status code", code)
		}
	}
	m.wait(path+".timeout", c.Timeout)
	if c.Interval > 0 && c.Interval < minInterval {
		m.add(path+".interval", "%s is too often: the shortest interval is 10ms", c.Interval)
	}
	if c.Retries < 0 || c.Retries > maxRetries {
		m.add(path+".retries", "%d is out of range: 0 to %d", c.Retries, maxRetries)
	}
}

func (m *mistakes) signals(path string, signals []component.Signal) {
	for i, s := range signals {
		at := index(path, i)
		m.required(at, "kind", s.Kind, "Termination Signal")
		if s.Kind == "" {
			continue
		}
		m.wait(at+".timeout", s.Timeout)
		fields, ok := signalFields(s.Kind)
		if !ok {
			guess, near := closest(s.Kind, signalKinds())
			m.add(at+".kind", "Unknown termination signal kind: %s%s", plain(s.Kind), didYouMean(guess, near))
			continue
		}
		m.request(at, "signal", s.Kind, fields, request{
			port: s.Port, path: s.Path, headers: s.Headers, command: s.Command, execCommand: s.ExecCommand,
		})
	}
}

func checkKinds() []string {
	return []string{
		component.CheckHTTP, component.CheckHTTPS, component.CheckTCP, component.CheckConnection,
		component.CheckExec, component.CheckDocker, component.CheckGRPC,
	}
}

func signalKinds() []string {
	return []string{component.CheckHTTP, component.CheckHTTPS, component.CheckExec}
}

// checkFields are the fields that mean something for a kind of check, beside those of every kind.
func checkFields(kind string) ([]string, bool) {
	switch kind {
	case component.CheckHTTP, component.CheckHTTPS:
		return []string{"port", "path", "headers", "expectStatus"}, true
	case component.CheckTCP:
		return []string{"port"}, true
	case component.CheckGRPC:
		return []string{"port", "service"}, true
	case component.CheckExec:
		return []string{"command", "exec_command"}, true
	case component.CheckConnection, component.CheckDocker:
		return nil, true
	}
	return nil, false
}

// signalFields are the fields that mean something for a kind of signal.
func signalFields(kind string) ([]string, bool) {
	switch kind {
	case component.CheckHTTP, component.CheckHTTPS:
		return []string{"port", "path", "headers"}, true
	case component.CheckExec:
		return []string{"command", "exec_command"}, true
	}
	return nil, false
}

// A request is what checks and signals have in common.
type request struct {
	port        int
	path        string
	headers     map[string]string
	command     []string
	execCommand string
}

// request checks r, which is a check or signal (what) of kind that has fields.
func (m *mistakes) request(path, what, kind string, fields []string, r request) {
	given := func(name string, set bool) bool {
		return m.belongs(join(path, name), what, kind, set, slices.Contains(fields, name))
	}
	switch {
	case given("port", r.port != 0 || m.has(path+".port")):
		m.port(path+".port", r.port)
	case slices.Contains(fields, "port"):
		m.add(path+".port", "a %s of kind %s needs a port", what, kind)
	}
	if given("path", r.path != "") {
		m.urlPath(path+".path", r.path)
	}
	if given("headers", len(r.headers) > 0) {
		m.headers(path+".headers", r.headers)
	}
	argv := given("command", len(r.command) > 0 || m.has(path+".command"))
	line := given("exec_command", r.execCommand != "" || m.has(path+".exec_command"))
	switch {
	case !slices.Contains(fields, "command"):
	case argv && line:
		m.add(path+".exec_command", "give command or exec_command, not both")
	case argv && len(r.command) == 0:
		m.add(path+".command", "must not be empty")
	case argv:
		m.argv(path+".command", r.command)
	case line:
		m.shellWords(path+".exec_command", r.execCommand)
	default:
		m.add(path+".command", "a %s of kind %s needs command or exec_command", what, kind)
	}
}

// belongs reports a field that is set but means nothing for kind. It answers whether the field is
// set and means something.
func (m *mistakes) belongs(path, what, kind string, set, known bool) bool {
	if set && !known {
		field := path[strings.LastIndexByte(path, '.')+1:]
		m.add(path, "%s means nothing for a %s of kind %s", field, what, kind)
	}
	return set && known
}

func (m *mistakes) urlPath(path, value string) {
	switch {
	case !strings.HasPrefix(value, "/"):
		m.add(path, "%s does not start with \"/\"", short(value))
	case strings.ContainsFunc(value, func(r rune) bool { return r == ' ' || unicode.IsControl(r) }):
		m.add(path, "%s holds a space or a control character: write it as %%20 and the like", short(value))
	default:
		if _, err := url.ParseRequestURI(value); err != nil {
			m.add(path, "%s is not the path of a URL", short(value))
		}
	}
}

func (m *mistakes) headers(path string, headers map[string]string) {
	seen := map[string]string{}
	for _, name := range sortedKeys(headers) {
		at := join(path, name)
		if !httpguts.ValidHeaderFieldName(name) {
			m.add(at, "%s is not the name of a header", short(name))
		} else if !httpguts.ValidHeaderFieldValue(headers[name]) {
			m.add(at, "the value holds a character that no header may")
		}
		low := strings.ToLower(name)
		if before, twice := seen[low]; twice {
			m.add(at, "the same header as %s: case makes no difference", short(before))
			continue
		}
		seen[low] = name
	}
}

// wait checks a number of seconds; zero is not given.
func (m *mistakes) wait(path string, seconds float64) {
	const shortest = 0.01
	if seconds != 0 && (seconds < shortest || seconds > maxWait) {
		m.add(path, "%v is out of range: %v to %d seconds", seconds, shortest, maxWait)
	}
}

func (m *mistakes) argv(path string, argv []string) {
	if len(argv) > 0 && argv[0] == "" {
		m.add(index(path, 0), "the name of the program is empty")
	}
}

func (m *mistakes) shellWords(path, line string) {
	switch words, err := shlex.Split(line); {
	case err != nil:
		m.add(path, "%s cannot be split into words: %s", short(line), strings.ToLower(err.Error()))
	case len(words) == 0:
		m.add(path, "%s holds no command", short(line))
	}
}
