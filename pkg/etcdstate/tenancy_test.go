package etcdstate_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// TestSuccessorKeepsLeaseTurnAndMachine hands a host over between two processes: nothing that hangs on the
// lease may vanish for a moment.
func TestSuccessorKeepsLeaseTurnAndMachine(t *testing.T) {
	f := newFleet(t)
	o := etcdstate.StoreOptions{TTL: lasting, LeaseFile: filepath.Join(t.TempDir(), "lease")}
	old := f.host(t, "h1", o)
	wantNil(t, "PublishMachine", old.PublishMachine(t.Context(), component.Machine{IP: "10.0.0.7", Links: map[string]string{"db": "10.0.0.7:20001"}}))
	old.takeTurn(t, "web", f.ready(t, "web", "sha256:aa"))
	nonce := old.View("web").Machines["h1"].Nonce
	old.stop(t)
	b, err := json.Marshal(old.Tenancy()) // as it travels
	wantNil(t, "Marshal", err)
	o.Inherit = &etcdstate.Tenancy{}
	wantNil(t, "Unmarshal", json.Unmarshal(b, o.Inherit))

	next := f.host(t, "h1", o)
	eventually(t, "the turn is the successor's", func() bool { return next.View("web").Turn.State == component.TurnMine })
	m := next.View("web").Machines["h1"]
	if m.Nonce != nonce || m.Links["db"] != "10.0.0.7:20001" {
		t.Errorf("machine is %+v, want nonce %s and the link as before", m, nonce)
	}
	wantNil(t, "Publish", next.Publish(t.Context(), "web", status("h1", 1)))
	if got := next.Tenancy().Lease; got != o.Inherit.Lease || got == 0 {
		t.Errorf("lease is %x, want %x", got, o.Inherit.Lease)
	}
}

// TestSuccessorOfALostLease gets a lease of its own.
func TestSuccessorOfALostLease(t *testing.T) {
	f := newFleet(t)
	o := etcdstate.StoreOptions{TTL: brief}
	old := f.host(t, "h1", o)
	old.stop(t)
	tenancy := old.Tenancy()
	wantNil(t, "Deregister", old.Deregister(t.Context()))
	o.Inherit = &tenancy
	next := f.host(t, "h1", o)
	eventually(t, "another lease", func() bool { return next.Tenancy().Lease != tenancy.Lease && next.Cluster().Reachable })
}
