package config_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-multierror"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
)

// told are the mistakes in err as "path: message".
func told(err error) []string {
	var out []string
	for _, m := range config.Mistakes(err) {
		out = append(out, m.Path+": "+m.Message)
	}
	return out
}

// TestMistakes gives one component, called web, a mistake each. Paths are inside that component.
func TestMistakes(t *testing.T) {
	tests := []struct {
		name, fields string
		want         []string
	}{
		{"unknown key", `readyCheks: []`, []string{`readyCheks: unknown key "readyCheks"; did you mean "readyChecks"?`}},
		{"key in another case", `Ports: []`, []string{`Ports: unknown key "Ports"; did you mean "ports"?`}},
		{"key like nothing", `colour: red`, []string{`colour: unknown key "colour"`}},
		{"key of another system", `environment: {A: b}`, []string{`environment: unknown key "environment"; variables are in environmentVariables, a list of name and value`}},
		{"key with dots", `"a.b": c`, []string{`["a.b"]: unknown key "a.b"`}},
		{"key twice", "tag: a\n    tag: b", []string{`tag: given twice, first on line 4`}},
		{"no value", `ports:`, []string{`ports: has no value: give it one or leave ports out`}},

		{"text for list", `command: run`, []string{`command: Expected list for field command`}},
		{"dictionary for list", `ports: {external: 1}`, []string{`ports: Expected list for field ports`}},
		{"list for dictionary", `resources: []`, []string{`resources: Expected dictionary for field resources`}},
		{"text for entry", `ports: ["80:80"]`, []string{`ports[0]: Expected dictionary for field ports`}},
		{"list for texts", `labels: [a]`, []string{`labels: Expected dictionary for field labels`}},
		{"number in texts", `command: [a, 1]`, []string{`command[1]: Expected items of kind string in command`}},
		{"text in numbers", `readyChecks: [{kind: http, port: 1, expectStatus: [ok]}]`, []string{`readyChecks[0].expectStatus[0]: Expected items of kind int in expectStatus`}},
		{"number for text", `tag: 1.10`, []string{`tag: expected a text, found the number 1.1: put it in quotes`}},
		{"boolean for text", `user: true`, []string{`user: expected a text, found true: put it in quotes`}},
		{"list for text", `user: [a]`, []string{`user: expected a text, found a list`}},
		{"text for boolean", `privileged: "false"`, []string{`privileged: expected true or false, found the text "false"`}},
		{"text for number", `readyTimeout: "10"`, []string{`readyTimeout: expected a whole number, found the text "10"`}},
		{"fraction", `readyTimeout: 1.5`, []string{`readyTimeout: expected a whole number, found "1.5"`}},
		{"huge number", `readyTimeout: 99999999999999999999`, []string{`readyTimeout: expected a whole number, found "1e+20"`}},
		{"number for duration", `stopTimeout: 10`, []string{`stopTimeout: expected a duration with its unit, such as "10s", found the number 10`}},
		{"list for duration", `stopTimeout: []`, []string{`stopTimeout: expected a duration such as "30s", found a list`}},
		{"bad duration", `drain: {timeout: soon}`, []string{`drain.timeout: "soon" is not a duration such as "30s"`}},
		{"negative duration", `rollout: {bake: -1s}`, []string{`rollout.bake: "-1s" is negative`}},

		{"empty tag and bad repo", `tag: a b`, []string{`tag: "a b" is not a tag: letters, digits, "_", "." and "-", at most 128, the first not "." or "-"`}},
		{"NUL", `user: "a\0b"`, []string{`user: a text must not hold the character NUL`}},
		{"user", `user: "a b"`, []string{`user: "a b" is not a user: it holds a space`}},
		{"empty program", `command: [""]`, []string{`command[0]: the name of the program is empty`}},
		{"working directory", `workingDir: srv`, []string{`workingDir: "srv" is not an absolute path`}},
		{"host name", `hostname: a_b`, []string{`hostname: "a_b" is not a host name: letters, digits and "-", parts joined by ".", at most 63`}},

		{"port out of range", `ports: [{external: 70000, container: 0}]`, []string{`ports[0].external: 70000 is not a port`, `ports[0].container: 0 is not a port`}},
		{"port incomplete", `ports: [{kind: tcp}]`, []string{
			`ports[0].external: Missing required property external under object Port Mapping`,
			`ports[0].container: Missing required property container under object Port Mapping`,
		}},
		{"misspelled port", `ports: [{external: 80, contaner: 80}]`, []string{`ports[0].contaner: unknown key "contaner"; did you mean "container"?`}},
		{"port kind", `ports: [{external: 80, container: 80, kind: HTTP}]`, []string{`ports[0].kind: "HTTP" is not one of tcp, http; did you mean "http"?`}},
		{"external port twice", `ports: [{external: 80, container: 80}, {external: 80, container: 81}]`, []string{`ports[1].external: external port 80 is taken by components[0].ports[0], of component "web"; a match on both could tell them apart`}},

		{"check without kind", `readyChecks: [{port: 80}]`, []string{`readyChecks[0].kind: Missing required property kind under object Health Check`}},
		{"empty kind", `readyChecks: [{kind: ""}]`, []string{`readyChecks[0].kind: must not be empty`}},
		{"unknown check", `readyChecks: [{kind: htpp, port: 80}]`, []string{`readyChecks[0].kind: Unknown health check: htpp; did you mean "http"?`}},
		{"check in capitals", `readyChecks: [{kind: TCP, port: 80}]`, []string{`readyChecks[0].kind: Unknown health check: TCP; did you mean "tcp"?`}},
		{"check like nothing", `readyChecks: [{kind: icmp, port: 80}]`, []string{`readyChecks[0].kind: Unknown health check: icmp`}},
		{"check without port", `healthChecks: [{kind: http}]`, []string{`healthChecks[0].port: a check of kind http needs a port`}},
		{"check with port 0", `healthChecks: [{kind: tcp, port: 0}]`, []string{`healthChecks[0].port: 0 is not a port`}},
		{"connection before there are any", `readyChecks: [{kind: connection}]`, []string{`readyChecks[0].kind: a check of kind connection is for terminationChecks: a new container has no connections yet`}},
		{"docker with port", `healthChecks: [{kind: docker, port: 80}]`, []string{`healthChecks[0].port: port means nothing for a check of kind docker`}},
		{"tcp with path", `healthChecks: [{kind: tcp, port: 80, path: /}]`, []string{`healthChecks[0].path: path means nothing for a check of kind tcp`}},
		{"grpc with status", `healthChecks: [{kind: grpc, port: 80, expectStatus: [200]}]`, []string{`healthChecks[0].expectStatus: expectStatus means nothing for a check of kind grpc`}},
		{"http with service", `healthChecks: [{kind: http, port: 80, service: a}]`, []string{`healthChecks[0].service: service means nothing for a check of kind http`}},
		{"exec without command", `healthChecks: [{kind: exec}]`, []string{`healthChecks[0].command: a check of kind exec needs command or exec_command`}},
		{"exec with empty command", `healthChecks: [{kind: exec, command: []}]`, []string{`healthChecks[0].command: must not be empty`}},
		{"exec with both", `healthChecks: [{kind: exec, command: [a], exec_command: a}]`, []string{`healthChecks[0].exec_command: give command or exec_command, not both`}},
		{"exec with open quote", `healthChecks: [{kind: exec, exec_command: "a 'b"}]`, []string{`healthChecks[0].exec_command: "a 'b" cannot be split into words: eof found when expecting closing quote`}},
		{"exec with blank command", `healthChecks: [{kind: exec, exec_command: " "}]`, []string{`healthChecks[0].exec_command: " " holds no command`}},
		{"relative path", `healthChecks: [{kind: http, port: 1, path: a}]`, []string{`healthChecks[0].path: "a" does not start with "/"`}},
		{"path with space", `healthChecks: [{kind: http, port: 1, path: /a b}]`, []string{`healthChecks[0].path: "/a b" holds a space or a control character: write it as %20 and the like`}},
		{"path with bad escape", `healthChecks: [{kind: http, port: 1, path: "/%zz"}]`, []string{`healthChecks[0].path: "/%zz" is not the path of a URL`}},
		{"status", `healthChecks: [{kind: http, port: 1, expectStatus: [99, 600]}]`, []string{
			`healthChecks[0].expectStatus[0]: 99 is not a status code`, `healthChecks[0].expectStatus[1]: 600 is not a status code`,
		}},
		{"negative timeout", `healthChecks: [{kind: tcp, port: 1, timeout: -1}]`, []string{`healthChecks[0].timeout: -1 is out of range: 0.01 to 86400 seconds`}},
		{"interval", `healthChecks: [{kind: tcp, port: 1, interval: 1ns}]`, []string{`healthChecks[0].interval: 1ns is too often: the shortest interval is 10ms`}},
		{"retries", `healthChecks: [{kind: tcp, port: 1, retries: -1}]`, []string{`healthChecks[0].retries: -1 is out of range: 0 to 1000`}},
		{"header name", `healthChecks: [{kind: http, port: 1, headers: {"a b": c}}]`, []string{`healthChecks[0].headers["a b"]: "a b" is not the name of a header`}},
		{"header value", `healthChecks: [{kind: http, port: 1, headers: {a: "b\nc"}}]`, []string{`healthChecks[0].headers.a: the value holds a character that no header may`}},
		{"header twice", `healthChecks: [{kind: http, port: 1, headers: {Host: b, host: c}}]`, []string{`healthChecks[0].headers.host: the same header as "Host": case makes no difference`}},
		{"signal", `terminationSignals: [{kind: tcp, port: 1}]`, []string{`terminationSignals[0].kind: Unknown termination signal kind: tcp`}},
		{"signal without kind", `terminationSignals: [{}]`, []string{`terminationSignals[0].kind: Missing required property kind under object Termination Signal`}},
		{"signal without port", `terminationSignals: [{kind: http}]`, []string{`terminationSignals[0].port: a signal of kind http needs a port`}},
		{"signal without command", `terminationSignals: [{kind: exec, port: 1}]`, []string{
			`terminationSignals[0].command: a signal of kind exec needs command or exec_command`,
			`terminationSignals[0].port: port means nothing for a signal of kind exec`,
		}},

		{"volumes", `volumesFrom: ["", "a b"]`, []string{`volumesFrom[0]: "" is not the name of a container`, `volumesFrom[1]: "a b" is not the name of a container`}},
		{"relative binding", `bindings: [{external: a, volume: b}]`, []string{`bindings[0].external: "a" is not an absolute path`, `bindings[0].volume: "b" is not an absolute path`}},
		{"binding of the root", `bindings: [{external: /, volume: /.}]`, []string{`bindings[0].volume: nothing can be mounted on the root of the container`}},
		{"binding with mode", `bindings: [{external: /a, volume: "/b:ro"}]`, []string{`bindings[0].volume: "/b:ro" holds a colon, which cannot be mounted`}},
		{"mounted twice", "bindings: [{external: /a, volume: /b}]\n    tmpfs: {/b/: ''}", []string{`tmpfs["/b/"]: "/b" is mounted on twice, first by components[0].bindings[0].volume`}},
		{"tmpfs", `tmpfs: {a: ""}`, []string{`tmpfs.a: "a" is not an absolute path`}},

		{"variable", `environmentVariables: [{name: A=B, value: ""}]`, []string{`environmentVariables[0].name: "A=B" is not the name of a variable: it holds "="`}},
		{"variable without value", `environmentVariables: [{name: A}]`, []string{`environmentVariables[0].value: Missing required property value under object A`}},
		{"variable twice", `environmentVariables: [{name: A, value: a}, {name: A, value: b}]`, []string{`environmentVariables[1].name: "A" is set twice, first by components[0].environmentVariables[0]`}},

		{"memory", `resources: {memory: lots}`, []string{`resources.memory: "lots" is not a size such as 512m or 2g`}},
		{"little memory", `resources: {memory: 1m}`, []string{`resources.memory: "1m" is out of range: at least 6m`}},
		{"processors", `resources: {cpus: -1}`, []string{`resources.cpus: -1 is out of range: at least 0.01, or 0 for no limit`}},
		{"processes", `resources: {pids: -1}`, []string{`resources.pids: -1 is negative; 0 means no limit`}},
		{"limits on the wrong level", `memory: 1g`, []string{`memory: unknown key "memory"; limits are in resources, as memory, cpus and pids`}},
		{"ulimit", `ulimits: [{name: files, soft: 1, hard: 1}]`, []string{`ulimits[0].name: "files" is not a resource limit such as nofile`}},
		{"ulimits crossed", `ulimits: [{name: nofile, soft: 2, hard: 1}, {name: core, soft: -1, hard: 1}]`, []string{
			`ulimits[0].soft: the soft limit 2 is above the hard limit 1`, `ulimits[1].soft: the soft limit -1 is above the hard limit 1`,
		}},
		{"ulimit negative", `ulimits: [{name: nofile, soft: 2, hard: -2}]`, []string{`ulimits[0].hard: -2 is negative; -1 means no limit`}},
		{"ulimit twice", `ulimits: [{name: core, soft: 1, hard: 1}, {name: core, soft: 1, hard: 1}]`, []string{`ulimits[1].name: "core" is set twice, first by components[0].ulimits[0]`}},
		{"label", `labels: {dev.gantryd.project: x}`, []string{`labels["dev.gantryd.project"]: the prefix dev.gantryd. is reserved`}},
		{"capability", `capAdd: [net-admin]`, []string{`capAdd[0]: "net-admin" is not a capability such as NET_ADMIN`}},
		{"capability added and dropped", "capAdd: [NET_ADMIN]\n    capDrop: [cap_net_admin]", []string{`capAdd[0]: "NET_ADMIN" is in capDrop too`}},
		{"host network among others", `networks: [host, front]`, []string{`networks[0]: the network host excludes others`}},
		{"no network but ports", "networks: [none]\n    ports: [{external: 1, container: 1}]", []string{`networks[0]: nothing can be forwarded to a container without network`}},
		{"network twice", `networks: [a, a]`, []string{`networks[1]: "a" is given twice, first by components[0].networks[0]`}},
		{"name server", `dns: [dns.example.com]`, []string{`dns[0]: "dns.example.com" is not an IP address`}},
		{"log options", `logging: {options: {a: b}}`, []string{`logging.options: options need a driver`}},

		{"ready timeout", `readyTimeout: -1`, []string{`readyTimeout: -1 is out of range: 0 to 86400000 milliseconds`}},
		{"restart", `restart: {minDelay: 10m}`, []string{`restart.minDelay: 10m0s is longer than maxDelay, 5m0s`}},
		{"drain rate", `drain: {rate: -1}`, []string{`drain.rate: -1 is negative; 0 means all at once`}},
		{"held", `hold: {max: -1}`, []string{`hold.max: -1 is out of range: 0 to 1000000`}},
		{"no host at a time", `rollout: {maxParallel: 0}`, []string{`rollout.maxParallel: 0 is out of range: at least 1`}},
		{"a part of the hosts that is none", `rollout: {maxParallel: 0%}`, []string{`rollout.maxParallel: expected a number of hosts, or a part of them such as "25%", found the text "0%"`}},
		{"negative hosts", `rollout: {canary: -1}`, []string{`rollout.canary: "-1" is out of range: at least 1`}},
		{"list of hosts", `rollout: {canary: []}`, []string{`rollout.canary: expected a number of hosts, or a part of them such as "25%", found a list`}},
		{"on failure", `rollout: {onFailure: rolback}`, []string{`rollout.onFailure: "rolback" is not one of halt, rollback; did you mean "rollback"?`}},
		{"on a lost host", `rollout: {onHostLost: panic}`, []string{`rollout.onHostLost: "panic" is not one of wait, continue`}},
		{"failures", `rollout: {maxFailures: -1}`, []string{`rollout.maxFailures: -1 is out of range: at least 0`}},
		{"promotion of nothing", `rollout: {autoPromote: 1m}`, []string{`rollout.autoPromote: there are no canaries to promote: give canary as well`}},
		{"deadline", `rollout: {progressDeadline: 10s}`, []string{`rollout.progressDeadline: 10s is not longer than what ready checks and bake may take, 10s`}},
		{"guard of nothing", `rollout: {guard: {errors: 1%}}`, []string{`rollout.guard: the component has neither ports nor links: the proxy sees nothing of what its users see`}},
		{"watch without a guard", `rollout: {guard: {watch: 1m}}`, []string{`rollout.guard.watch: there is nothing to watch: give errors, latencyP99 or both as well`}},
		{"latency of TCP", "ports: [{external: 1, container: 1}]\n    rollout: {guard: {latencyP99: 2x}}", []string{
			`rollout.guard.latencyP99: no port is of kind http: only of requests is it known how long they took`,
		}},
		{"errors in numbers", `rollout: {guard: {errors: 1}}`, []string{`rollout.guard.errors: expected a part such as "1%", found the number 1`}},
		{"no errors at all", `rollout: {guard: {errors: 0%}}`, []string{`rollout.guard.errors: "0%" is not a part such as "1%": at least 0.01%, and less than 100%`}},
		{"no slower", `rollout: {guard: {latencyP99: 1x}}`, []string{`rollout.guard.latencyP99: "1x" is not a factor such as "2x": more than 1x, and at most 1000x`}},
		{"order", `rollout: {order: stopfirst}`, []string{`rollout.order: "stopfirst" is not one of start-first, stop-first; did you mean "stop-first"?`}},
		{"exclusive and start-first", "exclusive: true\n    rollout: {order: start-first}", []string{
			`rollout.order: an exclusive component cannot be start-first: its two containers would run at once`,
		}},

		{"link", `defineComponentLinks: [{name: a/b, port: 0, kind: udp}]`, []string{
			`defineComponentLinks[0].name: "a/b" is not a name: letters, digits, "_", "." and "-", at most 63, the first a letter or a digit`,
			`defineComponentLinks[0].port: 0 is not a port`,
			`defineComponentLinks[0].kind: "udp" is not one of tcp, http`,
		}},
		{"link defined twice", `defineComponentLinks: [{name: a, port: 1}, {name: a, port: 2}]`, []string{
			`defineComponentLinks[1].name: link "a" is defined by components[0].defineComponentLinks[0], of component "web" too`,
		}},
		{"link nobody defines", "defineComponentLinks: [{name: orders, port: 1}]\n    requireComponentLinks: [{name: order, alias: o}]", []string{
			`requireComponentLinks[0].name: Component link order not defined on any component; did you mean "orders"?`,
		}},
		{"own link", "defineComponentLinks: [{name: a, port: 1}]\n    requireComponentLinks: [{name: a, alias: a}]", []string{
			`requireComponentLinks[0].name: component "web" requires its own link "a"`,
		}},
		{"no claim about links that could not be read", "defineComponentLinks: {name: a}\n    requireComponentLinks: [{name: a, alias: a}]", []string{
			`defineComponentLinks: Expected list for field defineComponentLinks`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("x.yaml", []byte("components:\n  - name: web\n    repo: my/web\n    "+tt.fields+"\n"))
			want := make([]string, len(tt.want))
			for i, w := range tt.want {
				want[i] = "components[0]." + strings.TrimPrefix(w, ".")
			}
			for i := range want {
				want[i] = strings.Replace(want[i], "components[0].[", "components[0][", 1)
			}
			got := told(err)
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("mistakes of %s (-want +got):\n%s", tt.fields, diff)
			}
			for _, m := range config.Mistakes(err) {
				if m.Line < 4 || m.Column < 1 {
					t.Errorf("%s is on line %d, column %d, want where the mistake is", m.Path, m.Line, m.Column)
				}
			}
		})
	}
}

