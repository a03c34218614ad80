package rollout

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
)

// Done reports whether every running host of the component that is in service has brought the wanted generation up, or
// was passed over, and none was lost in its turn, so that its rollout can be recorded as done. One that
// waits for the rollout of another component is not before that is done.
func Done(name string, v component.View) bool {
	if v.Desired.Status != component.StatusReady || follows(v) || v.Rollout.Generation == v.Desired.Generation && v.Rollout.Status != component.RolloutProgressing {
		return false
	}
	hosts := Awaits(name, v)
	for _, h := range hosts {
		if !serves(h, v) && !slices.Contains(v.Record().Failed, h) {
			return false
		}
	}
	return len(hosts) > 0 && len(v.Lost("")) == 0 && !allFailed(name, v)
}

// Hosts are the running hosts that run the component, in order of their names.
func Hosts(name string, v component.View) []string {
	var hosts []string
	for h, m := range v.Machines {
		if slices.Contains(m.Components, name) {
			hosts = append(hosts, h)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// MayTake reports whether a turn may be asked for, and else who is waited for.
func MayTake(slots int, turn component.Turn) (ok bool, waitingFor string) {
	if len(turn.Holders) < max(1, slots) {
		return true, ""
	}
	return false, strings.Join(turn.Holders, ", ")
}

// Trust reports whether a host may act on what the store says now, given what it remembers of the
// store it acted on before. Data that is lost or older than before is not acted on until an operator
// confirms it; reason says what is wrong. A confirmation counts once, whether this host was in need of
// it or not. The returned record is the one to remember.
func Trust(c component.Cluster, h component.HostRecord) (next component.HostRecord, ok bool, reason string) {
	next = h
	confirmed := c.Adoption.Nonce != "" && c.Adoption.Cluster == c.ID && !slices.Contains(h.Adoptions, c.Adoption.Nonce)
	if confirmed {
		next.Adoptions = append(slices.Clone(h.Adoptions), c.Adoption.Nonce)
	}
	switch {
	case confirmed, h.Cluster == "", h.Cluster == c.ID && c.Revision >= h.Revision:
	case h.Cluster != c.ID:
		return h, false, fmt.Sprintf("the store is another one than before (cluster %s, before %s)", c.ID, h.Cluster)
	default:
		return h, false, fmt.Sprintf("the store is older than before (revision %d, before %d)", c.Revision, h.Revision)
	}
	next.Cluster, next.Revision = c.ID, c.Revision
	return next, true, ""
}
