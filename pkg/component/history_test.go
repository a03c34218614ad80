package component

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEnded(t *testing.T) {
	ready := Desired{Status: StatusReady, Generation: 5}
	record := func(g int64, s RolloutStatus) Rollout { return Rollout{Generation: g, Status: s} }
	tests := []struct {
		name string
		d    Desired
		r    Rollout
		next Desired
		want Outcome
	}{
		{"every host came to it", ready, record(5, RolloutDone), Desired{}, OutcomeDone},
		{"every host came to it, and then it was updated", ready, record(5, RolloutDone), Desired{Status: StatusReady}, OutcomeDone},
		{"a host failed", ready, record(5, RolloutHalted), Desired{}, OutcomeHalted},
		{"it goes on", ready, record(5, RolloutProgressing), Desired{}, OutcomeOpen},
		{"nobody began", ready, record(4, RolloutDone), Desired{}, OutcomeOpen},
		{"it was overtaken", ready, record(5, RolloutProgressing), Desired{Status: StatusReady}, OutcomeSuperseded},
		{"it was overtaken before anybody began", ready, record(4, RolloutHalted), Desired{Status: StatusStopped}, OutcomeSuperseded},
		{"it failed and was taken back", ready, record(5, RolloutHalted), Desired{Status: StatusReady, Source: 3}, OutcomeRolledBack},
		{"it was taken back though it was done", ready, record(5, RolloutDone), Desired{Status: StatusReady, Source: 3}, OutcomeRolledBack},
		{"a stop", Desired{Status: StatusStopped}, Rollout{}, Desired{Status: StatusReady}, OutcomeStopped},
		{"a kill", Desired{Status: StatusKilled}, Rollout{}, Desired{}, OutcomeKilled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Ended(tt.d, tt.r, tt.next); got != tt.want {
				t.Errorf("Ended = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBackFrom(t *testing.T) {
	state := func(g int64, image string) Desired {
		return Desired{Status: StatusReady, Generation: g, ImageID: image, Spec: &Spec{Name: "web"}}
	}
	past := func(g int64, image string, o Outcome) Past { return Past{g, state(g, image), Rollout{}, o} }
	stopped := state(9, "b")
	stopped.Status = StatusStopped
	bare := past(3, "c", OutcomeDone)
	bare.Desired.Spec = nil
	tests := []struct {
		name string
		now  Desired
		past []Past
		want int64 // 0: there is none
	}{
		{"nothing before", state(5, "b"), nil, 0},
		{"the release before", state(5, "b"), []Past{past(3, "a", OutcomeDone), past(2, "c", OutcomeDone)}, 3},
		{"in any order", state(5, "b"), []Past{past(2, "c", OutcomeDone), past(3, "a", OutcomeDone)}, 3},
		{"not one that halted", state(5, "b"), []Past{past(3, "a", OutcomeHalted), past(2, "c", OutcomeDone)}, 2},
		{"not one that was taken back", state(5, "b"), []Past{past(3, "a", OutcomeRolledBack)}, 0},
		{"not one that was overtaken", state(5, "b"), []Past{past(3, "a", OutcomeSuperseded)}, 0},
		{"not the same release", state(5, "b"), []Past{past(3, "b", OutcomeDone), past(2, "c", OutcomeDone)}, 2},
		{"the same release after a stop", stopped, []Past{past(3, "b", OutcomeDone)}, 3},
		{"not one kept without its configuration", state(5, "b"), []Past{bare, past(2, "d", OutcomeDone)}, 2},
		{"not the one that is asked for", state(5, "b"), []Past{past(5, "a", OutcomeDone)}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.past)
			got, ok := BackFrom(tt.now, tt.past)
			if got.Generation != tt.want || ok != (tt.want != 0) {
				t.Errorf("BackFrom = %d, %t, want %d", got.Generation, ok, tt.want)
			}
			if d := cmp.Diff(before, tt.past); d != "" {
				t.Errorf("it changed its input:\n%s", d)
			}
		})
	}
}

func TestBackBringsImageAndConfigurationBack(t *testing.T) {
	p := Past{Generation: 3, Desired: Desired{
		Status: StatusReady, Generation: 3, ImageID: "a", Image: Image{Ref: "web:1"}, Restart: "r",
		Spec: &Spec{Name: "web", Command: []string{"serve"}}, By: "ann", Operation: "op", Reason: "old",
	}}
	d := p.Back(nil)
	if d.Release().Hash() != p.Desired.Release().Hash() {
		t.Errorf("hash of the release is another: %+v", d)
	}
	if d.Source != 3 || d.By != "" || d.Operation != "" || d.Reason != "" || d.Command != "rollback" {
		t.Errorf("Back = %+v", d)
	}
}

func TestBackTogether(t *testing.T) {
	entry := func(g int64, s Status, image string, o Outcome) Past {
		return Past{g, Desired{Status: s, Generation: g, ImageID: image, Spec: &Spec{Name: "web"}}, Rollout{}, o}
	}
	done, now := entry(3, StatusReady, "b", OutcomeDone), entry(5, StatusReady, "b", OutcomeHalted)
	older := entry(2, StatusReady, "a", OutcomeDone)
	for _, tt := range []struct {
		name    string
		entries []Past
		status  Status
		source  int64 // 0: there is none
	}{
		{"nothing before", []Past{now}, "", 0},
		{"the release before", []Past{entry(5, StatusReady, "c", OutcomeHalted), done, older}, StatusReady, 3},
		{"the same release is not passed over", []Past{now, done, older}, StatusReady, 3},
		{"was stopped", []Past{now, entry(4, StatusStopped, "b", OutcomeOpen), done}, StatusStopped, 4},
		{"was killed: now it drains", []Past{now, entry(4, StatusKilled, "b", OutcomeOpen), done}, StatusStopped, 4},
	} {
		d, ok := BackTogether(tt.entries, nil)
		if ok != (tt.source != 0) || ok && (d.Source != tt.source || d.Status != tt.status) {
			t.Errorf("%s: %s of %d, %t, want %s of %d", tt.name, d.Status, d.Source, ok, tt.status, tt.source)
		}
	}
}

func TestBackKeepsSettings(t *testing.T) {
	was := Spec{Name: "web", Repo: "web", Tag: "1", Drain: DrainPolicy{Timeout: 1}, Rollout: RolloutPolicy{Canary: 2}}
	p := Past{Generation: 4, Desired: Desired{Status: StatusReady, ImageID: "a", Spec: &was}}
	since := was
	since.Tag, since.Drain.Timeout, since.Rollout = "2", 3, RolloutPolicy{}
	other := since
	other.User = "nobody"
	want := was
	want.Drain.Timeout = 3
	for name, tt := range map[string]struct {
		config *Spec
		want   Spec
	}{"no config": {nil, was}, "settings since": {&since, want}, "another container": {&other, was}} {
		if d := cmp.Diff(&tt.want, p.Back(tt.config).Spec); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if was.Drain.Timeout != 1 {
		t.Error("the past changed")
	}
}

func TestChanges(t *testing.T) {
	one := Release{ImageID: "sha256:0123456789abcdef", Image: Image{Ref: "web:1"}, Spec: Spec{
		Name: "web", EnvironmentVariables: []EnvVar{{"A", "1"}, {"B", "2"}}, Command: []string{"x", "y"},
		ReadyChecks: []Check{{Kind: CheckHTTP, Port: 80}, {Kind: CheckHTTP, Port: 81}},
	}}
	two := one
	two.ImageID, two.Image.Ref = "sha256:fedcba9876543210", "web:2"
	two.Spec.EnvironmentVariables = []EnvVar{{"C", "3"}, {"A", "1"}, {"B", "4"}}
	two.Spec.Command = []string{"x"}
	two.Spec.ReadyChecks = []Check{{Kind: CheckHTTP, Port: 80}, {Kind: CheckHTTP, Port: 82}}
	want := []Change{
		{"image", "web:1 (0123456789ab)", "web:2 (fedcba987654)"},
		{"command", `["x","y"]`, `["x"]`},
		{"environmentVariables.B.value", "2", "4"},
		{"environmentVariables.C.name", "", "C"},
		{"environmentVariables.C.value", "", "3"},
		{"readyChecks.1.port", "81", "82"},
	}
	if d := cmp.Diff(want, Changes(one, two)); d != "" {
		t.Errorf("Changes (-want +got):\n%s", d)
	}
	if got := Changes(one, one); got != nil {
		t.Errorf("changes from a release to itself: %v", got)
	}
	if got := Changes(Release{}, Release{ImageID: "sha256:00", Restart: "r"}); len(got) != 2 || got[0] != (Change{"image", "", "00"}) {
		t.Errorf("changes from nothing: %v", got)
	}
}

func TestChangesTellWhatTheHashTells(t *testing.T) {
	check := func(ids ...string) (cs []Check) {
		for _, id := range ids {
			cs = append(cs, Check{ID: id, Kind: CheckTCP})
		}
		return cs
	}
	none := []Check{}
	tests := []struct {
		name     string
		from, to Spec
		want     []Change
	}{
		{"an empty list is another thing than none", Spec{}, Spec{TerminationChecks: none}, []Change{{"terminationChecks", "", "[]"}}},
		{"the last entry goes", Spec{TerminationChecks: check("a")}, Spec{TerminationChecks: none}, []Change{
			{"terminationChecks", "", "[]"}, {"terminationChecks.a.id", "a", ""}, {"terminationChecks.a.kind", "tcp", ""},
		}},
		{"an empty list that means the same as none", Spec{}, Spec{Command: []string{}}, nil},
		{"another order", Spec{ReadyChecks: check("a", "b", "c")}, Spec{ReadyChecks: check("c", "a", "b")}, []Change{{"readyChecks (order)", "a, b, c", "c, a, b"}}},
		{"a new entry in front is no other order", Spec{ReadyChecks: check("a", "b")}, Spec{ReadyChecks: check("c", "a", "b")}, []Change{
			{"readyChecks.c.id", "", "c"}, {"readyChecks.c.kind", "", "tcp"},
		}},
		{"a new entry and another order", Spec{ReadyChecks: check("a", "b")}, Spec{ReadyChecks: check("b", "c", "a")}, []Change{
			{"readyChecks (order)", "a, b", "b, a"}, {"readyChecks.c.id", "", "c"}, {"readyChecks.c.kind", "", "tcp"},
		}},
		{"plain values keep their order", Spec{DNS: []string{"1.1.1.1", "9.9.9.9"}}, Spec{DNS: []string{"9.9.9.9", "1.1.1.1"}}, []Change{
			{"dns", `["1.1.1.1","9.9.9.9"]`, `["9.9.9.9","1.1.1.1"]`},
		}},
		{"plain values are shown as they are", Spec{}, Spec{Command: []string{"a b", "<&>"}}, []Change{{"command", "", `["a b","<&>"]`}}},
		{"an empty text is another thing than none", Spec{}, Spec{Labels: map[string]string{"x": ""}}, []Change{{"labels.x", "", `""`}}},
		{"an empty value", Spec{EnvironmentVariables: []EnvVar{{"A", ""}}}, Spec{EnvironmentVariables: []EnvVar{{"A", "1"}}}, []Change{{"environmentVariables.A.value", `""`, "1"}}},
		{"a large number", Spec{}, Spec{ReadyTimeout: 1000000}, []Change{{"readyTimeout", "", "1000000"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.from.Name, tt.to.Name = "web", "web"
			a, b := Release{Spec: tt.from}, Release{Spec: tt.to}
			got := Changes(a, b)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("Changes (-want +got):\n%s", d)
			}
			if (a.Hash() == b.Hash()) != (len(got) == 0) {
				t.Errorf("the same containers: %t, although the changes are %v", a.Hash() == b.Hash(), got)
			}
		})
	}
}