func TestMistakesOfARepo(t *testing.T) {
	tests := []struct{ repo, want string }{
		{"My/App", `"My/App" is not a repository: repository name (App) must be lowercase`},
		{"my/app:1.4", `holds a tag: write "my/app" as repo and "1.4" as tag`},
		{"localhost:5000/app:1.4", `holds a tag: write "localhost:5000/app" as repo and "1.4" as tag`},
		{"my/app@sha256:" + strings.Repeat("a", 64), `holds the digest sha256:` + strings.Repeat("a", 64) + `; a digest is pinned when the component is updated, not here`},
		{"my//app", `"my//app" is not a repository: it is lower-case letters and digits, parts joined by "/", ".", "_" or "-"`},
		{"", `must not be empty`},
	}
	for _, tt := range tests {
		_, err := config.Parse("x.json", fmt.Appendf(nil, `{"components": [{"name": "web", "repo": %q}]}`, tt.repo))
		if diff := cmp.Diff([]string{"components[0].repo: " + tt.want}, told(err)); diff != "" {
			t.Errorf("mistakes of %q (-want +got):\n%s", tt.repo, diff)
		}
	}
	for _, repo := range []string{"a", "my/app", "localhost:5000/app", "registry.example.com/a/b/c", "docker.io/library/a", "[::1]:5000/a"} {
		p := component.Project{Components: []component.Spec{{Name: "web", Repo: repo}}}
		if err := config.Validate(p); err != nil {
			t.Errorf("%q is a repository, but: %v", repo, err)
		}
	}
}

