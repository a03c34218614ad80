package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// A follower prints what the hosts do for some releases, one line per host and step.
type follower struct {
	g     *gantryd
	rs    []operator.Release
	said  map[string]string // component/host → last line
	over  map[string]error  // by component
	whole bool              // all releases are done
	back  map[string]string // why a component is rolled back by itself
}

var errOver = errors.New("over")

// follow watches the rollouts to their end.
func (g *gantryd) follow(ctx context.Context, c *etcdstate.Client, name string, rs []operator.Release, timeout time.Duration) error {
	f := &follower{g: g, rs: rs, said: make(map[string]string), over: make(map[string]error), back: make(map[string]string)}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done, finish := context.WithCancelCause(bounded)
	defer finish(nil)
	err := c.Watch(done, name, func(p etcdstate.Project) {
		if !p.Cluster.Reachable {
			fmt.Fprintln(g.env.Err, "etcd does not answer; waiting for it")
			return
		}
		for ended := -1; ended != len(f.over); { // what is over for one may be what others wait for
			ended = len(f.over)
			f.lookAtAll(p)
		}
		if len(f.over) == len(f.rs) {
			finish(errOver)
		}
	})
	switch {
	case errors.Is(context.Cause(done), errOver):
		return f.verdict()
	case errors.Is(bounded.Err(), context.DeadlineExceeded):
		return fail(exitFailed, "not done after %v: %s", timeout, f.open()).withHint("the rollout goes on; 'gantryd status %s' tells how it stands", name)
	}
	return err
}

// lookAtAll looks at each release.
func (f *follower) lookAtAll(p etcdstate.Project) {
	f.whole = !slices.ContainsFunc(f.rs, func(r operator.Release) bool {
		v := p.Components[r.Name]
		_, over := f.over[r.Name]
		return !over && (v.Desired.Generation != r.Generation || v.Record().Status != component.RolloutDone)
	})
	for i := range f.rs {
		f.look(&f.rs[i], p.Components[f.rs[i].Name])
	}
}

// wentBack is the end of an update that was rolled back.
func wentBack(name, why string) error {
	return fail(exitFailed, "update %q failed and was rolled back: %s", name, why).withHint("'gantryd history' keeps what happened")
}

// look prints what is new about one release and notes its end.
func (f *follower) look(r *operator.Release, v component.View) {
	if _, ended := f.over[r.Name]; ended || v.Desired.Generation < r.Generation {
		return
	}
	if v.Desired.Generation > r.Generation && takesBack(r.Generation, v.Desired) {
		f.say(r.Name, "", fmt.Sprintf("rolled back to generation %d", v.Desired.Source))
		f.back[r.Name], r.Generation = v.Desired.Reason, v.Desired.Generation
		if v.Desired.Status != component.StatusReady { // there is no rollout to wait for
			f.over[r.Name] = wentBack(r.Name, v.Desired.Reason)
			return
		}
	}
	if v.Desired.Generation > r.Generation {
		f.say(r.Name, "", "superseded by a newer command")
		f.over[r.Name] = fail(exitRefused, "update %q: another command came in between", r.Name)
		return
	}
	hosts := f.lookAtHosts(r, v)
	ro := v.Rollout
	if ro.Generation != r.Generation {
		return
	}
	if why, back := f.back[r.Name]; back && ro.Status == component.RolloutDone {
		f.say(r.Name, "", "the release before serves on "+plural(len(hosts), "host"))
		f.over[r.Name] = wentBack(r.Name, why)
		return
	}
	switch ro.Status {
	case component.RolloutDone:
		if len(v.Desired.Together) > 0 && !f.whole {
			f.say(r.Name, "", "done, but for the components it is together with")
			return
		}
		f.say(r.Name, "", "done on "+plural(len(hosts)-len(ro.Failed), "host"))
		if f.over[r.Name] = passedOver(r.Name, ro); f.over[r.Name] == nil {
			f.over[r.Name] = misrouted(r.Name, v)
		}
	case component.RolloutHalted:
		f.say(r.Name, "", "halted")
		if !rollout.GoesBack(v) { // else what follows is the rollback
			f.over[r.Name] = halted(r.Name, ro, v.Hosts[ro.Host].Failure)
		}
	case component.RolloutProgressing:
		if text := operator.Standing(r.Name, v); text != "" {
			f.say(r.Name, "", text)
		}
	}
}

