package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// listed is a row of list, in the form programs read.
type listed struct {
	Component  string `json:"component"`
	Status     string `json:"status"`
	ImageID    string `json:"imageid"`
	Image      string `json:"image,omitempty"`
	Generation int64  `json:"generation,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// show reads a project and prints those of its components that were named.
func (g *gantryd) show(ctx context.Context, name, form string, each func(p etcdstate.Project, which []string) error) error {
	if err := knownForm(form); err != nil {
		return err
	}
	return g.with(ctx, func(c *etcdstate.Client) error {
		p, err := g.project(ctx, c, name)
		if err != nil {
			return err
		}
		which, err := pick(names(p), g.components)
		if err != nil {
			return err
		}
		return each(p, which)
	})
}

func (g *gantryd) listCmd() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "list PROJECT", Short: "List the components of a project with their status and image",
		Long: `Lists every component of the project's configuration. The status is ready, updating
(hosts are on their way), updatefail, pullfail, predeployfail, skipped or aborted (the
rollout halted), stopped, killed, or unknown (never updated).`,
		Example: "  gantryd list shop\n  gantryd list shop -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.show(cmd.Context(), args[0], form, func(p etcdstate.Project, which []string) error {
				items := make([]listed, 0, len(which))
				for _, n := range which {
					items = append(items, listing(n, p.Components[n]))
				}
				return printData(g.env.Out, form, map[string]any{"items": items}, func() {
					row(g.env.Out, "COMPONENT", "STATUS", "IMAGE ID")
					for _, i := range items {
						row(g.env.Out, i.Component, i.Status, component.Short(i.ImageID))
					}
				})
			})
		},
	}
	g.addComponents(cmd, "components to list")
	addOutput(cmd, &form)
	return cmd
}

// listing joins what was asked for and how its rollout stands into the original's one word.
func listing(name string, v component.View) listed {
	l := listed{Component: name, Status: "unknown", ImageID: v.Desired.ImageID, Image: v.Desired.Image.Ref, Generation: v.Desired.Generation}
	switch {
	case v.DesiredErr != nil:
		l.Reason = v.DesiredErr.Error()
		return l
	case v.Desired.Status == "":
		return l
	}
	l.Status, l.Reason = string(v.Desired.Status), routeErrors(v)
	if v.Desired.Status != component.StatusReady || v.Rollout.Generation != v.Desired.Generation {
		return l
	}
	switch v.Rollout.Status {
	case component.RolloutHalted:
		l.Status, l.Reason = string(v.Rollout.Kind), v.Rollout.Reason
	case component.RolloutProgressing:
		l.Status, l.Reason = "updating", standing(name, v)
	case component.RolloutDone:
	}
	return l
}

// routeErrors tells on which hosts ports are not as they were asked for.
func routeErrors(v component.View) string {
	var all []string
	for _, h := range slices.Sorted(maps.Keys(v.Hosts)) {
		if e := v.Hosts[h].RouteErr; e != "" {
			all = append(all, fmt.Sprintf("host %s: %s", h, e))
		}
	}
	return strings.Join(all, "; ")
}

// statusReport is what status prints, in the form programs read.
type statusReport struct {
	Project    string            `json:"project"`
	Components []componentReport `json:"components"`
	Hosts      []hostReport      `json:"hosts"`
}

type componentReport struct {
	listed
	Hosts []component.HostStatus `json:"hosts"`
}

type hostReport struct {
	Host string `json:"host"`
	component.Machine
}

func (g *gantryd) statusCmd() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "status PROJECT", Short: "Show what every host is doing: stage, image, health, connections, failures",
		Example: "  gantryd status shop\n  gantryd status shop -c web -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.show(cmd.Context(), args[0], form, func(p etcdstate.Project, which []string) error {
				r := report(args[0], p, which)
				return printData(g.env.Out, form, r, func() { printStatus(g.env.Out, r, time.Now()) })
			})
		},
	}
	g.addComponents(cmd, "components to show")
	addOutput(cmd, &form)
	return cmd
}

func report(name string, p etcdstate.Project, which []string) statusReport {
	r := statusReport{Project: name, Components: []componentReport{}, Hosts: []hostReport{}}
	for _, n := range which {
		c := componentReport{listed: listing(n, p.Components[n]), Hosts: []component.HostStatus{}}
		v := p.Components[n]
		for h := range v.Hosts {
			c.Hosts = append(c.Hosts, v.Status(h))
		}
		slices.SortFunc(c.Hosts, func(a, b component.HostStatus) int { return strings.Compare(a.Host, b.Host) })
		r.Components = append(r.Components, c)
	}
	for h, m := range p.Machines {
		r.Hosts = append(r.Hosts, hostReport{h, m})
	}
	slices.SortFunc(r.Hosts, func(a, b hostReport) int { return strings.Compare(a.Host, b.Host) })
	return r
}

func printStatus(w io.Writer, r statusReport, now time.Time) {
	for _, c := range r.Components {
		title := c.Component + ": " + c.Status
		if c.ImageID != "" {
			title += " " + component.Short(c.ImageID)
		}
		if c.Image != "" {
			title += " (" + c.Image + ")"
		}
		fmt.Fprintln(w, clean(title))
		if c.Reason != "" {
			fmt.Fprintf(w, "  %s\n", clean(c.Reason))
		}
		if len(c.Hosts) == 0 {
			fmt.Fprintln(w, "  no host runs it")
			continue
		}
		rows := [][]string{{"  HOST", "STEP", "CONTAINER", "STAGE", "IMAGE", "READY", "HEALTH", "CONNS", "AGE"}}
		for _, st := range c.Hosts {
			rows = append(rows, statusRows(st, now)...)
		}
		grid(w, rows)
		for _, st := range c.Hosts {
			if st.RouteErr != "" {
				fmt.Fprintf(w, "  ports on %s: %s\n", st.Host, clean(st.RouteErr))
			}
			if st.Failure != nil {
				fmt.Fprintf(w, "  last failure on %s, %s ago: %s\n", st.Host, age(now, st.Failure.At), clean(st.Failure.Reason))
			}
		}
	}
	if len(r.Hosts) == 0 {
		fmt.Fprintf(w, "No daemon runs; start one with 'gantryd run %s'\n", r.Project)
	}
}

func statusRows(st component.HostStatus, now time.Time) [][]string {
	rows := make([][]string, 0, len(st.Containers)+1)
	host, step := "  "+st.Host, line(st)
	for _, c := range st.Containers {
		stage := c.Stage.String()
		if c.Stage == component.Serving && !c.Primary {
			stage = "standby"
		}
		conns := fmt.Sprint(c.Connections)
		oldest := c.Oldest.Truncate(time.Second)
		if len(c.Left) > 0 {
			oldest = max(0, now.Sub(c.Left[0].Since)).Truncate(time.Second)
		}
		if c.Connections > 0 && oldest > 0 {
			conns += " (oldest " + oldest.String() + ")"
		}
		ready := "no"
		if c.Ready {
			ready = "yes"
		}
		rows = append(rows, []string{host, step, component.Short(c.ID), stage, component.Short(c.ImageID), ready, c.Health.String(), conns, age(now, c.Created)})
		host, step = "", ""
	}
	if len(rows) == 0 {
		rows = append(rows, []string{host, step, "-", "-", "-", "-", "-", "-", "-"})
	}
	return rows
}

// age is how long ago t was, for people.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(0, now.Sub(t))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
