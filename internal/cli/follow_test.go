package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// A following is an update --wait of web that has written its state.
type following struct {
	*fleet
	gen      int64
	out, err syncBuffer
	ended    chan error
}

func newFollowing(t *testing.T, timeout time.Duration, hosts ...string) *following {
	t.Helper()
	w := &following{fleet: newFleet(t), ended: make(chan error, 1)}
	for _, h := range hosts {
		w.put("machines/"+h+"/state", component.Machine{Status: "running", Components: []string{"web"}})
	}
	w.put("components/web/state", component.Desired{Status: component.StatusReady, ImageID: imageID})
	w.gen = w.generation("web")
	c, err := etcdstate.Dial(t.Context(), etcdstate.Config{Endpoints: []string{w.etcd.Endpoint()}, CommandTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	g := &gantryd{env: Env{Out: &w.out, Err: &w.err}}
	go func() {
		w.ended <- g.follow(t.Context(), c, "shop", []operator.Release{{Name: "web", Generation: w.gen}}, timeout)
	}()
	return w
}

// says is what a host says of web. If it is told as a line, that is seen before the next one, for changes that
// come together are told together.
func (w *following) says(host, step, detail, line string) {
	w.t.Helper()
	w.put("components/web/hosts/"+host, component.HostStatus{Host: host, Target: w.gen, Step: step, Detail: detail})
	if line == "" {
		return
	}
	line = "web: host " + host + ": " + line + "\n"
	within(w.t, 30*time.Second, line, func() bool { return strings.HasSuffix(w.out.String(), line) })
}

// end waits for the end of the command and returns its exit code and what it printed.
func (w *following) end() (code int, out, err string) {
	w.t.Helper()
	select {
	case e := <-w.ended:
		var text bytes.Buffer
		code = finish(Env{Err: &text}, "gantryd", e)
		return code, w.out.String(), w.err.String() + text.String()
	case <-time.After(30 * time.Second):
		w.t.Fatal("the command does not end")
	}
	return 0, "", ""
}

func TestFollowToTheEnd(t *testing.T) {
	w := newFollowing(t, time.Minute, "h1", "h2")
	w.says("h2", component.StepWaiting, "turn of h1", "waiting: turn of h1")
	w.says("h1", component.StepPulling, "", "pulling")
	w.says("h1", component.StepStarting, "", "starting")
	w.says("h1", component.StepStarting, "ready checks", "")
	w.says("h1", component.StepStarting, "ready checks: 503", "starting: ready checks: 503")
	w.says("h1", component.StepStarting, "", "")
	w.says("h1", component.StepBaking, "bake", "baking")
	w.says("h1", component.StepBaking, "first health check", "baking: first health check")
	w.says("h1", component.StepServing, "", "serving")
	w.says("h2", component.StepStarting, "", "starting")
	w.says("h2", component.StepServing, "", "serving")
	w.put("components/web/rollout", component.Rollout{Generation: w.gen, Status: component.RolloutDone})
	code, out, errOut := w.end()
	want := []string{
		"web: host h2: waiting: turn of h1", "web: host h1: pulling", "web: host h1: starting",
		"web: host h1: starting: ready checks: 503", "web: host h1: baking", "web: host h1: baking: first health check",
		"web: host h1: serving", "web: host h2: starting", "web: host h2: serving", "web: done on 2 hosts",
	}
	if d := cmp.Diff(want, strings.Split(strings.TrimSpace(out), "\n")); d != "" || code != exitOK || errOut != "" {
		t.Errorf("code %d, stderr %q, stdout (-want +got):\n%s", code, errOut, d)
	}
}

// TestFollowTellsPortsThatAreNotThere: a rollout is done when the containers serve, but clients of a port that could
// not be opened are not served.
func TestFollowTellsPortsThatAreNotThere(t *testing.T) {
	w := newFollowing(t, time.Minute, "h1", "h2")
	for _, h := range []string{"h1", "h2"} {
		st := component.HostStatus{Host: h, Target: w.gen, Step: component.StepServing}
		if h == "h2" {
			st.RouteErr = `open listener "web:443": no certificate`
		}
		w.put("components/web/hosts/"+h, st)
	}
	w.put("components/web/rollout", component.Rollout{Generation: w.gen, Status: component.RolloutDone})
	code, out, errOut := w.end()
	want := `gantryd: update "web": the release serves, but not by all of its ports: host h2: open listener "web:443": no certificate` + "\n"
	if code != exitFailed || !strings.Contains(out, "web: done on 2 hosts\n") || !strings.HasPrefix(errOut, want) {
		t.Errorf("code %d, stdout %q, stderr %q, want %q", code, out, errOut, want)
	}
}

func TestFollowHalted(t *testing.T) {
	w := newFollowing(t, time.Minute, "h1")
	f := component.Failure{Generation: w.gen, Kind: component.UpdateFail, Container: "aaaaaaaaaaaaaaaa", Reason: "not ready after 10s: \x1b[2J503", Log: []string{"listening", "cannot reach db"}}
	w.put("components/web/hosts/h1", component.HostStatus{Host: "h1", Target: w.gen, Step: component.StepFailed, Detail: f.Reason, Failure: &f})
	w.put("components/web/rollout", component.Rollout{Generation: w.gen, Status: component.RolloutHalted, Kind: component.UpdateFail, Host: "h1", Reason: "host h1: not ready"})
	code, _, errOut := w.end()
	want := `gantryd: update "web" halted (updatefail): host h1: not ready after 10s: ?[2J503
last log lines of container aaaaaaaaaaaa:
  listening
  cannot reach db
hint: the other hosts keep the release before; a new 'gantryd update' is a new try
`
	if d := cmp.Diff(want, errOut); d != "" || code != exitFailed {
		t.Errorf("code %d, stderr (-want +got):\n%s", code, d)
	}
}

func TestFollowSuperseded(t *testing.T) {
	w := newFollowing(t, time.Minute, "h1")
	w.put("components/web/state", component.Desired{Status: component.StatusStopped})
	if code, out, errOut := w.end(); code != exitRefused || !strings.Contains(out, "superseded") || !strings.Contains(errOut, "another command came in between") {
		t.Errorf("code %d, stdout %q, stderr %q", code, out, errOut)
	}
}

func TestFollowWithoutHosts(t *testing.T) {
	w := newFollowing(t, 8*time.Second)
	code, out, errOut := w.end()
	if code != exitFailed || out != "web: waiting: no host runs this component yet\n" {
		t.Errorf("code %d, stdout %q", code, out)
	}
	if want := "gantryd: not done after 8s: web\nhint: the rollout goes on; 'gantryd status shop' tells how it stands\n"; errOut != want {
		t.Errorf("stderr = %q, want %q", errOut, want)
	}
}

func TestFollowSaysThatEtcdIsSilent(t *testing.T) {
	w := newFollowing(t, time.Minute, "h1")
	w.says("h1", component.StepStarting, "", "starting")
	w.etcd.Stop()
	within(t, 30*time.Second, "it says so", func() bool { return strings.Contains(w.err.String(), "etcd does not answer") })
	w.etcd.Start(t)
	w.says("h1", component.StepServing, "", "serving")
	w.put("components/web/rollout", component.Rollout{Generation: w.gen, Status: component.RolloutDone})
	code, _, errOut := w.end()
	if code != exitOK || strings.Count(errOut, "etcd does not answer; waiting for it\n") != 1 {
		t.Errorf("code %d, stderr %q", code, errOut)
	}
}

func TestExitCodes(t *testing.T) {
	tests := []struct {
		err  error
		code int
	}{
		{nil, exitOK},
		{errors.New("x"), exitFailed},
		{component.ErrUnreachable, exitUnreachable},
		{component.ErrEngineUnreachable, exitUnreachable},
		{component.ErrChanged, exitRefused},
		{fail(exitNotFound, "x"), exitNotFound},
	}
	for _, tt := range tests {
		if got := finish(Env{Err: &bytes.Buffer{}}, "x", tt.err); got != tt.code {
			t.Errorf("exit code of %v = %d, want %d", tt.err, got, tt.code)
		}
	}
}
