package operator

import (
	"reflect"
	"slices"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// Plans are what the releases would do, then the components that stay the same.
func Plans(p etcdstate.Project, rs []Release, same []string) []api.Plan {
	plans := make([]api.Plan, 0, len(rs)+len(same))
	for _, r := range rs {
		plans = append(plans, PlanFor(r, p.Components[r.Name], p))
	}
	for _, n := range same {
		plans = append(plans, api.Plan{Component: n, Change: "none", Revision: p.Components[n].Desired.Generation, Changes: []component.Change{}, Hosts: []string{}, Pull: []string{}})
	}
	return plans
}

// PlanFor compares the release that an update would write with what is asked for now.
func PlanFor(r Release, v component.View, p etcdstate.Project) api.Plan {
	now, next := v.Spec(), r.Desired.Release()
	before := v.Desired.Release()
	before.Spec = now
	pl := api.Plan{
		Component: r.Name, Change: "update", Revision: v.Desired.Generation, Changes: component.Changes(before, next),
		Containers: v.Desired.Status != component.StatusReady || before.Hash() != next.Hash(), Hosts: []string{}, Pull: []string{},
		Follows: r.Desired.Follows, Together: r.Desired.Together,
	}
	same := v.Desired.Status == component.StatusReady && !pl.Containers && reflect.DeepEqual(before.Spec, next.Spec)
	switch {
	case same && v.Record().Status == component.RolloutHalted:
		pl.Change = "retry"
	case same:
		pl.Change = "none"
	}
	if v.Machines == nil {
		v.Machines, v.Drained = p.Machines, p.Drained
	}
	asked := v.Desired
	v.Desired = r.Desired
	pl.MaxParallel, pl.Canary = rollout.Slots(r.Name, v), r.Desired.Spec.Rollout.Canary.Of(len(rollout.Awaits(r.Name, v)))
	pl.Drained = rollout.Skipped(r.Name, v)
	for _, h := range rollout.Awaits(r.Name, v) {
		st := v.Hosts[h]
		if pl.Containers || st.Hash != next.Hash() {
			pl.Hosts = append(pl.Hosts, h)
		}
		if !slices.ContainsFunc(st.Containers, func(c component.ContainerStatus) bool { return c.ImageID == r.Desired.ImageID }) {
			pl.Pull = append(pl.Pull, h)
		}
	}
	if len(pl.Hosts) > 0 && r.Desired.After(asked, v.Rollout).NeedsTask(component.Rollout{}) {
		pl.PreDeploy = r.Desired.Spec.PreDeploy.Command
	}
	if pl.Change == "none" {
		pl.Hosts, pl.Pull, pl.Drained = []string{}, []string{}, nil
	}
	if pl.Changes == nil {
		pl.Changes = []component.Change{}
	}
	return pl
}