// lookAtHosts prints what is new about the hosts, and returns those that the rollout waits for.
func (f *follower) lookAtHosts(r *operator.Release, v component.View) []string {
	hosts := rollout.Awaits(r.Name, v)
	switch {
	case rollout.AllDrained(r.Name, v):
		f.say(r.Name, "", "waiting: no host that runs this component is in service")
	case len(hosts) == 0:
		f.say(r.Name, "", "waiting: no host runs this component yet")
	}
	for _, h := range rollout.Skipped(r.Name, v) {
		f.say(r.Name, h, "skipped, "+v.Drained[h].String())
	}
	for _, h := range hosts {
		if st := v.Status(h); st.Target == r.Generation {
			f.say(r.Name, h, line(st))
		}
	}
	return hosts
}

// takesBack reports whether d was written by a host, to take the generation back.
func takesBack(generation int64, d component.Desired) bool {
	return d.Automatic && strings.HasPrefix(d.Operation, fmt.Sprintf("rollback-of-%d-", generation))
}

// passedOver is nil unless hosts failed in a rollout that is done.
func passedOver(name string, ro component.Rollout) error {
	if len(ro.Failed) == 0 {
		return nil
	}
	return fail(exitFailed, "update %q failed on %s: %s", name, strings.Join(ro.Failed, ", "), ro.Reason).
		withHint("they keep the release before; 'gantryd retry' gives them a new try")
}

// misrouted is nil unless ports are not as they were asked for, though the release serves.
func misrouted(name string, v component.View) error {
	wrong := operator.RouteErrors(v)
	if wrong == "" {
		return nil
	}
	return fail(exitFailed, "update %q: the release serves, but not by all of its ports: %s", name, clean(wrong)).
		withHint("the hosts try again; 'gantryd status' tells when the ports are there")
}

// line is a host's step, for people.
func line(st component.HostStatus) string {
	switch {
	case st.Detail == "", st.Step == component.StepServing, st.Detail == "ready checks", st.Detail == "bake":
		return st.Step // which says it all
	}
	return st.Step + ": " + st.Detail
}

// say prints a line unless the last one about the same said as much.
func (f *follower) say(name, host, text string) {
	key := name + "/" + host
	if last := f.said[key]; last == text || strings.HasPrefix(last, text+": ") {
		return
	}
	f.said[key] = text
	if host == "" {
		fmt.Fprintf(f.g.env.Out, "%s: %s\n", name, clean(text))
		return
	}
	fmt.Fprintf(f.g.env.Out, "%s: host %s: %s\n", name, host, clean(text))
}

// halted says who failed, why, and what the container said last.
func halted(name string, ro component.Rollout, f *component.Failure) error {
	text := ro.Reason
	if f != nil && f.Generation == ro.Generation {
		text = fmt.Sprintf("host %s: %s", ro.Host, f.Reason)
		if len(f.Log) > 0 {
			text += fmt.Sprintf("\nlast log lines of container %s:\n  %s", component.Short(f.Container), strings.Join(f.Log, "\n  "))
		}
	}
	return fail(exitFailed, "update %q halted (%s): %s", name, ro.Kind, text).
		withHint("the other hosts keep the release before; a new 'gantryd update' is a new try")
}

func (f *follower) verdict() error {
	for _, r := range f.rs {
		if err := f.over[r.Name]; err != nil {
			return err
		}
	}
	return nil
}

// open names the releases that have not come to an end.
func (f *follower) open() string {
	var out []string
	for _, r := range f.rs {
		if _, ended := f.over[r.Name]; !ended {
			out = append(out, r.Name)
		}
	}
	return strings.Join(out, ", ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
