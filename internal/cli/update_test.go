package cli

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
)

// withImage makes web and worker components of an image that is here.
func (f *fleet) withImage() {
	f.t.Helper()
	dockertest.Engine(f.t)
	ref, _ := dockertest.App(f.t, "v1")
	repo, tag, _ := strings.Cut(ref, ":")
	f.put("config", fmt.Sprintf(`{"components": [{"name": "web", "repo": %[1]q, "tag": %[2]q}, {"name": "worker", "repo": %[1]q, "tag": %[2]q}]}`, repo, tag))
}

// TestUpdateWaitsForEachOfSeveral names one of them twice: it is asked for once, and followed once. The first end is not
// that of the command, and one that failed is its result, whatever came of the others.
func TestUpdateWaitsForEachOfSeveral(t *testing.T) {
	for _, fails := range []string{"", "web", "worker"} {
		t.Run("fails: "+fails, func(t *testing.T) {
			f := newFleet(t)
			f.withImage()
			f.put("machines/h1/state", component.Machine{Status: "running", Components: []string{"web", "worker"}})
			var o outcome
			var wg sync.WaitGroup
			wg.Go(func() {
				o = f.gantryd("", "update", "shop", "-c", "worker", "web", "-c", "worker", "--pull", "never", "--wait")
			})
			for _, name := range []string{"worker", "web"} {
				within(t, 30*time.Second, "there is a state of "+name, func() bool { return f.generation(name) != 0 })
			}
			for _, name := range []string{"worker", "web"} {
				r := component.Rollout{Generation: f.generation(name), Status: component.RolloutDone}
				if name == fails {
					r.Status, r.Host, r.Reason = component.RolloutHalted, "h1", "host h1: not ready"
				}
				f.put("components/"+name+"/rollout", r)
			}
			wg.Wait()
			code, says := exitOK, ""
			if fails != "" {
				code, says = exitFailed, fmt.Sprintf("update %q halted", fails)
			}
			if o.code != code || !strings.Contains(o.err, says) {
				t.Errorf("update = %+v, want code %d and %q", o, code, says)
			}
			for _, name := range []string{"worker", "web"} {
				end := name + ": done on 1 host\n"
				if name == fails {
					end = name + ": halted\n"
				}
				if strings.Count(o.out, "Component "+name+" -> ") != 1 || strings.Count(o.out, end) != 1 {
					t.Errorf("it says\n%s, not once that %s was asked for, and once %q", o.out, name, end)
				}
			}
		})
	}
}

// TestOneComponentNamedTwice is one component.
func TestOneComponentNamedTwice(t *testing.T) {
	f := newFleet(t)
	f.withImage()
	if o := f.gantryd("", "update", "shop", "-c", "web", "web", "--pull", "never", "--if-revision", "0"); o.code != exitOK || strings.Count(o.out, "Component web") != 1 {
		t.Errorf("update = %+v", o)
	}
	if o := f.gantryd("", "update", "shop", "--together", "web,web", "--pull", "never"); o.code != exitUsage {
		t.Errorf("update of one component together = %+v", o)
	}
	before := f.all()
	if o := f.gantryd("", "stop", "shop", "-c", "web", "web"); o.code != exitOK || strings.Count(o.err, "Marking component web") != 1 {
		t.Errorf("stop = %+v", o)
	}
	if n := len(f.all()); n != len(before)+1 {
		t.Errorf("%d keys where there were %d: the release before becomes history, once", n, len(before))
	}
}
