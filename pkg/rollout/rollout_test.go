package rollout

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

// view is a project of hosts h1 and h2 that both serve generation 2 of web, as is wanted.
func view(changes ...func(*component.View)) component.View {
	serves := component.HostStatus{Generation: 2, Step: component.StepServing}
	v := component.View{
		Desired:  component.Desired{Status: component.StatusReady, Generation: 2},
		Rollout:  component.Rollout{Generation: 2, Status: component.RolloutProgressing},
		Hosts:    map[string]component.HostStatus{"h1": serves, "h2": serves},
		Machines: map[string]component.Machine{"h1": runs("web"), "h2": runs("db", "web")},
	}
	for _, c := range changes {
		c(&v)
	}
	return v
}

func runs(components ...string) component.Machine { return component.Machine{Components: components} }

func host(name string, generation int64, step string) func(*component.View) {
	return func(v *component.View) { v.Hosts[name] = component.HostStatus{Generation: generation, Step: step} }
}

func machine(name string, components ...string) func(*component.View) {
	return func(v *component.View) { v.Machines[name] = runs(components...) }
}

func record(generation int64, s component.RolloutStatus) func(*component.View) {
	return func(v *component.View) { v.Rollout = component.Rollout{Generation: generation, Status: s} }
}

func want(s component.Status) func(*component.View) {
	return func(v *component.View) { v.Desired.Status = s }
}

func TestDone(t *testing.T) {
	tests := []struct {
		name string
		view component.View
		want bool
	}{
		{"all hosts serve what is wanted", view(), true},
		{"record is of an older generation", view(record(1, component.RolloutDone)), true},
		{"older generation was halted", view(record(1, component.RolloutHalted)), true},
		{"there is no record", view(record(0, "")), true},
		{"it is recorded already", view(record(2, component.RolloutDone)), false},
		{"it was halted", view(record(2, component.RolloutHalted)), false},
		{"one host serves an older generation", view(host("h2", 1, component.StepServing)), false},
		{"one host is in bake", view(host("h2", 1, component.StepBaking)), false},
		{"one host has proven it and repairs it now", view(host("h2", 2, component.StepStarting)), false},
		{"one host says nothing", view(func(v *component.View) { delete(v.Hosts, "h2") }), false},
		{"one host is away", view(host("h2", 1, component.StepServing), func(v *component.View) { delete(v.Machines, "h2") }), true},
		{"one host does not run the component", view(machine("h3", "db")), true},
		{"one host has just come", view(machine("h3", "web")), false},
		{"no host runs", view(func(v *component.View) { v.Machines = nil }), false},
		{"the one that comes first is not done", view(func(v *component.View) { v.Desired.Follows = "db" }), false},
		{"the one that comes first is done", view(func(v *component.View) { v.Desired.Follows, v.Rollout.Begun = "db", true }), true},
		{"component is to be stopped", view(want(component.StatusStopped)), false},
		{"component is to be killed", view(want(component.StatusKilled)), false},
		{"nobody asks for anything", component.View{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Done("web", tt.view); got != tt.want {
				t.Errorf("Done = %t, want %t", got, tt.want)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	v := view(machine("h10", "web"), machine("a", "web"), machine("b", "db"))
	if diff := cmp.Diff(Hosts("web", v), []string{"a", "h1", "h10", "h2"}); diff != "" {
		t.Errorf("Hosts (-got +want):\n%s", diff)
	}
	if got := Hosts("cache", v); got != nil {
		t.Errorf("hosts of a component nobody runs: %v", got)
	}
}

func TestMayTake(t *testing.T) {
	tests := []struct {
		name    string
		slots   int
		holders []string
		ok      bool
		waits   string
	}{
		{"nobody has a turn", 1, nil, true, ""},
		{"the only turn is taken", 1, []string{"h2"}, false, "h2"},
		{"one of two turns is free", 2, []string{"h2"}, true, ""},
		{"both turns are taken", 2, []string{"h2", "h3"}, false, "h2, h3"},
		{"fewer turns than before", 1, []string{"h2", "h3"}, false, "h2, h3"},
		{"there is always one turn", 0, nil, true, ""},
		{"less than one turn is one", -1, []string{"h2"}, false, "h2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ok, waits := MayTake(tt.slots, component.Turn{Holders: tt.holders})
			if ok != tt.ok || waits != tt.waits {
				t.Errorf("MayTake = %t, %q, want %t, %q", ok, waits, tt.ok, tt.waits)
			}
		})
	}
}

func TestTrust(t *testing.T) {
	known := component.HostRecord{Cluster: "one", Revision: 10, Adoptions: []string{"old"}, LinkPorts: map[string]int{"db": 5432}}
	adoption := func(cluster, nonce string) component.Adoption {
		return component.Adoption{Cluster: cluster, Nonce: nonce}
	}
	remembers := func(cluster string, revision int64, adoptions ...string) component.HostRecord {
		return component.HostRecord{Cluster: cluster, Revision: revision, Adoptions: adoptions, LinkPorts: known.LinkPorts}
	}
	tests := []struct {
		name    string
		cluster component.Cluster
		record  component.HostRecord
		next    component.HostRecord
		ok      bool
		reason  string
	}{
		{"first store is trusted", component.Cluster{ID: "one", Revision: 3}, component.HostRecord{}, component.HostRecord{Cluster: "one", Revision: 3}, true, ""},
		{"store goes on", component.Cluster{ID: "one", Revision: 11}, known, remembers("one", 11, "old"), true, ""},
		{"store stands still", component.Cluster{ID: "one", Revision: 10}, known, known, true, ""},
		{"store went back", component.Cluster{ID: "one", Revision: 9}, known, known, false, "the store is older than before (revision 9, before 10)"},
		{"store is another", component.Cluster{ID: "two", Revision: 99}, known, known, false, "the store is another one than before (cluster two, before one)"},
		{"another store was adopted", component.Cluster{ID: "two", Revision: 1, Adoption: adoption("two", "new")}, known, remembers("two", 1, "old", "new"), true, ""},
		{"older data was adopted", component.Cluster{ID: "one", Revision: 5, Adoption: adoption("one", "new")}, known, remembers("one", 5, "old", "new"), true, ""},
		{"adoption counts once", component.Cluster{ID: "one", Revision: 5, Adoption: adoption("one", "old")}, known, known, false, "the store is older than before (revision 5, before 10)"},
		{"adoption was of another store", component.Cluster{ID: "two", Revision: 5, Adoption: adoption("one", "new")}, known, known, false, "the store is another one than before (cluster two, before one)"},
		{"adoption without a nonce is none", component.Cluster{ID: "two", Revision: 5, Adoption: adoption("two", "")}, known, known, false, "the store is another one than before (cluster two, before one)"},
		{"adoption counts once, with or without need", component.Cluster{ID: "one", Revision: 11, Adoption: adoption("one", "new")}, known, remembers("one", 11, "old", "new"), true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			next, ok, reason := Trust(tt.cluster, tt.record)
			if ok != tt.ok || reason != tt.reason {
				t.Errorf("Trust = %t, %q, want %t, %q", ok, reason, tt.ok, tt.reason)
			}
			if diff := cmp.Diff(next, tt.next); diff != "" {
				t.Errorf("remembered (-got +want):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(known.Adoptions, []string{"old"}); diff != "" {
		t.Errorf("Trust changed its input:\n%s", diff)
	}
}
