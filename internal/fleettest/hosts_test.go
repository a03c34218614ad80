package fleettest_test

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// three is a fleet of three hosts that serve v1 of the web component.
func three(t *testing.T, edits ...func(*component.Spec)) (*fleettest.Fleet, []*fleettest.Daemon) {
	t.Helper()
	return threeWith(t, nil, edits...)
}

func threeWith(t *testing.T, options []fleettest.Option, edits ...func(*component.Spec)) (*fleettest.Fleet, []*fleettest.Daemon) {
	t.Helper()
	f := fleettest.New(t, options...)
	ds := hostsOf(t, f, 3)
	serveFirst(t, f, edits...)
	return f, ds
}

// hostsOf starts n daemons; args are further flags of theirs.
func hostsOf(t *testing.T, f *fleettest.Fleet, n int, args ...string) (ds []*fleettest.Daemon) {
	t.Helper()
	for i := range n {
		d := f.Daemon(t, fmt.Sprintf("h%d", i+1), args...)
		d.Start(t)
		ds = append(ds, d)
	}
	return ds
}

// serveFirst brings v1 of the web component up; edits change it first.
func serveFirst(t *testing.T, f *fleettest.Fleet, edits ...func(*component.Spec)) {
	t.Helper()
	spec := f.Web()
	for _, edit := range edits {
		edit(&spec)
	}
	f.Configure(t, spec)
	f.Release(t, "web", version("v1"))
	f.Update(t, "web")
}

// A change is the time in which a host brought a generation up.
type change struct {
	host       string
	begin, end time.Time
}

// changes reads from etcd's history when each host brought the wanted generation of the web component up,
// and fails the test when two had turns at once. A change begins when its container is created.
func changes(t *testing.T, f *fleettest.Fleet, since int64) []change {
	t.Helper()
	want := f.State(t).Components["web"].Desired.Generation
	begun := map[string]time.Time{} // by host
	for _, c := range f.Containers(t, "", "web") {
		if c.Labels["dev.gantryd.generation"] == strconv.FormatInt(want, 10) {
			begun[c.Labels["dev.gantryd.host"]] = c.Created
		}
	}
	turns := map[string]string{} // key → host
	done := map[string]bool{}
	var out []change
	root := "/gantryd/projects/" + f.Project + "/components/web/"
	for _, c := range etcdtest.History(t, f.Endpoint(), root, since) {
		switch dir, name := path.Split(strings.TrimPrefix(c.Key, root)); {
		case dir == "turns/" && c.Gone:
			delete(turns, name)
		case dir == "turns/":
			turns[name] = c.Value
		case dir == "hosts/" && !c.Gone:
			var st component.HostStatus
			if err := json.Unmarshal([]byte(c.Value), &st); err != nil {
				t.Fatal(err)
			}
			if st.Generation == want && !done[name] {
				out = append(out, change{name, begun[name], st.At})
				done[name] = true
			}
		}
		if len(turns) > 1 {
			t.Errorf("revision %d: two turns at once: %v", c.Revision, turns)
		}
	}
	return out
}

func TestThreeHostsFollowOneAfterAnother(t *testing.T) {
	f, ds := three(t)
	var loads []*fleettest.Load
	for _, d := range ds {
		loads = append(loads, fleettest.StartLoad(t, fleettest.LoadOptions{
			URL: d.URL(f.Port, "/"), Short: 1, KeepAlive: 1, Streams: 1, StreamFor: 15 * time.Second,
		}))
	}
	since := f.State(t).Cluster.Revision
	f.Release(t, "web", version("v2"))
	f.Update(t, "web")
	cs := changes(t, f, since+1)
	if len(cs) != 3 {
		t.Errorf("%d hosts changed, want 3: %v", len(cs), cs)
	}
	for i, c := range cs {
		t.Logf("host %s: from %v to %v", c.host, c.begin.Format("05.000"), c.end.Format("05.000"))
		if c.begin.IsZero() || i > 0 && c.begin.Before(cs[i-1].end) {
			t.Errorf("host %s began at %v, before host %s was done at %v", c.host, c.begin, cs[max(0, i-1)].host, cs[max(0, i-1)].end)
		}
	}
	for i, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v2")
		loads[i].Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream)
	}
}