func TestMistakesOfAName(t *testing.T) {
	for _, name := range []string{"a", "9", "some-example_component.1", strings.Repeat("a", 63)} {
		if err := config.Validate(component.Project{Components: []component.Spec{{Name: name, Repo: "a"}}}); err != nil {
			t.Errorf("%q is a name, but: %v", name, err)
		}
	}
	for _, name := range []string{"", ".a", "-a", "a b", "a/b", "ä", "a\n", strings.Repeat("a", 64), "a,b"} {
		err := config.Validate(component.Project{Components: []component.Spec{{Name: name, Repo: "a"}}})
		if got := config.Mistakes(err); len(got) != 1 || got[0].Path != "components[0].name" {
			t.Errorf("mistakes of the name %q are %q", name, got)
		}
	}
}

func TestAllMistakesAreToldAtOnce(t *testing.T) {
	_, err := config.Parse("mistakes.json", read(t, "testdata", "mistakes.json"))
	got := fmt.Sprintln(err)
	if want := string(read(t, "testdata", "mistakes.txt")); got != want {
		t.Errorf("error (-want +got):\n%s", cmp.Diff(want, got))
	}
	if _, ok := errors.AsType[*multierror.Error](err); !ok {
		t.Errorf("error is a %T, want a multierror", err)
	}
	if m, ok := errors.AsType[config.Mistake](err); !ok || m.Line != 5 {
		t.Errorf("the first mistake is %v, want the one of line 5", m)
	}
}

