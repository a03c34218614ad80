package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// outageOptions are the flags of host drain.
type outageOptions struct {
	reason      string
	force, wait bool
	timeout     time.Duration
}

// hostCmd groups what is said about a host as a whole.
func (g *gantryd) hostCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "host", Short: "Take a host out of service, or back into it",
		Example: "  gantryd host drain shop h2 --reason \"new kernel\" --wait\n  gantryd host undrain shop h2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fail(exitUsage, "say drain or undrain").withHint("see '%s --help'", cmd.CommandPath())
		},
	}
	cmd.AddCommand(g.hostDrainCmd(), g.hostUndrainCmd())
	return cmd
}

func (g *gantryd) hostDrainCmd() *cobra.Command {
	var o outageOptions
	cmd := &cobra.Command{
		Use: "drain PROJECT HOST", Short: "Take a host out of service: no new connections, no turns; what runs there goes on",
		Long: `Closes the external ports of a host, so that load balancers and clients go elsewhere, and
sends the link traffic of other hosts to other hosts. Connections that are open end by
themselves, or at the drain.timeout of their component. No container is stopped. Rollouts
go on without the host; it comes to what is asked for once it is undrained. A host that
restarts stays out of service. The last host that serves a component is refused.`,
		Example: "  gantryd host drain shop h2 --reason \"new kernel\"\n  gantryd host drain shop h2 --wait --timeout 5m",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.hostDrain(cmd.Context(), c, a[0], a[1], o) })
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.reason, "reason", "", "why, for those who look at the host later")
	fs.BoolVar(&o.force, "force", false, "also when it is the last host that serves a component")
	fs.BoolVar(&o.wait, "wait", false, "follow until no connection is left")
	fs.DurationVar(&o.timeout, "timeout", 10*time.Minute, "longest wait with --wait; the host stays out of service after it")
	cmd.ValidArgsFunction = g.completeHost(func(p etcdstate.Project, host string) bool {
		_, drained := p.Drained[host]
		return !drained
	})
	return cmd
}

func (g *gantryd) hostUndrainCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "undrain PROJECT HOST", Short: "Take a host back into service",
		Long: `Opens the ports of a host again. It serves what it served before, and comes to what was
asked for meanwhile, as a host that was away does.`,
		Example: "  gantryd host undrain shop h2",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.hostUndrain(cmd.Context(), c, a[0], a[1]) })
		},
	}
	cmd.ValidArgsFunction = g.completeHost(func(p etcdstate.Project, host string) bool {
		_, drained := p.Drained[host]
		return drained
	})
	return cmd
}

// completeHost gives a shell projects for the first argument, and hosts for the second.
func (g *gantryd) completeHost(fits func(etcdstate.Project, string) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) != 1 {
			return g.completeProject(cmd, args, word)
		}
		var found []string
		g.etcd.commandTimeout = completeWithin
		_ = g.with(cmd.Context(), func(c *etcdstate.Client) error { // without an answer there is nothing to complete
			p, err := c.Project(cmd.Context(), args[0])
			for _, r := range operator.Hosts(p) {
				if fits(p, r.Host) {
					found = append(found, r.Host)
				}
			}
			return err
		})
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func fleetOf(p etcdstate.Project) rollout.Fleet {
	return rollout.Fleet{Components: p.Components, Machines: p.Machines, Drained: p.Drained}
}

func (g *gantryd) hostDrain(ctx context.Context, c *etcdstate.Client, project, host string, o outageOptions) error {
	p, err := g.project(ctx, c, project)
	if err != nil {
		return err
	}
	if d, drained := p.Drained[host]; drained && o.wait { // whoever asked for it may have gone
		fmt.Fprintf(g.env.Err, "host %s is %s already\n", host, clean(d.String()))
		return g.awaitDrained(ctx, c, project, host, d, o.timeout)
	}
	w := component.Word{By: person(g.env.Getenv), At: time.Now().UTC(), Reason: o.reason}
	var last []string
	d, err := c.Drain(ctx, project, host, w, func(p etcdstate.Project) error {
		last = rollout.LastOf(host, p.Components)
		return rollout.Drain(host, fleetOf(p), o.force)
	})
	if err != nil {
		return refusedOutage(err, project)
	}
	fmt.Fprintf(g.env.Out, "Host %s is out of service\n", host)
	if len(last) > 0 {
		fmt.Fprintf(g.env.Err, "warning: nobody serves %s any more\n", strings.Join(last, ", "))
	}
	if !o.wait {
		return nil
	}
	return g.awaitDrained(ctx, c, project, host, d, o.timeout)
}

