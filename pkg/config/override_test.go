package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
)

func TestOverride(t *testing.T) {
	bake := component.Duration(time.Minute)
	web := component.Spec{
		Name: "web", Repo: "my/web",
		Command:     []string{"serve"},
		Ports:       []component.Port{{External: 80, Container: 8000}},
		ReadyChecks: []component.Check{{Kind: "http", Port: 8000}, {ID: "web", Kind: "tcp", Port: 8000}},
		Labels:      map[string]string{"a": "b"},
	}
	tests := []struct {
		name      string
		overrides []string
		change    func(*component.Spec)
	}{
		{"nothing", nil, func(*component.Spec) {}},
		{"plain fields", []string{"name=api", "repo=my/api", "tag=1.4", "user=nobody", "readyTimeout=500"}, func(s *component.Spec) {
			s.Name, s.Repo, s.Tag, s.User, s.ReadyTimeout = "api", "my/api", "1.4", "nobody", 500
		}},
		{"true is true", []string{"privileged=true", "readOnly=True"}, func(s *component.Spec) { s.Privileged, s.ReadOnly = true, true }},
		{"false is false", []string{"privileged=true", "privileged=False"}, func(*component.Spec) {}},
		{"a value with =", []string{"environmentVariables.OPTS=--a=b --c=d"}, func(s *component.Spec) {
			s.EnvironmentVariables = []component.EnvVar{{Name: "OPTS", Value: "--a=b --c=d"}}
		}},
		{"an empty value", []string{"environmentVariables.A="}, func(s *component.Spec) {
			s.EnvironmentVariables = []component.EnvVar{{Name: "A"}}
		}},
		{"a value that looks like a field", []string{`user="a.b"=c`}, func(s *component.Spec) { s.User = `"a.b"=c` }},
		{"a list of texts grows", []string{"command=--port", "command=80", "volumesFrom=data"}, func(s *component.Spec) {
			s.Command, s.VolumesFrom = []string{"serve", "--port", "80"}, []string{"data"}
		}},
		{"an entry changes", []string{"ports.80=9000", "readyChecks.web=http"}, func(s *component.Spec) {
			s.Ports = []component.Port{{External: 80, Container: 9000}}
			s.ReadyChecks = []component.Check{{Kind: "http", Port: 8000}, {ID: "web", Kind: "http", Port: 8000}}
		}},
		{"an entry is added", []string{"ports.81=9000", "bindings./a=/b", "defineComponentLinks.l=5", "requireComponentLinks.m=n", "terminationSignals.s=http"}, func(s *component.Spec) {
			s.Ports = []component.Port{{External: 80, Container: 8000}, {External: 81, Container: 9000}}
			s.Bindings = []component.Binding{{External: "/a", Volume: "/b"}}
			s.DefineComponentLinks = []component.LinkDefinition{{Name: "l", Port: 5}}
			s.RequireComponentLinks = []component.LinkRequest{{Name: "m", Alias: "n"}}
			s.TerminationSignals = []component.Signal{{ID: "s", Kind: "http"}}
		}},
		{"a field of an entry", []string{"ports.80.kind=http", "readyChecks.web.timeout=5", "readyChecks.new.port=1", "ulimits.nofile.soft=-1"}, func(s *component.Spec) {
			s.Ports = []component.Port{{External: 80, Container: 8000, Kind: "http"}}
			s.ReadyChecks = []component.Check{{Kind: "http", Port: 8000}, {ID: "web", Kind: "tcp", Port: 8000, Timeout: 5}, {ID: "new", Port: 1}}
			s.Ulimits = []component.Ulimit{{Name: "nofile", Soft: -1}}
		}},
		{"deeper", []string{"readyChecks.web.headers.Host=example.com", "readyChecks.web.expectStatus=204", "readyChecks.web.interval=1s"}, func(s *component.Spec) {
			s.ReadyChecks = []component.Check{{Kind: "http", Port: 8000}, {
				ID: "web", Kind: "tcp", Port: 8000, Interval: component.Duration(time.Second),
				Headers: map[string]string{"Host": "example.com"}, ExpectStatus: []int{204},
			}}
		}},
		{"the default termination check stays", []string{"terminationChecks.idle=exec"}, func(s *component.Spec) {
			s.TerminationChecks = []component.Check{{Kind: "connection"}, {ID: "idle", Kind: "exec"}}
		}},
		{"groups", []string{"drain.timeout=30s", "resources.memory=1g", "resources.cpus=1.5", "resources.pids=7", "rollout.bake=1m"}, func(s *component.Spec) {
			s.Drain.Timeout = component.Duration(30 * time.Second)
			s.Resources = component.Resources{Memory: "1g", CPUs: 1.5, Pids: 7}
			s.Rollout.Bake = &bake
		}},
		{"dictionaries", []string{"labels.x=y", "labels.a=c", "logging.options.max-size=1m"}, func(s *component.Spec) {
			s.Labels = map[string]string{"a": "c", "x": "y"}
			s.Logging.Options = map[string]string{"max-size": "1m"}
		}},
		{"quoted names", []string{`environmentVariables."a.b"=x`, `labels."say \"a=b\" \\"=c`, `"tag"=1`, `"labels"."x"=y`}, func(s *component.Spec) {
			s.EnvironmentVariables = []component.EnvVar{{Name: "a.b", Value: "x"}}
			s.Labels = map[string]string{"a": "b", `say "a=b" \`: "c", "x": "y"}
			s.Tag = "1"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := canonical(t, web)
			want := web
			tt.change(&want)
			got, err := config.Override(web, tt.overrides)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("overrides %q (-want +got):\n%s", tt.overrides, diff)
			}
			if after := canonical(t, web); after != before {
				t.Errorf("the argument changed from %s to %s", before, after)
			}
		})
	}
}

func canonical(t *testing.T, s component.Spec) string {
	t.Helper()
	b, err := config.Canonical(component.Project{Components: []component.Spec{s}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOverrideErrors(t *testing.T) {
	tests := []struct{ override, want string }{
		{"nope=1", `apply override "nope": No field named nope found`},
		{"comand=1", `apply override "comand": No field named comand found; did you mean "command"?`},
		{"ports.80.nope=1", `apply override "ports.80.nope": No field named nope found`},
		{"command.x=1", `apply override "command.x": Found list field command, expected simply the list name`},
		{"readyChecks.a.expectStatus.b=1", `apply override "readyChecks.a.expectStatus.b": Found list field expectStatus, expected simply the list name`},
		{"ulimits.nofile=1", `apply override "ulimits.nofile": No default value field found for config nofile`},
		{"tag.x=1", `apply override "tag.x": Cannot access named keys under tag`},
		{"stopTimeout.x=1", `apply override "stopTimeout.x": Cannot access named keys under stopTimeout`},
		{"ports.80.kind.x=1", `apply override "ports.80.kind.x": Cannot access named keys under kind`},
		{"labels.a.b=1", `apply override "labels.a.b": Cannot access named keys under a; a key that holds dots is written in quotes`},
		{"ports=80", `apply override "ports": ports is a list of entries: name one by its external, as in ports.NAME=VALUE`},
		{"ports.http=80", `apply override "ports.http": external is a whole number, not "http"`},
		{"drain=1s", `apply override "drain": drain is a group: name one of its fields, such as drain.timeout`},
		{"labels=a", `apply override "labels": labels is a dictionary: name a key, as in labels.KEY=VALUE`},
		{"privileged=yes", `apply override "privileged": privileged is true or false, not "yes"`},
		{"readyTimeout=10s", `apply override "readyTimeout": readyTimeout is a whole number, not "10s"`},
		{"resources.cpus=all", `apply override "resources.cpus": cpus is a number, not "all"`},
		{"stopTimeout=10", `apply override "stopTimeout": "10" is not a duration such as "30s"`},
		{"stopTimeout=-1s", `apply override "stopTimeout": "-1s" is negative`},
		{"tag", `apply override "tag": expected FIELD=VALUE`},
		{"", `apply override "": expected FIELD=VALUE`},
		{"=x", `apply override "": a name is empty`},
		{"ports.=x", `apply override "ports.": a name is empty`},
		{`labels.""=x`, `apply override "labels.\"\"": a name is empty`},
		{`labels."a=secret`, `apply override "labels.\"a": a quote is not closed`},
		{`labels."a"b=x`, `apply override "labels.\"a\"b": after a closing quote comes a dot or an =`},
		{`labels."a"`, `apply override "labels.\"a\"": after a closing quote comes a dot or an =`},
		{`labels.a"b=x`, `apply override "labels.a\"b": a quote must be at the start of a name`},
	}
	for _, tt := range tests {
		_, err := config.Override(component.Spec{}, []string{"tag=1", tt.override})
		if err == nil || err.Error() != tt.want {
			t.Errorf("error of %q is\n%v, want\n%s", tt.override, err, tt.want)
		}
		if _, ok := errors.AsType[*config.OverrideError](err); !ok {
			t.Errorf("error of %q is a %T", tt.override, err)
		}
	}
}

// TestOverrideSharesNothing changes all that a result holds and looks at what it was made of.
func TestOverrideSharesNothing(t *testing.T) {
	p, err := config.Parse("everything.json", read(t, everything+".json"))
	if err != nil {
		t.Fatal(err)
	}
	spec := p.Components[0]
	before := canonical(t, spec)
	got, err := config.Override(spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spec, got); diff != "" {
		t.Fatalf("no override, but (-want +got):\n%s", diff)
	}
	got.Command[0], got.VolumesFrom[0], got.Ports[0].External = "x", "x", 1
	got.ReadyChecks[0].Headers["Host"], got.ReadyChecks[0].ExpectStatus[0] = "x", 1
	got.Labels["team"], got.Tmpfs["/x"], got.Logging.Options["x"] = "x", "x", "x"
	*got.Rollout.Bake = 1
	if after := canonical(t, spec); after != before {
		t.Errorf("a change of the result changed the argument from\n%s to\n%s", before, after)
	}
	one, err := config.Override(spec, []string{"command=a"})
	if err != nil {
		t.Fatal(err)
	}
	two, err := config.Override(spec, []string{"command=b"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(one.Command, " "); !strings.HasSuffix(got, " a") {
		t.Errorf("a second override changed the first one's command to %q", got)
	}
	if got := strings.Join(two.Command, " "); !strings.HasSuffix(got, " b") {
		t.Errorf("command is %q", got)
	}
}