func TestProjectAsAWholeMistakes(t *testing.T) {
	tests := []struct{ data, want string }{
		{`[]`, "project file (line 1): expected a dictionary with the key components, found a list"},
		{`"a"`, "project file (line 1): expected a dictionary with the key components, found the text \"a\""},
		{`{}`, "components (line 1): Missing required property components under object Configuration"},
		{`{"components": {}}`, "components (line 1): Expected list for field components"},
		{`{"component": []}`, `component (line 1): unknown key "component"; did you mean "components"?`},
		{`{"components": [1]}`, "components[0] (line 1): Expected dictionary for field components"},
		{`{"components": [], "$schema": 1}`, `$schema (line 1): unknown key "$schema"`},
	}
	for _, tt := range tests {
		_, err := config.Parse("x.json", []byte(tt.data))
		if want := "x.json: " + tt.want; err == nil || err.Error() != want {
			t.Errorf("error of %s is\n%v, want\n%s", tt.data, err, want)
		}
	}
}

// linked is a project of components that each define a link of their name and require others.
func linked(requires ...[]string) component.Project {
	var p component.Project
	for i, r := range requires {
		s := component.Spec{Name: string(rune('a' + i)), Repo: "r"}
		s.DefineComponentLinks = []component.LinkDefinition{{Name: s.Name, Port: 1}}
		for _, l := range r {
			s.RequireComponentLinks = append(s.RequireComponentLinks, component.LinkRequest{Name: l, Alias: l})
		}
		p.Components = append(p.Components, s)
	}
	return p
}