func (g *gantryd) hostUndrain(ctx context.Context, c *etcdstate.Client, project, host string) error {
	if _, err := g.project(ctx, c, project); err != nil {
		return err
	}
	_, err := c.Undrain(ctx, project, host, func(p etcdstate.Project) error { return rollout.Undrain(host, fleetOf(p)) })
	if err != nil {
		return refusedOutage(err, project)
	}
	fmt.Fprintf(g.env.Out, "Host %s is in service again\n", host)
	return nil
}

// refusedOutage gives an error of drain and undrain its exit code and a way out.
func refusedOutage(err error, project string) error {
	_, text, _ := strings.Cut(err.Error(), ": ")
	switch {
	case errors.Is(err, rollout.ErrUnknown):
		return fail(exitNotFound, "Unknown host: %s", strings.TrimPrefix(text, "host ")).withHint("'gantryd hosts %s' lists them; the daemon of a host must run, or have been drained", project)
	case errors.Is(err, rollout.ErrLast):
		return fail(exitRefused, "%s", text).withHint("--force takes it out of service all the same")
	case errors.Is(err, rollout.ErrConflict):
		return fail(exitRefused, "%s", text)
	}
	return err
}

// awaitDrained follows the drain of a host until nobody is left.
func (g *gantryd) awaitDrained(ctx context.Context, c *etcdstate.Client, project, host string, d component.HostDrain, timeout time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done, finish := context.WithCancelCause(bounded)
	defer finish(nil)
	w := outageWatch{g: g, host: host, word: d, lines: newDrainView(g.env.Out, formTable)}
	w.lines.inPlace = false
	err := c.Watch(done, project, func(p etcdstate.Project) {
		if !p.Cluster.Reachable {
			fmt.Fprintln(g.env.Err, "etcd does not answer; waiting for it")
			return
		}
		if over, err := w.look(p); over {
			w.end = err
			finish(errOver)
		}
	})
	switch {
	case errors.Is(context.Cause(done), errOver):
		return w.end
	case errors.Is(bounded.Err(), context.DeadlineExceeded):
		return fail(exitFailed, "host %s is not drained after %v: %s", host, timeout, w.left()).
			withHint("it stays out of service; 'gantryd drain %s --host %s' tells who is left", project, host)
	}
	return err
}

// An outageWatch tells how the drain of a host goes on.
type outageWatch struct {
	g     *gantryd
	host  string
	word  component.HostDrain
	lines *drainView
	last  []draining
	ran   bool // its daemon was seen
	end   error
}

// look tells what is new, and reports whether that is the end.
func (w *outageWatch) look(p etcdstate.Project) (over bool, err error) {
	if p.Drained[w.host].Revision != w.word.Revision {
		return true, fail(exitRefused, "host %s is in service again: another command came in between", w.host)
	}
	m, runs := p.Machines[w.host]
	if !runs {
		if w.ran {
			return true, fail(exitFailed, "host %s vanished before it was drained", w.host).withHint("its daemon was stopped, or does not reach etcd; it stays out of service")
		}
		fmt.Fprintf(w.g.env.Out, "Host %s: its daemon does not run\n", w.host)
		return true, nil
	}
	w.ran, w.last = true, nil
	if m.Drain == w.word.Revision && m.Status == component.MachineDrained {
		if err := w.lines.update(nil); err != nil {
			return true, err
		}
		fmt.Fprintf(w.g.env.Out, "Host %s: no connection is left\n", w.host)
		return true, nil
	}
	for _, n := range operator.Names(p) {
		w.last = append(w.last, drains(n, p.Components[n].Status(w.host))...)
	}
	w.last = slices.DeleteFunc(w.last, func(d draining) bool { return d.Connections == 0 })
	if len(w.last) == 0 && len(w.lines.said) == 0 {
		return false, nil // it has not looked yet
	}
	return false, w.lines.update(w.last)
}

// left says who was there last.
func (w *outageWatch) left() string {
	if len(w.last) == 0 {
		return "its daemon has not said so"
	}
	var all []string
	for _, d := range w.last {
		all = append(all, d.String())
	}
	return clean(strings.Join(all, "; "))
}

// outOfService tells of a host that is drained, for people.
func outOfService(host string, d component.HostDrain, now time.Time) string {
	text := "Host " + host + " is out of service, drained"
	if d.By != "" {
		text += " by " + d.By
	}
	if !d.At.IsZero() {
		text += " " + age(now, d.At) + " ago"
	}
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return clean(text)
}