func TestFailedHostKeepsTheOthersOnTheOldRelease(t *testing.T) {
	f, ds := three(t, func(s *component.Spec) { s.ReadyTimeout = 10_000 })
	bad := version("bad")
	bad.Env = []string{"NEVER_READY=1"}
	f.Release(t, "web", bad)
	r := f.Gantryd(t, "update", f.Project, "-c", "web", "--wait")
	if r.Code != 1 {
		t.Errorf("update --wait: %v", r)
	}
	created := 0
	for _, c := range f.Containers(t, "", "web") {
		if strings.Contains(c.Labels["dev.gantryd.release"], f.State(t).Components["web"].Desired.ImageID) {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d hosts started the release that failed on the first one", created)
	}
	for _, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v1")
	}
}

func TestHostKilledInItsTurnHandsItOn(t *testing.T) {
	f, ds := three(t, func(s *component.Spec) { s.Rollout.OnHostLost = component.OnLostContinue })
	slow := version("v2")
	slow.Env = []string{"READY_AFTER=6s"}
	f.Release(t, "web", slow)
	f.Must(t, "update", f.Project, "-c", "web")
	var holder *fleettest.Daemon
	fleettest.Await(t, fleettest.Soon, "a host has the turn", func() error {
		for _, d := range ds {
			if hs := f.State(t).Components["web"].Turn.Holders; len(hs) > 0 && hs[0] == d.Host {
				holder = d
				return nil
			}
		}
		return fmt.Errorf("none has")
	})
	holder.Kill(t)
	// The others go on without it, one lease after its death, and it follows when it is back.
	killed := time.Now()
	for _, d := range ds {
		if d == holder {
			continue
		}
		fleettest.Await(t, fleettest.Finally, d.Host+" serves v2", func() error { return serves(t, f, d.Host, 1) })
	}
	t.Logf("the other hosts were done %v after the kill", time.Since(killed).Round(100*time.Millisecond))
	holder.Start(t)
	fleettest.Await(t, fleettest.Finally, holder.Host+" serves v2", func() error { return serves(t, f, holder.Host, 1) })
	for _, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v2")
	}
}

// serves returns an error unless the host has proven the wanted generation and has n containers that run.
func serves(t *testing.T, f *fleettest.Fleet, host string, n int) error {
	t.Helper()
	return servesA(t, f, "web", host, n)
}

// servesA is serves of any component.
func servesA(t *testing.T, f *fleettest.Fleet, name, host string, n int) error {
	t.Helper()
	v := f.State(t).Components[name]
	if st := v.Hosts[host]; st.Generation != v.Desired.Generation || st.Step != component.StepServing {
		return fmt.Errorf("it is %s (%s) at generation %d, want %d", st.Step, st.Detail, st.Generation, v.Desired.Generation)
	}
	if got := len(f.Running(t, host, name)); got != n {
		return fmt.Errorf("%d containers run, want %d", got, n)
	}
	return nil
}

func TestTwoOperatorsUpdatingAtOnceEndAtTheLastWord(t *testing.T) {
	f, ds := three(t)
	load := fleettest.StartLoad(t, fleettest.LoadOptions{URL: ds[0].URL(f.Port, "/"), Short: 1, KeepAlive: 1, Streams: 1, StreamFor: 10 * time.Second})
	var operators sync.WaitGroup
	results := make([][]fleettest.Result, 2)
	for i := range results {
		operators.Go(func() {
			for range count(8) {
				r := f.Gantryd(t, "update", f.Project, "-c", "web", "--wait", "--timeout", "3m")
				results[i] = append(results[i], r)
			}
		})
	}
	// A third one moves the tag under them, which is what two builds at once do.
	for i := range count(20) {
		f.Release(t, "web", version(fmt.Sprintf("v%d", 2+i%2)))
		fleettest.Pass(t, 200*time.Millisecond)
	}
	operators.Wait()
	codes := map[int]int{}
	for _, rs := range results {
		for _, r := range rs {
			codes[r.Code]++
			if r.Code != 0 && r.Code != 4 {
				t.Error(r)
			}
			if r.Code == 4 && !strings.Contains(r.Err, "another command came in between") {
				t.Error(r)
			}
		}
	}
	t.Logf("exit codes: %v", codes)
	f.Update(t, "web")
	want := f.State(t).Components["web"].Desired
	for _, d := range ds {
		c := onlyServing(t, f, d.Host, "web", 0)
		if c.ImageID != want.ImageID {
			t.Errorf("host %s runs %s, want %s", d.Host, c.ImageID, want.ImageID)
		}
	}
	load.Stop().NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream)
}