func TestCyclesOfLinks(t *testing.T) {
	tests := []struct {
		name    string
		project component.Project
		want    []string
	}{
		{"none", linked([]string{"b", "c"}, []string{"c"}, nil), nil},
		{"two", linked([]string{"b"}, []string{"a"}), []string{
			"components[1].requireComponentLinks[0].name: links form a cycle, so that none can start first: a -> b -> a",
		}},
		{"three, and who only looks at them", linked([]string{"b"}, []string{"c"}, []string{"d"}, []string{"b"}), []string{
			"components[3].requireComponentLinks[0].name: links form a cycle, so that none can start first: b -> c -> d -> b",
		}},
		{"two cycles", linked([]string{"b"}, []string{"a"}, []string{"d"}, []string{"c"}), []string{
			"components[1].requireComponentLinks[0].name: links form a cycle, so that none can start first: a -> b -> a",
			"components[3].requireComponentLinks[0].name: links form a cycle, so that none can start first: c -> d -> c",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, told(config.Validate(tt.project))); diff != "" {
				t.Errorf("mistakes (-want +got):\n%s", diff)
			}
			if got, want := len(config.StartOrder(tt.project)), len(tt.project.Components); got != want {
				t.Errorf("start order has %d components, want %d", got, want)
			}
		})
	}
}

