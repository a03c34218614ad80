package rollout

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

func drained(hosts ...string) func(*component.View) {
	return func(v *component.View) {
		v.Drained = map[string]component.HostDrain{}
		for _, h := range hosts {
			v.Drained[h] = component.HostDrain{Word: component.Word{By: "ann", Reason: "kernel"}, Revision: 5}
		}
	}
}

func routed(host string) func(*component.View) {
	return func(v *component.View) {
		st := v.Hosts[host]
		st.Containers = []component.ContainerStatus{{ID: "c", Primary: true}}
		v.Hosts[host] = st
	}
}

// A rollout goes on, and ends, without hosts that are out of service.
func TestRolloutGoesOnWithoutDrainedHosts(t *testing.T) {
	tests := []struct {
		name string
		view component.View
		hold string // of h1
		done bool
	}{
		{"the others serve it", rollingView(drained("h1"), serving("h2"), serving("h3")), "drained by ann: kernel", true},
		{"another one does not yet", rollingView(drained("h1"), serving("h2")), "drained by ann: kernel", false},
		{"it ends its turn first", rollingView(drained("h1"), holders("h1"), changing("h1"), serving("h2"), serving("h3")), "drained by ann: kernel", false},
		{"it was lost in its turn", rollingView(drained("h2"), changing("h2"), serving("h1"), serving("h3")), "", true},
		{"all are drained", rollingView(drained("h1", "h2", "h3"), serving("h1"), serving("h2"), serving("h3")), "drained by ann: kernel", false},
		{"a canary was drained", rollingView(canary(1), canaries("h2"), drained("h2")), "", false},
		{"a canary was drained when it served", rollingView(canary(1), canaries("h2"), serving("h2"), drained("h2")), "the canaries serve: waits for promote", false},
		{"a canary was drained, and nobody's words are heard", rollingView(canary(1), canaries("h2"), drained("h2"), func(v *component.View) { v.Partial = true }), "canaries first: waits for h2", false},
	}
	for _, tt := range tests {
		if got := Hold("web", "h1", tt.view); got != tt.hold {
			t.Errorf("%s: held by %q, want %q", tt.name, got, tt.hold)
		}
		if got := Done("web", tt.view); got != tt.done {
			t.Errorf("%s: done = %t", tt.name, got)
		}
	}
}

// A task that may run on without its daemon is waited for, drained or not.
func TestTaskOfADrainedHostIsWaitedFor(t *testing.T) {
	v := rollingView(drained("h2"), changing("h2"), func(v *component.View) { v.Desired.Spec.PreDeploy.Command = []string{"migrate"} })
	if got := v.Lost("h1"); len(got) != 1 {
		t.Errorf("lost = %v, want the host with the task", got)
	}
	if hold := Hold("web", "h1", v); !strings.Contains(hold, "h2 was lost") {
		t.Errorf("Hold = %q", hold)
	}
	if hold := Hold("web", "h2", v); hold != "" {
		t.Errorf("the host itself is held by %q, although it is waited for", hold)
	}
}

func TestDeadlineStandsStillWhileAllAreDrained(t *testing.T) {
	if _, ok := Judge("web", rollingView(drained("h1", "h2", "h3")), Waited{Mark: time.Hour, Hosts: time.Hour}); ok {
		t.Error("a rollout without a host in service is judged")
	}
	r, ok := Judge("web", rollingView(drained("h1")), Waited{Mark: time.Hour})
	if !ok || strings.Contains(r.Reason, "h1") {
		t.Errorf("Judge = %+v, %t; want a halt that does not name the drained host", r, ok)
	}
}

func TestSlotsAreOfHostsInService(t *testing.T) {
	half := policy(func(p *component.RolloutPolicy) { p.MaxParallel = -67 })
	if got := Slots("web", rollingView(half, drained("h1"))); got != 1 {
		t.Errorf("67%% of the two hosts in service are %d", got)
	}
}

func TestDrainAndUndrain(t *testing.T) {
	two := view(routed("h1"), routed("h2"))
	fleet := func(v component.View) Fleet {
		return Fleet{Components: map[string]component.View{"web": v}, Machines: v.Machines, Drained: v.Drained}
	}
	with := func(changes ...func(*component.View)) component.View {
		return view(append([]func(*component.View){routed("h1"), routed("h2")}, changes...)...)
	}
	tests := []struct {
		name    string
		view    component.View
		host    string
		force   bool
		drain   error
		undrain error
	}{
		{"another one serves", two, "h1", false, nil, ErrConflict},
		{"nobody knows it", two, "h9", true, ErrUnknown, ErrUnknown},
		{"it is drained", with(drained("h1")), "h1", true, ErrConflict, nil},
		{"it is drained and away", with(drained("h9")), "h9", false, ErrConflict, nil},
		{"the other one is drained", with(drained("h2")), "h1", false, ErrLast, ErrConflict},
		{"... by force", with(drained("h2")), "h1", true, nil, ErrConflict},
		{"the other one serves nothing", view(routed("h1")), "h1", false, ErrLast, ErrConflict},
		{"it serves nothing itself", view(routed("h1")), "h2", false, nil, ErrConflict},
		{"the other one is away", with(func(v *component.View) { delete(v.Machines, "h2") }), "h1", false, ErrLast, ErrConflict},
		{"the other one's port is taken", with(func(v *component.View) {
			st := v.Hosts["h2"]
			st.RouteErr = "address already in use"
			v.Hosts["h2"] = st
		}), "h1", false, ErrLast, ErrConflict},
		{"the other one is sick", with(func(v *component.View) { v.Hosts["h2"].Containers[0].Health = component.Unhealthy }), "h1", false, ErrLast, ErrConflict},
		{"nobody is to serve", with(want(component.StatusStopped)), "h1", false, nil, ErrConflict},
		{"it is lost in its turn", rollingView(changing("h4")), "h4", false, nil, ErrConflict},
	}
	for _, tt := range tests {
		if err := Drain(tt.host, fleet(tt.view), tt.force); !errors.Is(err, tt.drain) {
			t.Errorf("%s: Drain = %v, want %v", tt.name, err, tt.drain)
		}
		if err := Undrain(tt.host, fleet(tt.view)); !errors.Is(err, tt.undrain) {
			t.Errorf("%s: Undrain = %v, want %v", tt.name, err, tt.undrain)
		}
	}
}

func TestOutagesAreTold(t *testing.T) {
	now := time.Unix(1000, 0)
	v := rollingView(drained("h1", "h4"))
	text := strings.Join(Why("web", "h1", v, now), " ")
	if !strings.Contains(text, "it is drained by ann: kernel, so it takes no new connections") {
		t.Errorf("Why = %s", text)
	}
	if text := strings.Join(Why("web", "h4", v, now), " "); !strings.Contains(text, "Host h4 has no daemon that runs; it is drained") {
		t.Errorf("Why of a host that is away = %s", text)
	}
	if text := strings.Join(Why("web", "", rollingView(drained("h1", "h2", "h3")), now), " "); !strings.Contains(text, "No host that runs web is in service.") {
		t.Errorf("Why of all drained = %s", text)
	}
	var got []string
	for _, e := range append(DrainEvents(nil, v.Drained, now), DrainEvents(v.Drained, rollingView(drained("h4")).Drained, now)...) {
		got = append(got, fmt.Sprintf("%s %s: %s", e.Host, e.Kind, e.Text))
	}
	if d := cmp.Diff([]string{
		"h1 host-drained: is out of service, drained by ann: kernel", "h4 host-drained: is out of service, drained by ann: kernel",
		"h1 host-undrained: is in service again",
	}, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}
