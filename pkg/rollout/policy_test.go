package rollout

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
)

// rolling is a view of three hosts in the middle of a rollout to generation 2.
func rollingView(changes ...func(*component.View)) component.View {
	v := view(host("h1", 1, component.StepWaiting), host("h2", 1, component.StepWaiting), host("h3", 1, component.StepWaiting), machine("h3", "web"))
	v.Desired.Spec = &component.Spec{Name: "web"}
	for _, c := range changes {
		c(&v)
	}
	return v
}

func policy(f func(*component.RolloutPolicy)) func(*component.View) {
	return func(v *component.View) { f(&v.Desired.Spec.Rollout) }
}

func rec(f func(*component.Rollout)) func(*component.View) {
	return func(v *component.View) { f(&v.Rollout) }
}

func holders(hosts ...string) func(*component.View) {
	return func(v *component.View) { v.Turn.Holders = hosts }
}

func changing(hosts ...string) func(*component.View) {
	return func(v *component.View) {
		v.Changing = map[string]int64{}
		for _, h := range hosts {
			v.Changing[h] = 1
		}
	}
}

func canary(n component.Share) func(*component.View) {
	return policy(func(p *component.RolloutPolicy) { p.Canary = n })
}

func canaries(hosts ...string) func(*component.View) {
	return rec(func(r *component.Rollout) { r.Canaries = hosts })
}

func paused(r *component.Rollout) { r.Paused = &component.Word{By: "ann", Reason: "lunch"} }

func serving(name string) func(*component.View) { return host(name, 2, component.StepServing) }

