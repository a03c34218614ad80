package fleettest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// A taskFile is where pre-deploy tasks tell that they run, and learn how to end.
type taskFile string

// task makes a component's pre-deploy task one that ends when the test says so.
func task(t *testing.T, s *component.Spec) taskFile {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s.Bindings = append(s.Bindings, component.Binding{External: dir, Volume: "/task"})
	s.PreDeploy.Command = []string{"await", "/task/go"}
	return taskFile(filepath.Join(dir, "go"))
}

func (f taskFile) ends(t *testing.T, code int) {
	t.Helper()
	if err := os.WriteFile(string(f), fmt.Append(nil, code), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ran is what the tasks told so far: a line when each begins, one when it ends.
func (f taskFile) ran(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(string(f) + ".log")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

func (f taskFile) begins(t *testing.T, times int) {
	t.Helper()
	fleettest.Await(t, fleettest.Finally, "the task runs", func() error {
		if n := strings.Count(strings.Join(f.ran(t), " "), "begin"); n != times {
			return fmt.Errorf("it began %d times, want %d", n, times)
		}
		return nil
	})
}

// tasker is the host that has the turn for the task.
func tasker(t *testing.T, f *fleettest.Fleet, ds []*fleettest.Daemon) (it *fleettest.Daemon, others []*fleettest.Daemon) {
	t.Helper()
	name := f.State(t).Components["web"].Turn.Tasker
	for _, d := range ds {
		if d.Host == name {
			it = d
			continue
		}
		others = append(others, d)
	}
	if it == nil {
		t.Fatalf("nobody has the turn for the task, but %q", name)
	}
	return it, others
}

// taskless returns an error while containers of tasks are left.
func taskless(t *testing.T, f *fleettest.Fleet) error {
	t.Helper()
	if cs := f.Docker.Containers(t, "dev.gantryd.project="+f.Project, "dev.gantryd.task"); len(cs) > 0 {
		return fmt.Errorf("%d containers of tasks are left", len(cs))
	}
	return nil
}

func TestTaskRunsOnceBeforeTheFirstHost(t *testing.T) {
	t.Parallel()
	var file taskFile
	f, ds := three(t)
	spec := f.Web()
	file = task(t, &spec)
	f.Configure(t, spec)
	f.Release(t, "web", version("v2"))
	plan := f.Gantryd(t, "plan", f.Project, "-c", "web")
	if plan.Code != 10 || !strings.Contains(plan.Out, "pre-deploy task first: await /task/go") {
		t.Errorf("plan = %v", plan)
	}
	f.Must(t, "update", f.Project, "-c", "web")
	file.begins(t, 1)
	it, _ := tasker(t, f, ds)
	fleettest.Await(t, fleettest.Soon, "list tells of the task", func() error { return standsAt(t, f, "pre-deploy task on "+it.Host) })
	for _, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v1")
	}
	file.ends(t, 0)
	fleettest.Await(t, fleettest.Finally, "the update is done", func() error {
		if past := pastOf(t, f); past[0].Outcome != component.OutcomeDone || past[0].Rollout.Prepared == nil {
			return fmt.Errorf("newest entry = %+v", past[0])
		}
		return taskless(t, f)
	})
	for _, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v2")
	}
	f.Must(t, "update", f.Project, "-c", "web", "--wait", "--timeout", "3m")
	f.Must(t, "rollback", f.Project, "-c", "web", "--wait", "--timeout", "3m")
	if got := strings.Join(file.ran(t), " "); got != "begin end" {
		t.Errorf("the task told %q, want that it ran once: not for the same release, nor for a rollback", got)
	}
}

func TestFailedTaskHaltsBeforeTheFirstHost(t *testing.T) {
	t.Parallel()
	f, ds := three(t)
	spec := f.Web()
	file := task(t, &spec)
	f.Configure(t, spec)
	f.Release(t, "web", version("v2"))
	file.ends(t, 3)
	r := f.Gantryd(t, "update", f.Project, "-c", "web", "--wait", "--timeout", "3m")
	if r.Code != 1 || !strings.Contains(r.Err, "pre-deploy task failed: exit code 3") || !strings.Contains(r.Err, "waiting for /task/go") {
		t.Errorf("update --wait = %v", r)
	}
	for _, d := range ds {
		answeredBy(t, d.URL(f.Port, "/"), "v1")
		if n := len(f.Containers(t, d.Host, "web")); n != 1 {
			t.Errorf("%s has %d containers, want the one it had", d.Host, n)
		}
	}
	now := pastOf(t, f)[0]
	if now.Outcome != component.OutcomeHalted || now.Rollout.Kind != component.PreDeployFail || !strings.Contains(strings.Join(now.Rollout.Log, " "), "waiting for /task/go") {
		t.Errorf("newest entry = %+v", now)
	}
	if why := f.Must(t, "why", f.Project, "-c", "web").Out; !strings.Contains(why, "exit code 3; last log lines: waiting for /task/go") {
		t.Errorf("why = %s", why)
	}
	fleettest.Await(t, fleettest.Soon, "the task's container is gone", func() error { return taskless(t, f) })
	file.ends(t, 0)
	f.Must(t, "retry", f.Project, "-c", "web")
	fleettest.Await(t, fleettest.Finally, "the new try is done", func() error {
		if past := pastOf(t, f); past[0].Outcome != component.OutcomeDone {
			return fmt.Errorf("newest entry = %+v", past[0])
		}
		return nil
	})
}

// The container lives on without its daemon: another one must not run beside it.
func TestTaskOfADaemonThatDiedIsAdopted(t *testing.T) {
	t.Parallel()
	f, ds := three(t)
	spec := f.Web()
	file := task(t, &spec)
	f.Configure(t, spec)
	f.Release(t, "web", version("v2"))
	f.Must(t, "update", f.Project, "-c", "web")
	file.begins(t, 1)
	it, _ := tasker(t, f, ds)
	it.Kill(t)
	fleettest.Await(t, fleettest.Finally, "the others wait for it", func() error { return standsAt(t, f, "host "+it.Host+" was lost in its turn") })
	it.Start(t)
	fleettest.Await(t, fleettest.Finally, "it has the turn again", func() error {
		if now := f.State(t).Components["web"].Turn.Tasker; now != it.Host {
			return fmt.Errorf("%q has it", now)
		}
		return nil
	})
	file.ends(t, 0)
	fleettest.Await(t, fleettest.Finally, "the update is done", func() error {
		if past := pastOf(t, f); past[0].Outcome != component.OutcomeDone {
			return fmt.Errorf("newest entry = %+v", past[0])
		}
		return taskless(t, f)
	})
	if got := strings.Join(file.ran(t), " "); got != "begin end" {
		t.Errorf("the task told %q, want that it ran once", got)
	}
}

func TestTaskOfALostHostRunsElsewhere(t *testing.T) {
	t.Parallel()
	f, ds := three(t)
	spec := f.Web()
	file := task(t, &spec)
	f.Configure(t, spec)
	f.Release(t, "web", version("v2"))
	f.Must(t, "update", f.Project, "-c", "web", "--on-host-lost", "continue")
	file.begins(t, 1)
	it, _ := tasker(t, f, ds)
	it.Kill(t)
	for _, c := range f.Docker.Containers(t, "dev.gantryd.project="+f.Project, "dev.gantryd.task") {
		f.Docker.Remove(t, c.ID) // its machine is off
	}
	file.begins(t, 2)
	file.ends(t, 0)
	fleettest.Await(t, fleettest.Finally, "the update is done on the others", func() error {
		if past := pastOf(t, f); past[0].Outcome != component.OutcomeDone {
			return fmt.Errorf("newest entry = %+v", past[0])
		}
		return nil
	})
}