func TestStartOrder(t *testing.T) {
	got := config.StartOrder(linked([]string{"c"}, nil, []string{"d"}, nil))
	if want := []string{"d", "c", "a", "b"}; !cmp.Equal(got, want) {
		t.Errorf("start order is %q, want %q", got, want)
	}
}

func TestLinksAndPortsOverComponents(t *testing.T) {
	p := component.Project{Components: []component.Spec{
		{Name: "a", Repo: "r", Ports: []component.Port{{External: 80, Container: 80}}, DefineComponentLinks: []component.LinkDefinition{{Name: "l", Port: 1}, {Name: "m", Port: 1}}},
		{Name: "a", Repo: "r", Ports: []component.Port{{External: 81, Container: 80}, {External: 80, Container: 80}}, DefineComponentLinks: []component.LinkDefinition{{Name: "l", Port: 1}}},
		{Name: "b", Repo: "r", RequireComponentLinks: []component.LinkRequest{{Name: "l", Alias: "x-y"}, {Name: "l", Alias: "X_Y"}, {Name: "n", Alias: "!"}}},
	}}
	want := []string{
		`components[2].requireComponentLinks[1].name: link "l" is required twice, first by components[2].requireComponentLinks[0]`,
		`components[2].requireComponentLinks[1].alias: "X_Y" gives the same variables as components[2].requireComponentLinks[0]`,
		`components[2].requireComponentLinks[2].alias: "!" is not an alias: letters, digits, "_", "." and "-", at most 63, the first a letter or a digit or "_"`,
		`components[1].name: "a" is the name of components[0] too`,
		`components[1].ports[1].external: external port 80 is taken by components[0].ports[0], of component "a"; a match on both could tell them apart`,
		`components[1].defineComponentLinks[0].name: link "l" is defined by components[0].defineComponentLinks[0], of component "a" too`,
		`components[2].requireComponentLinks[2].name: Component link n not defined on any component`,
	}
	if diff := cmp.Diff(want, told(config.Validate(p))); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

// TestValidateChecksWhatNoFileHolds covers values that Parse cannot produce.
func TestValidateChecksWhatNoFileHolds(t *testing.T) {
	s := component.Spec{
		StopTimeout: -1, User: "a\xff",
		Labels:       map[string]string{"a\x00": "b"},
		Resources:    component.Resources{CPUs: math.NaN()},
		HealthChecks: []component.Check{{Kind: "tcp", Port: 1, Timeout: math.Inf(1)}},
	}
	want := []string{
		`components[0].user: a text must be UTF-8`,
		`components[0].healthChecks[0].timeout: +Inf is not a number gantryd can hold`,
		`components[0].labels["a\x00"]: a text must not hold the character NUL`,
		`components[0].resources.cpus: NaN is not a number gantryd can hold`,
		`components[0].stopTimeout: "-1ns" is negative`,
		`components[0].name: Missing required property name under object Component`,
		`components[0].repo: Missing required property repo under object Component`,
	}
	err := config.Validate(component.Project{Components: []component.Spec{s}})
	if diff := cmp.Diff(want, told(err)); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
	if want := "7 mistakes:\n  components[0].user: a text must be UTF-8\n"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error is %v, want it to start with %s", err, want)
	}
}
