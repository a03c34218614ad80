package cli

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// exitChanges is plan's way of saying that an update would change something.
const exitChanges = 10

// quiet is an exit code without an error.
type quiet int

func (q quiet) Error() string { return fmt.Sprintf("exit code %d", int(q)) }

// planned is what an update would do to one component.
type planned struct {
	Component   string             `json:"component"`
	Change      string             `json:"change"`   // none, update, or retry: the same after a halt
	Revision    int64              `json:"revision"` // for update --if-revision; 0: there is no state yet
	Changes     []component.Change `json:"changes"`
	Containers  bool               `json:"containers"` // new ones are started
	Hosts       []string           `json:"hosts"`
	MaxParallel int                `json:"max_parallel"`
	Canary      int                `json:"canary,omitempty"`
	Pull        []string           `json:"pull"`                 // hosts that run no container of the image yet
	Follows     string             `json:"follows,omitempty"`    // the component that comes first
	Together    []string           `json:"together,omitempty"`   // components that are one release with it
	PreDeploy   []string           `json:"pre_deploy,omitempty"` // the task that runs before the first host
}

func (g *gantryd) planCmd() *cobra.Command {
	var o updateOptions
	var form string
	cmd := &cobra.Command{
		Use: "plan PROJECT -c COMPONENT...", Short: "Show what an update would do, and do nothing",
		Long: `Shows for each component what an update would change: fields of the release, the hosts
that would get new containers and how many at a time, and which of them run no container
of the image yet. The exit code is 0 when there is nothing to do, 10 when there are changes,
and 1 or more after an error. The revision is what 'update --if-revision' takes.`,
		Example: "  gantryd plan shop -c web\n  gantryd plan shop --all -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := g.meant(o)
			if err == nil {
				err = knownForm(form)
			}
			if err == nil {
				_, err = pullPolicy(o.pull)
			}
			if err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.plan(cmd.Context(), c, args[0], form, o) })
		},
	}
	g.addComponents(cmd, "components to plan for")
	g.addTogether(cmd, &o)
	cmd.Flags().StringVar(&o.pull, "pull", "missing", "when to pull the image here first: missing, always or never")
	o.policy.add(cmd)
	addOutput(cmd, &form)
	return cmd
}

func (g *gantryd) plan(ctx context.Context, c *etcdstate.Client, project, form string, o updateOptions) error {
	p, err := g.project(ctx, c, project)
	if err != nil {
		return err
	}
	which, err := g.which(p, o)
	if err != nil {
		return err
	}
	rs, err := g.resolve(ctx, project, p, which, o)
	if err != nil {
		return err
	}
	rs, same, err := lineUp(p, rs, o)
	if err != nil {
		return err
	}
	plans, changes := make([]planned, 0, len(rs)), false
	for _, r := range rs {
		pl := planFor(r, p.Components[r.name], p.Machines)
		changes = changes || pl.Change != "none"
		plans = append(plans, pl)
	}
	for _, n := range same {
		plans = append(plans, planned{Component: n, Change: "none", Revision: p.Components[n].Desired.Generation, Changes: []component.Change{}, Hosts: []string{}, Pull: []string{}})
	}
	err = printData(g.env.Out, form, map[string]any{"items": plans}, func() { printPlan(g.env.Out, plans) })
	if err == nil && changes {
		return quiet(exitChanges)
	}
	return err
}

// planFor compares the release that an update would write with what is asked for now.
func planFor(r release, v component.View, machines map[string]component.Machine) planned {
	now, next := v.Spec(), r.d.Release()
	before := v.Desired.Release()
	before.Spec = now
	pl := planned{
		Component: r.name, Change: "update", Revision: v.Desired.Generation, Changes: component.Changes(before, next),
		Containers: v.Desired.Status != component.StatusReady || before.Hash() != next.Hash(), Hosts: []string{}, Pull: []string{},
		Follows: r.d.Follows, Together: r.d.Together,
	}
	same := v.Desired.Status == component.StatusReady && !pl.Containers && reflect.DeepEqual(before.Spec, next.Spec)
	switch {
	case same && v.Record().Status == component.RolloutHalted:
		pl.Change = "retry"
	case same:
		pl.Change = "none"
	}
	if v.Machines == nil {
		v.Machines = machines
	}
	asked := v.Desired
	v.Desired = r.d
	pl.MaxParallel, pl.Canary = rollout.Slots(r.name, v), r.d.Spec.Rollout.Canary.Of(len(rollout.Hosts(r.name, v)))
	for _, h := range rollout.Hosts(r.name, v) {
		st := v.Hosts[h]
		if pl.Containers || st.Hash != next.Hash() {
			pl.Hosts = append(pl.Hosts, h)
		}
		if !slices.ContainsFunc(st.Containers, func(c component.ContainerStatus) bool { return c.ImageID == r.d.ImageID }) {
			pl.Pull = append(pl.Pull, h)
		}
	}
	if len(pl.Hosts) > 0 && r.d.After(asked, v.Rollout).NeedsTask(component.Rollout{}) {
		pl.PreDeploy = r.d.Spec.PreDeploy.Command
	}
	if pl.Change == "none" {
		pl.Hosts, pl.Pull = []string{}, []string{}
	}
	if pl.Changes == nil {
		pl.Changes = []component.Change{}
	}
	return pl
}

func printPlan(w io.Writer, plans []planned) {
	for _, p := range plans {
		switch p.Change {
		case "none":
			fmt.Fprintf(w, "%s: nothing to do\n", p.Component)
			continue
		case "retry":
			fmt.Fprintf(w, "%s: the same again, after a halt\n", p.Component)
		default:
			fmt.Fprintf(w, "%s: update of generation %d\n", p.Component, p.Revision)
		}
		if p.Follows != "" {
			fmt.Fprintf(w, "  after %s\n", p.Follows)
		}
		printChanges(w, p.Changes)
		if len(p.Hosts) == 0 {
			fmt.Fprintln(w, "  no host gets a new container now")
			continue
		}
		if len(p.PreDeploy) > 0 {
			fmt.Fprintf(w, "  pre-deploy task first: %s\n", clean(strings.Join(p.PreDeploy, " ")))
		}
		how := fmt.Sprintf("%d at a time", p.MaxParallel)
		if p.Canary > 0 {
			how += fmt.Sprintf(", %d first as canaries", p.Canary)
		}
		fmt.Fprintf(w, "  hosts: %s (%s)\n", strings.Join(p.Hosts, ", "), how)
		if len(p.Pull) > 0 {
			fmt.Fprintf(w, "  image not in use yet on: %s\n", strings.Join(p.Pull, ", "))
		}
	}
}