func TestSlots(t *testing.T) {
	parallel := func(s component.Share) func(*component.View) {
		return policy(func(p *component.RolloutPolicy) { p.MaxParallel = s })
	}
	tests := []struct {
		name string
		view component.View
		want int
	}{
		{"one by default", rollingView(), 1},
		{"a number", rollingView(parallel(2)), 2},
		{"a part, rounded down", rollingView(parallel(-67)), 2},
		{"a part of a few is one", rollingView(parallel(-10)), 1},
		{"all of them", rollingView(parallel(-100)), 3},
		{"a lost host counts as one", rollingView(parallel(-50), changing("h4")), 2},
	}
	for _, tt := range tests {
		if got := Slots("web", tt.view); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestHold(t *testing.T) {
	goesOn := policy(func(p *component.RolloutPolicy) { p.OnHostLost = component.OnLostContinue })
	two := policy(func(p *component.RolloutPolicy) { p.MaxParallel = 2 })
	tests := []struct {
		name string
		view component.View
		want string // for host h1
	}{
		{"nothing in the way", rollingView(), ""},
		{"a turn that is taken ends by itself", rollingView(holders("h2"), changing("h2")), ""},
		{"paused", rollingView(rec(paused)), "paused by ann: lunch"},
		{"paused, but done", rollingView(rec(paused), record(2, component.RolloutDone)), ""},
		{"no canary yet", rollingView(canary(1)), ""},
		{"it is a canary", rollingView(canary(1), canaries("h1")), ""},
		{"another is the canary", rollingView(canary(1), canaries("h2")), "canaries first: waits for h2"},
		{"one more canary", rollingView(canary(2), canaries("h2")), ""},
		{"the canary serves", rollingView(canary(1), canaries("h2"), serving("h2")), "the canaries serve: waits for promote"},
		{"promoted", rollingView(canary(1), canaries("h2"), rec(func(r *component.Rollout) { r.Promoted = &component.Word{} })), ""},
		{"a rollback has no canaries", rollingView(canary(1), canaries("h2"), func(v *component.View) { v.Desired.Source = 1 }), ""},
		{"a host was lost", rollingView(changing("h2")), "host h2 was lost in its turn: waits until it is back, or forgotten"},
		{"it was lost itself", rollingView(changing("h1")), ""},
		{"a host was lost, two at a time", rollingView(changing("h2"), two), ""},
		{"a host was lost and one changes, two at a time", rollingView(changing("h2", "h3"), holders("h3"), two), "host h2 was lost in its turn: waits until it is back, or forgotten"},
		{"a host was lost, and that does not matter", rollingView(changing("h2"), goesOn), ""},
		{"a host was lost before an automatic rollback", rollingView(changing("h2"), func(v *component.View) { v.Desired.Automatic = true }), ""},
		{"nothing is asked for", component.View{}, ""},
	}
	for _, tt := range tests {
		if got := Hold("web", "h1", tt.view); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestJudge(t *testing.T) {
	auto := policy(func(p *component.RolloutPolicy) { p.AutoPromote = component.Duration(time.Minute) })
	failed := func(hosts ...string) func(*component.View) {
		return rec(func(r *component.Rollout) { r.Failed = hosts })
	}
	all := func(v *component.View) { serving("h1")(v); serving("h2")(v); serving("h3")(v) }
	tests := []struct {
		name   string
		view   component.View
		waited time.Duration
		want   component.RolloutStatus // "": nothing to write
		says   string
	}{
		{"goes on", rollingView(), time.Minute, "", ""},
		{"all serve", rollingView(all), 0, component.RolloutDone, ""},
		{"all serve, while it is paused", rollingView(all, rec(paused)), 0, component.RolloutDone, ""},
		{"all serve, one was lost", rollingView(all, changing("h4")), 0, "", ""},
		{"all serve or were passed over", rollingView(serving("h1"), serving("h2"), failed("h3")), 0, component.RolloutDone, ""},
		{"all failed", rollingView(failed("h1", "h2", "h3")), SteadyFor, component.RolloutHalted, "every host failed"},
		{"all failed that run at this moment", rollingView(failed("h1", "h2", "h3")), SteadyFor - 1, "", ""},
		{"all failed, paused", rollingView(failed("h1", "h2", "h3"), rec(paused)), SteadyFor, component.RolloutHalted, "every host failed"},
		{"all failed that run, while another begins", rollingView(failed("h1", "h2", "h3"), machine("h4", "web")), SteadyFor, "", ""},
		{"no progress", rollingView(), 10*time.Minute + 10*time.Second, component.RolloutHalted, "no progress for 10m10s: host h1: waiting; host h2: waiting; host h3: waiting"},
		{"no progress, one was lost", rollingView(serving("h1"), serving("h2"), serving("h3"), changing("h4")), time.Hour, component.RolloutHalted, "host h4 was lost in its turn"},
		{"no progress, paused", rollingView(rec(paused)), time.Hour, "", ""},
		{"no progress in a deadline that was set", rollingView(policy(func(p *component.RolloutPolicy) { p.ProgressDeadline = component.Duration(time.Minute) })), time.Minute, component.RolloutHalted, "no progress for 1m0s"},
		{"no host runs it", rollingView(func(v *component.View) { v.Machines = nil }), time.Hour, "", ""},
		{"canaries wait for a word for ever", rollingView(canary(1), canaries("h1"), serving("h1")), 24 * time.Hour, "", ""},
		{"canaries wait for a while", rollingView(canary(1), canaries("h1"), serving("h1"), auto), time.Minute, component.RolloutProgressing, ""},
		{"canaries wait, not long enough", rollingView(canary(1), canaries("h1"), serving("h1"), auto), 59 * time.Second, "", ""},
		{"canaries that come no further", rollingView(canary(1), canaries("h1"), auto), time.Hour, component.RolloutHalted, "no progress"},
		{"it halted", rollingView(record(2, component.RolloutHalted)), time.Hour, "", ""},
		{"it is to be stopped", rollingView(want(component.StatusStopped)), time.Hour, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, ok := Judge("web", tt.view, Waited{tt.waited, tt.waited})
			if ok != (tt.want != "") || r.Status != tt.want || !strings.Contains(r.Reason, tt.says) {
				t.Errorf("Judge = %+v, %t, want %q and %q", r, ok, tt.want, tt.says)
			}
			if ok && tt.want == component.RolloutProgressing && r.Promoted == nil {
				t.Error("it is not promoted")
			}
			if !ok {
				wantDue(t, tt.view, Waited{tt.waited, tt.waited})
			}
		})
	}
}

// wantDue fails when Judge, which has nothing to say now, finds words at another time than Due says.
func wantDue(t *testing.T, v component.View, w Waited) {
	t.Helper()
	after := func(d time.Duration) bool {
		_, ok := Judge("web", v, Waited{w.Mark + d, w.Hosts + d})
		return ok
	}
	due := Due("web", v, w)
	switch {
	case due < 0, due == 0 && after(1000*time.Hour):
		t.Errorf("due after %v, and there is something to say later", due)
	case due > 0 && (after(due-1) || !after(due)):
		t.Errorf("due after %v: something to say just before: %t, then: %t", due, after(due-1), after(due))
	}
}

func TestDueIsTheFirstOfTwo(t *testing.T) {
	v := rollingView(rec(func(r *component.Rollout) { r.Failed = []string{"h1", "h2", "h3"} }))
	for _, w := range []Waited{{}, {Mark: time.Minute}, {Mark: 10*time.Minute + 9*time.Second}, {Hosts: SteadyFor - 1}, {Mark: 10 * time.Minute, Hosts: time.Second}} {
		wantDue(t, v, w)
	}
}

func TestMarkChangesWithProgressOnly(t *testing.T) {
	before := Mark("web", rollingView())
	same := map[string]component.View{
		"another step": rollingView(host("h1", 1, component.StepStarting)),
		"older record": rollingView(rec(func(r *component.Rollout) { r.Reason = "x" })),
	}
	for name, v := range same {
		if Mark("web", v) != before {
			t.Errorf("%s counts as progress", name)
		}
	}
	other := map[string]component.View{
		"a host is done":     rollingView(serving("h1")),
		"a turn was taken":   rollingView(holders("h1")),
		"paused":             rollingView(rec(paused)),
		"another try":        rollingView(rec(func(r *component.Rollout) { r.Attempt = 1 })),
		"a newer generation": rollingView(func(v *component.View) { v.Desired.Generation = 3 }),
		"one passed over":    rollingView(rec(func(r *component.Rollout) { r.Failed = []string{"h1"} })),
	}
	for name, v := range other {
		if Mark("web", v) == before {
			t.Errorf("%s does not count as progress", name)
		}
	}
}

func TestGoesBack(t *testing.T) {
	back := policy(func(p *component.RolloutPolicy) { p.OnFailure = component.OnFailureRollback })
	halted := record(2, component.RolloutHalted)
	tests := []struct {
		name string
		view component.View
		want bool
	}{
		{"it halted", rollingView(halted, back), true},
		{"it halted, and is to stay", rollingView(halted), false},
		{"it goes on", rollingView(back), false},
		{"an older one halted", rollingView(back, record(1, component.RolloutHalted)), false},
		{"a rollback that fails halts", rollingView(halted, back, func(v *component.View) { v.Desired.Source = 1 }), false},
		{"there is nothing to go back to", rollingView(halted, back, rec(func(r *component.Rollout) { r.Stays = true })), false},
		{"it is to be stopped", rollingView(halted, back, want(component.StatusStopped)), false},
	}
	for _, tt := range tests {
		if got := GoesBack(tt.view); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestWords(t *testing.T) {
	w := component.Word{By: "bob", Reason: "why", At: time.Unix(1, 0)}
	halted := rec(func(r *component.Rollout) {
		*r = component.Rollout{Generation: 2, Status: component.RolloutHalted, Kind: component.UpdateFail, Host: "h1", Reason: "bad", Failed: []string{"h1"}, Canaries: []string{"h1"}}
	})
	say := map[string]func(component.View, component.Word) (component.Rollout, error){
		"pause": Pause, "resume": Resume, "promote": Promote, "abort": Abort, "retry": Retry,
	}
	progressing := component.Rollout{Generation: 2, Status: component.RolloutProgressing}
	with := func(r component.Rollout, f func(*component.Rollout)) component.Rollout { f(&r); return r }
	tests := []struct {
		word     string
		name     string
		view     component.View
		want     component.Rollout
		conflict string // part of it; empty: there is none
	}{
		{"pause", "goes on", rollingView(), with(progressing, func(r *component.Rollout) { r.Paused = &w }), ""},
		{"pause", "before any host began", rollingView(record(1, component.RolloutDone)), with(progressing, func(r *component.Rollout) { r.Paused = &w }), ""},
		{"pause", "paused", rollingView(rec(paused)), component.Rollout{}, "paused already, by ann: lunch"},
		{"pause", "done", rollingView(record(2, component.RolloutDone)), component.Rollout{}, "nothing rolls out: every host came to generation 2"},
		{"pause", "halted", rollingView(halted), component.Rollout{}, "generation 2 halted: bad"},
		{"pause", "stopped", rollingView(want(component.StatusStopped)), component.Rollout{}, "it is stopped, nothing rolls out"},
		{"pause", "nothing", component.View{}, component.Rollout{}, "nothing was asked for yet"},
		{"resume", "paused", rollingView(rec(paused)), progressing, ""},
		{"resume", "not paused", rollingView(), component.Rollout{}, "not paused"},
		{"promote", "canaries", rollingView(canary(1)), with(progressing, func(r *component.Rollout) { r.Promoted = &w }), ""},
		{"promote", "no canaries", rollingView(), component.Rollout{}, "no canaries to promote"},
		{"promote", "promoted", rollingView(canary(1), rec(func(r *component.Rollout) { r.Promoted = &w })), component.Rollout{}, "promoted already, by bob"},
		{"abort", "goes on", rollingView(rec(paused)), component.Rollout{Generation: 2, Status: component.RolloutHalted, Kind: component.Aborted, Reason: "aborted by bob: why", At: w.At}, ""},
		{"abort", "halted", rollingView(halted), component.Rollout{}, "halted: bad"},
		{"retry", "halted", rollingView(halted), component.Rollout{Generation: 2, Status: component.RolloutProgressing, Attempt: 1, Canaries: []string{"h1"}, At: w.At}, ""},
		{"retry", "hosts were passed over", rollingView(record(2, component.RolloutDone), rec(func(r *component.Rollout) { r.Failed = []string{"h1"} })), component.Rollout{Generation: 2, Status: component.RolloutProgressing, Attempt: 1, At: w.At}, ""},
		{"retry", "goes on", rollingView(), component.Rollout{}, "goes on, and no host failed"},
		{"retry", "done", rollingView(record(2, component.RolloutDone)), component.Rollout{}, "every host came to generation 2"},
		{"retry", "stopped", rollingView(halted, want(component.StatusStopped)), component.Rollout{}, "it is stopped"},
	}
	for _, tt := range tests {
		t.Run(tt.word+"/"+tt.name, func(t *testing.T) {
			got, err := say[tt.word](tt.view, w)
			if tt.conflict != "" {
				if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), tt.conflict) {
					t.Errorf("error %v, want a conflict with %q", err, tt.conflict)
				}
				return
			}
			if d := cmp.Diff(tt.want, got); err != nil || d != "" {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
		})
	}
}

func TestLostHosts(t *testing.T) {
	got := LostHosts(map[string]component.View{"web": rollingView(changing("h1", "h2"), holders("h2")), "db": rollingView(changing("h1"))})
	if d := cmp.Diff(map[string][]string{"h1": {"db", "web"}}, got); d != "" {
		t.Errorf("LostHosts (-want +got):\n%s", d)
	}
}
