package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// serves makes the host say that it serves web, over so many connections.
func (f *fleet) serves(host string, conns int, since time.Time) {
	f.t.Helper()
	f.put("components/web/hosts/"+host, component.HostStatus{Host: host, Step: component.StepServing, Containers: []component.ContainerStatus{
		{ID: "c-" + host, Stage: component.Serving, Primary: true, Connections: conns, DrainsSince: since},
	}})
}

// says makes the daemon of a host say how far its drain is.
func (f *fleet) says(host, status string, drain int64) {
	f.t.Helper()
	f.put("machines/"+host+"/state", component.Machine{Status: status, Components: []string{"web"}, Drain: drain})
}

func (f *fleet) want(code int, says string, args ...string) outcome {
	f.t.Helper()
	o := f.gantryd("", args...)
	if o.code != code || !strings.Contains(o.out+o.err, says) {
		f.t.Errorf("gantryd %s = %+v, want code %d and %q", strings.Join(args, " "), o, code, says)
	}
	return o
}

func TestHostDrain(t *testing.T) {
	f := newFleet(t)
	f.rolls(component.RolloutPolicy{})
	f.serves("h1", 0, time.Time{})
	f.want(exitUsage, "say drain or undrain", "host")
	f.want(exitUsage, "accepts 2 arg(s)", "host", "drain", "shop")
	f.want(exitNotFound, "Unknown project", "host", "drain", "nosuch", "h1")
	f.want(exitNotFound, "Unknown host: h9", "host", "drain", "shop", "h9")
	f.want(exitNotFound, "Unknown host: h9", "host", "undrain", "shop", "h9")
	f.want(exitRefused, "host h1 is not drained", "host", "undrain", "shop", "h1")
	f.want(exitRefused, "nobody else serves web: host h1 is the last one", "host", "drain", "shop", "h1")
	f.want(exitOK, "warning: nobody serves web any more", "host", "drain", "shop", "h1", "--force", "--reason", "kernel")
	f.want(exitOK, "Host h1 is in service again", "host", "undrain", "shop", "h1")

	f.serves("h2", 0, time.Time{})
	f.want(exitOK, "Host h1 is out of service\n", "host", "drain", "shop", "h1", "--reason", "kernel")
	f.want(exitRefused, ": kernel already", "host", "drain", "shop", "h1")
	f.want(exitOK, "Host h1 is out of service, drained by ", "status", "shop")
	f.want(exitOK, ": kernel", "hosts", "shop")
	f.want(exitOK, "so it takes no new connections and no turns", "why", "shop", "-c", "web")
	f.want(exitOK, "host h1: host-drained: is out of service, drained by ", "events", "shop")
	f.want(exitOK, "h1", "__complete", "host", "undrain", "shop", "")
	if o := f.want(exitOK, "h2", "__complete", "host", "drain", "shop", ""); strings.Contains(o.out, "h1") {
		t.Errorf("completion offers what is drained: %+v", o)
	}
	var rows struct{ Items []api.Host }
	if err := json.Unmarshal([]byte(f.gantryd("", "hosts", "shop", "-o", "json").out), &rows); err != nil {
		t.Fatal(err)
	}
	if h := rows.Items[0]; h.Status != component.MachineDraining || h.Drained == nil || h.Drained.Reason != "kernel" || rows.Items[1].Drained != nil {
		t.Errorf("hosts = %+v", rows)
	}
	f.etcd.Delete(t, "/gantryd/projects/shop/machines/h1/state")
	f.want(exitOK, "h1    away", "hosts", "shop")
	f.want(exitOK, "Host h1: its daemon does not run", "host", "drain", "shop", "h1", "--wait")
	f.want(exitOK, "Forgot host h1", "forget", "shop", "h1")
	f.want(exitNotFound, "Unknown host: h1", "host", "undrain", "shop", "h1")
}

func TestHostDrainWaits(t *testing.T) {
	f := newFleet(t)
	f.rolls(component.RolloutPolicy{})
	f.serves("h1", 0, time.Time{})
	f.serves("h2", 0, time.Time{})
	f.want(exitOK, "", "host", "drain", "shop", "h1")
	rev := f.all()["/gantryd/projects/shop/drains/h1"].Revision
	f.serves("h1", 2, time.Now())
	f.says("h1", component.MachineDrained, rev-1) // of an earlier drain
	f.want(exitFailed, "2 connections left", "host", "drain", "shop", "h1", "--wait", "--timeout", "3s")
	f.want(exitOK, "web: host h1: container c-h1", "drain", "shop", "--host", "h1")
	f.says("h1", component.MachineDrained, rev)
	f.want(exitOK, "Host h1: no connection is left", "host", "drain", "shop", "h1", "--wait")

	w := outageWatch{g: &gantryd{env: Env{Out: &strings.Builder{}, Err: &strings.Builder{}}}, host: "h1", word: component.HostDrain{Revision: 7}}
	p := etcdstate.Project{Drained: map[string]component.HostDrain{"h1": {Revision: 8}}}
	if over, err := w.look(p); !over || classify(err).code != exitRefused {
		t.Errorf("after another word: over %t, %v", over, err)
	}
	p.Drained["h1"], w.ran = component.HostDrain{Revision: 7}, true
	if over, err := w.look(p); !over || classify(err).code != exitFailed {
		t.Errorf("after the daemon vanished: over %t, %v", over, err)
	}
}
