package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
)

// rolls makes web roll out, under policy p, on hosts h1 and h2.
func (f *fleet) rolls(p component.RolloutPolicy) int64 {
	f.t.Helper()
	for _, h := range []string{"h1", "h2"} {
		f.put("machines/"+h+"/state", component.Machine{Status: "running", Components: []string{"web"}, IP: "192.0.2." + h[1:]})
	}
	f.put("components/web/state", component.Desired{
		Status: component.StatusReady, ImageID: imageID, Spec: &component.Spec{Name: "web", Repo: "shop/web", Rollout: p},
	})
	return f.generation("web")
}

// record is the stored rollout record of web.
func (f *fleet) record() (r component.Rollout) {
	f.t.Helper()
	if v := f.all()["/gantryd/projects/shop/components/web/rollout"]; v.Text != "" {
		if err := json.Unmarshal([]byte(v.Text), &r); err != nil {
			f.t.Fatal(err)
		}
	}
	return r
}

func TestOperatorsWords(t *testing.T) {
	f := newFleet(t)
	g := f.rolls(component.RolloutPolicy{Canary: 1})
	say := func(code int, text string, args ...string) {
		t.Helper()
		o := f.gantryd("", append([]string{args[0], "shop", "-c", "web"}, args[1:]...)...)
		if o.code != code || !strings.Contains(o.out+o.err, text) {
			t.Errorf("%v = %+v, want code %d and %q", args, o, code, text)
		}
	}
	say(exitRefused, "cannot resume web: generation", "resume")
	say(exitOK, fmt.Sprintf("Paused: component web, generation %d", g), "pause", "--reason", "lunch")
	if r := f.record(); r.Generation != g || r.Paused == nil || r.Paused.Reason != "lunch" || !strings.HasPrefix(r.Paused.By, "ann@") {
		t.Errorf("record = %+v", r)
	}
	say(exitRefused, "is paused already, by ann@", "pause")
	if o := f.gantryd("", "status", "shop", "-c", "web"); !strings.Contains(o.out, "paused by ann@") || !strings.Contains(o.out, ": lunch") {
		t.Errorf("status = %+v", o)
	}
	say(exitOK, "Resumed", "resume")
	say(exitRefused, fmt.Sprintf("generation %d is what is asked for, not 1", g), "promote", "--generation", "1")
	say(exitOK, "Promoted", "promote", "--generation", fmt.Sprint(g))
	say(exitRefused, "promoted already", "promote")
	say(exitRefused, "goes on, and no host failed", "retry")
	say(exitOK, "Aborted", "abort", "--reason", "wrong logo")
	if o := f.gantryd("", "list", "shop", "-c", "web", "-o", "json"); !strings.Contains(o.out, `"aborted"`) || !strings.Contains(o.out, "wrong logo") {
		t.Errorf("list = %+v", o)
	}
	say(exitRefused, "nothing rolls out", "abort")
	say(exitOK, "Tried again", "retry")
	if r := f.record(); r.Status != component.RolloutProgressing || r.Attempt != 1 {
		t.Errorf("record = %+v", r)
	}
	f.put("components/web/rollout", component.Rollout{Generation: g, Status: component.RolloutDone})
	say(exitRefused, "every host came to generation", "pause")
	if o := f.gantryd("", "pause", "shop", "-c", "db"); o.code != exitRefused || !strings.Contains(o.err, "nothing was asked for yet") {
		t.Errorf("pause of nothing = %+v", o)
	}
	if o := f.gantryd("", "pause", "shop", "-c", "nope"); o.code != exitNotFound {
		t.Errorf("pause of an unknown component = %+v", o)
	}
}

func TestHostsAndForget(t *testing.T) {
	f := newFleet(t)
	f.rolls(component.RolloutPolicy{})
	f.put("components/web/turns/0", `{"host":"h1","generation":1}`)
	f.put("components/web/turns/changing/h1", `{"host":"h1","generation":1}`)
	f.put("components/web/turns/changing/h3", `{"host":"h3","generation":1}`)
	o := f.gantryd("", "hosts", "shop", "-o", "json")
	var rows struct{ Items []api.Host }
	if err := json.Unmarshal([]byte(o.out), &rows); err != nil || len(rows.Items) != 3 {
		t.Fatalf("hosts = %+v, %v", o, err)
	}
	if h1, h3 := rows.Items[0], rows.Items[2]; fmt.Sprint(h1.Turns, h1.LostIn, h3.Status, h3.LostIn) != "[web] []lost[web]" {
		t.Errorf("hosts = %+v", rows)
	}
	if o := f.gantryd("", "hosts", "shop"); !strings.Contains(o.out, "h3    lost") {
		t.Errorf("hosts = %+v", o)
	}
	if o := f.gantryd("", "status", "shop", "-c", "web"); !strings.Contains(o.out, "web: ready") && !strings.Contains(o.out, "was lost in its turn") {
		t.Errorf("status = %+v", o)
	}
	if o := f.gantryd("", "why", "shop", "-c", "web"); o.code != exitOK || !strings.Contains(o.out, "Host h3 was lost in its turn: its daemon does not run.") {
		t.Errorf("why = %+v", o)
	}
	if o := f.gantryd("", "why", "shop", "-c", "db"); o.out != "Nobody has asked for anything of db yet.\n" {
		t.Errorf("why of nothing = %+v", o)
	}
	if o := f.gantryd("", "forget", "shop", "h1"); o.code != exitRefused || !strings.Contains(o.err, "host h1 is alive") {
		t.Errorf("forget of a live host = %+v", o)
	}
	if o := f.gantryd("", "forget", "shop", "h3"); o.code != exitOK || !strings.Contains(o.out, "Forgot host h3") {
		t.Errorf("forget = %+v", o)
	}
	if o := f.gantryd("", "forget", "shop", "h3"); o.code != exitNotFound {
		t.Errorf("forget again = %+v", o)
	}
}

func TestPolicyFlags(t *testing.T) {
	f := newFleet(t)
	before := f.all()
	for _, tt := range []struct{ flag, says string }{
		{"--max-parallel=x", "neither a number of hosts nor a part"},
		{"--on-failure=maybe", "not one of halt, rollback"},
		{"--progress-deadline=1s", "not longer than what ready checks and bake may take"},
		{"--auto-promote=1m", "there are no canaries to promote"},
	} {
		if o := f.gantryd("", "update", "shop", "-c", "db", tt.flag); o.code != exitUsage || !strings.Contains(o.err, tt.says) {
			t.Errorf("update %s = %+v, want %q", tt.flag, o, tt.says)
		}
	}
	if o := f.gantryd("", "update", "shop", "--all", "--if-revision", "3"); o.code != exitUsage {
		t.Errorf("update --all --if-revision = %+v", o)
	}
	if len(f.all()) != len(before) {
		t.Error("mistakes changed what is stored")
	}
}
