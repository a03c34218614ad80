package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/rollout"
)

func TestEventsOfThePast(t *testing.T) {
	f := newFleet(t)
	first := f.asks("v1", component.RolloutDone)
	second := f.asks("v2", component.RolloutHalted)
	o := f.gantryd("", "events", "shop", "-c", "web")
	for _, want := range []string{
		fmt.Sprintf("web %d: asked: ann@build asked for shop/web:v1 (v1)", first), fmt.Sprintf("web %d: done: every host came to it", first),
		fmt.Sprintf("web %d: halted: host h2: not ready", second),
	} {
		if o.code != exitOK || !strings.Contains(o.out, want) {
			t.Errorf("events = %+v, without %q", o, want)
		}
	}
	if o := f.gantryd("", "events", "shop", "-o", "yaml"); o.code != exitUsage {
		t.Errorf("events -o yaml = %+v", o)
	}
	if o := f.gantryd("", "events", "nope"); o.code != exitNotFound {
		t.Errorf("events of an unknown project = %+v", o)
	}
}

func TestEventsFollow(t *testing.T) {
	f := newFleet(t)
	cmd := command(t, "gantryd", f.env, "events", "shop", "-c", "web", "--follow", "-o", "json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan rollout.Event, 100)
	go func() { // ends with the command
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			var e rollout.Event
			if json.Unmarshal(s.Bytes(), &e) == nil {
				lines <- e
			}
		}
	}()
	var failures []string
	await := func(kind string, what func()) rollout.Event {
		t.Helper()
		what()
		end := time.After(30 * time.Second)
		for {
			select {
			case e, ok := <-lines:
				if !ok {
					t.Fatalf("it ended before %q", kind)
				}
				if e.Kind == rollout.EventFailure {
					failures = append(failures, e.Text)
				}
				if e.Kind == kind {
					return e
				}
			case <-end:
				t.Fatalf("no %q", kind)
			}
		}
	}
	g := int64(0)
	e := await(rollout.EventAsked, func() { g = f.asks("v1", "") })
	if e.Component != "web" {
		t.Errorf("asked = %+v", e)
	}
	e = await(rollout.EventTurn, func() { f.put("components/web/turns/0", map[string]any{"host": "h1", "generation": g}) })
	if e.Host != "h1" || e.Generation != g {
		t.Errorf("turn = %+v, want one of h1 for %d", e, g)
	}
	e = await(rollout.EventHalted, func() {
		f.put("components/web/rollout", component.Rollout{Generation: g, Status: component.RolloutHalted, Host: "h1", Reason: "host h1: not ready"})
	})
	if e.Text != "host h1: not ready" {
		t.Errorf("halted = %+v", e)
	}
	// Its daemon is restarted: the status is gone, and comes again.
	was := component.HostStatus{Host: "h1", Target: g, Step: component.StepFailed, Failure: &component.Failure{Generation: g, Reason: "exit code 3", At: time.Now()}}
	await(rollout.EventFailure, func() { f.put("components/web/hosts/h1", was) })
	await(rollout.EventHostUp, func() { f.put("machines/h1/state", component.Machine{Status: "running"}) })
	await(rollout.EventHostDown, func() {
		f.etcd.Delete(t, "/gantryd/projects/shop/components/web/hosts/h1")
		f.etcd.Delete(t, "/gantryd/projects/shop/machines/h1/state")
	})
	f.put("components/web/hosts/h1", was)
	await(rollout.EventHostUp, func() { f.put("machines/h1/state", component.Machine{Status: "running"}) })
	was.Failure = &component.Failure{Generation: g, Reason: "exit code 4", At: was.Failure.At.Add(time.Minute)}
	await(rollout.EventFailure, func() { f.put("components/web/hosts/h1", was) })
	if d := cmp.Diff([]string{"exit code 3", "exit code 4"}, failures); d != "" {
		t.Errorf("failures told (-want +got):\n%s", d)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}
