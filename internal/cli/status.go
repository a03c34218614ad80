package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

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
		which, err := operator.Pick(operator.Names(p), g.components)
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
(hosts are on their way, or the guard watches them), updatefail, pullfail, predeployfail,
guardfail, skipped or aborted (the rollout halted), stopped, killed, or unknown (never
updated).`,
		Example: "  gantryd list shop\n  gantryd list shop -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.show(cmd.Context(), args[0], form, func(p etcdstate.Project, which []string) error {
				items := make([]api.Component, 0, len(which))
				for _, n := range which {
					items = append(items, operator.Component(n, p.Components[n]))
				}
				return printData(g.env.Out, form, map[string]any{"items": items}, func() {
					row(g.env.Out, "COMPONENT", "STATUS", "IMAGE ID")
					for _, i := range items {
						row(g.env.Out, i.Name, i.Status, component.Short(i.ImageID))
					}
				})
			})
		},
	}
	g.addComponents(cmd, "components to list")
	addOutput(cmd, &form)
	return cmd
}

func (g *gantryd) statusCmd() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "status PROJECT", Short: "Show what every host is doing: stage, image, health, connections, failures",
		Example: "  gantryd status shop\n  gantryd status shop -c web -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.show(cmd.Context(), args[0], form, func(p etcdstate.Project, which []string) error {
				r := operator.Status(args[0], p, which)
				return printData(g.env.Out, form, r, func() { printStatus(g.env.Out, r, time.Now()) })
			})
		},
	}
	g.addComponents(cmd, "components to show")
	addOutput(cmd, &form)
	return cmd
}

func printStatus(w io.Writer, r api.Status, now time.Time) {
	for _, c := range r.Components {
		title := c.Name + ": " + c.Status
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
	for _, h := range r.Hosts {
		if h.Drained != nil {
			fmt.Fprintln(w, outOfService(h.Host, *h.Drained, now))
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
