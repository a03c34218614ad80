package cli

import (
	"strings"
	"testing"
)

func TestGantryRunsThePreDeployTask(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write(`, "preDeploy": {"command": ["print", "migrated"]}`)
	if out := m.must("start"); !strings.Contains(out, "Running the pre-deploy task of component web") || !strings.Contains(out, "Pre-deploy task of component web succeeded") {
		t.Errorf("start printed %q", out)
	}
	m.write(`, "preDeploy": {"command": ["exit", "3"]}`)
	before := m.must("list")
	o := m.gantry("update")
	if o.code != exitFailed || !strings.Contains(o.err, "pre-deploy task failed: exit code 3") {
		t.Errorf("update with a task that fails = %+v", o)
	}
	if after := m.must("list"); strings.Fields(after)[1] != strings.Fields(before)[1] {
		t.Errorf("list before %q, after %q: nothing was to change", before, after)
	}
	m.must("stop")
}
