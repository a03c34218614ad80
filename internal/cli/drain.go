package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// draining is a container that drains, in the form programs read.
type draining struct {
	Component   string                 `json:"component"`
	Host        string                 `json:"host"`
	Container   string                 `json:"container"`
	Since       time.Time              `json:"since,omitzero"`
	Until       time.Time              `json:"until,omitzero"`     // when what is left is cut; absent: never
	Vanished    bool                   `json:"vanished,omitempty"` // the host is gone: this is what it said last
	Connections int                    `json:"connections"`
	Oldest      []component.Connection `json:"oldest"` // at most component.MaxLeft of them
}

// drains are the containers of a component that drain on a host.
func drains(name string, st component.HostStatus) []draining {
	var out []draining
	for _, c := range st.Containers {
		outOfService := c.Stage == component.Serving && !c.DrainsSince.IsZero() && c.Connections > 0
		if c.Stage != component.Draining && !outOfService {
			continue
		}
		d := draining{
			Component: name, Host: st.Host, Container: c.ID, Since: c.DrainsSince, Until: c.DrainsUntil,
			Connections: c.Connections, Oldest: c.Left,
		}
		if d.Oldest == nil {
			d.Oldest = []component.Connection{}
		}
		out = append(out, d)
	}
	return out
}

// drainOptions are the flags of drain.
type drainOptions struct {
	host  string
	watch bool
	form  string
}

func (g *gantryd) drainCmd() *cobra.Command {
	var o drainOptions
	cmd := &cobra.Command{
		Use: "drain PROJECT [-c COMPONENT...]", Short: "Show whose connections keep draining containers from ending",
		Long: `Lists the containers that drain, and those of hosts that do, on all hosts, and of each the oldest connections (at most
20): the client's address, the target, age, idle time and bytes. The hosts tell it every
two seconds at most. With --watch it goes on until nobody is left: on a terminal in
place, else with a line for each change.`,
		Example: "  gantryd drain shop\n  gantryd drain shop -c web --host h2 --watch\n  gantryd drain shop -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := knownForm(o.form); err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.drain(cmd.Context(), c, args[0], o) })
		},
	}
	g.addComponents(cmd, "components to show")
	fs := cmd.Flags()
	fs.StringVar(&o.host, "host", "", "show this host only")
	fs.BoolVarP(&o.watch, "watch", "w", false, "go on until nobody is left")
	addOutput(cmd, &o.form)
	return cmd
}

func (g *gantryd) drain(ctx context.Context, c *etcdstate.Client, name string, o drainOptions) error {
	p, err := g.project(ctx, c, name)
	if err != nil {
		return err
	}
	which, err := operator.Pick(operator.Names(p), g.components)
	if err != nil {
		return err
	}
	if _, ok := p.Machines[o.host]; o.host != "" && !ok {
		return fail(exitNotFound, "No daemon of host %s runs", o.host)
	}
	v := newDrainView(g.env.Out, o.form)
	find := func(p etcdstate.Project) []draining {
		var out []draining
		for _, n := range which {
			for _, st := range operator.Status(name, p, []string{n}).Components[0].Hosts {
				if o.host == "" || o.host == st.Host {
					out = append(out, drains(n, st)...)
				}
			}
		}
		return out
	}
	if !o.watch {
		return v.print(find(p))
	}
	var hosts lookout
	return v.watch(ctx, func(ctx context.Context, show func([]draining)) error {
		return c.Watch(ctx, name, func(p etcdstate.Project) {
			if !p.Cluster.Reachable {
				fmt.Fprintln(g.env.Err, "etcd does not answer; waiting for it")
				return
			}
			show(hosts.look(p, find(p)))
		})
	})
}

// A lookout notices hosts that vanish while a container of theirs drains: whether that one is done nobody knows.
type lookout struct{ last []draining }

// look returns ds, what the hosts of p say, and what those that vanished said last.
func (l *lookout) look(p etcdstate.Project, ds []draining) []draining {
	for _, d := range l.last {
		_, alive := p.Machines[d.Host]
		_, speaks := p.Components[d.Component].Hosts[d.Host]
		if speaks || alive && !d.Vanished { // one that is back may not have said anything yet
			continue
		}
		d.Vanished = true
		ds = append(ds, d)
	}
	l.last = ds
	return ds
}

// vanished are the hosts of ds when there is none that lives.
func vanished(ds []draining) (hosts []string) {
	for _, d := range ds {
		if !d.Vanished {
			return nil
		}
		if !slices.Contains(hosts, d.Host) {
			hosts = append(hosts, d.Host)
		}
	}
	return hosts
}

// A drainView shows who is left, once or as it changes.
type drainView struct {
	out     io.Writer
	form    string
	inPlace bool // the output is a terminal
	said    map[string]string
}

func newDrainView(out io.Writer, form string) *drainView {
	return &drainView{out: out, form: form, inPlace: form == formTable && isTerminal(out), said: map[string]string{}}
}

// isTerminal reports whether w can be painted over.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0
}

// print shows ds once.
func (v *drainView) print(ds []draining) error {
	if ds == nil {
		ds = []draining{}
	}
	return printData(v.out, v.form, map[string]any{"items": ds}, func() { printDrains(v.out, ds, time.Now()) })
}

// watch shows what source passes to show until nothing drains any more. Source runs until its context
// ends, or ends with an error.
func (v *drainView) watch(ctx context.Context, source func(ctx context.Context, show func([]draining)) error) error {
	newest := make(chan []draining, 1) // an older one is thrown away
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error {
		return source(ctx, func(ds []draining) {
			select {
			case <-newest:
			default:
			}
			newest <- ds
		})
	})
	eg.Go(func() error {
		if err := v.follow(ctx, newest); err != nil {
			return err
		}
		return errOver
	})
	if err := eg.Wait(); !errors.Is(err, errOver) {
		return err
	}
	return nil
}

// repaintEvery is how often ages are painted anew.
const repaintEvery = time.Second

// follow shows what comes from seen until nothing drains any more or ctx ends.
func (v *drainView) follow(ctx context.Context, seen <-chan []draining) error {
	tick := time.NewTicker(repaintEvery)
	defer tick.Stop()
	var ds []draining
	known := false
	for {
		select {
		case ds = <-seen:
			known = true
		case <-tick.C:
			if !v.inPlace || !known {
				continue
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := v.update(ds); err != nil || len(ds) == 0 {
			return err
		}
		if hosts := vanished(ds); len(hosts) > 0 {
			return fail(exitFailed, "host %s vanished before its containers were drained", strings.Join(hosts, ", ")).
				withHint("its daemon was stopped, or does not reach etcd; the containers run on")
		}
	}
}

// update shows ds in place of what was shown before, or what has changed since.
func (v *drainView) update(ds []draining) error {
	if v.inPlace {
		fmt.Fprint(v.out, "\x1b[H\x1b[2J") // home, and clear what is there
		printDrains(v.out, ds, time.Now())
		return nil
	}
	now := map[string]string{}
	for _, d := range ds {
		now[d.key()] = fmt.Sprint(d.Connections, d.Until, d.Vanished)
	}
	if v.form != formTable {
		if maps.Equal(v.said, now) && len(now) > 0 {
			return nil
		}
		v.said = now
		return v.line(ds)
	}
	for _, d := range ds {
		if v.said[d.key()] != now[d.key()] {
			fmt.Fprintln(v.out, clean(d.String()))
		}
	}
	for key := range v.said {
		if _, left := now[key]; !left {
			fmt.Fprintln(v.out, clean(key+": nobody is left"))
		}
	}
	if len(ds) == 0 && len(v.said) == 0 {
		printDrains(v.out, ds, time.Now())
	}
	v.said = now
	return nil
}

// line prints one change for programs: a line of JSON, or a document of YAML.
func (v *drainView) line(ds []draining) error {
	if v.form == formJSON {
		return json.NewEncoder(v.out).Encode(map[string]any{"items": append([]draining{}, ds...)})
	}
	fmt.Fprintln(v.out, "---")
	return v.print(ds)
}

// key names what drains.
func (d draining) key() string {
	return fmt.Sprintf("%s: host %s: container %s", d.Component, d.Host, component.Short(d.Container))
}

// String is the drain in one line.
func (d draining) String() string {
	if d.Vanished {
		return d.key() + ": the host vanished, who is left is not known"
	}
	now := time.Now()
	parts := []string{plural(d.Connections, "connection") + " left"}
	if len(d.Oldest) > 0 {
		parts = append(parts, "oldest "+age(now, d.Oldest[0].Since))
	}
	return d.key() + ": " + strings.Join(append(parts, d.end(now)), ", ")
}

// end tells what becomes of those that stay.
func (d draining) end(now time.Time) string {
	switch {
	case d.Until.IsZero():
		return "never cut"
	case now.Before(d.Until):
		return "cut in " + age(d.Until, now)
	}
	return "being cut"
}

func printDrains(w io.Writer, ds []draining, now time.Time) {
	if len(ds) == 0 {
		fmt.Fprintln(w, "No container drains: nobody is left")
		return
	}
	for _, d := range ds {
		if d.Vanished {
			fmt.Fprintln(w, clean(d.String()))
			continue
		}
		fmt.Fprintln(w, clean(fmt.Sprintf("%s: drains for %s, %s left, %s", d.key(), age(now, d.Since), plural(d.Connections, "connection"), d.end(now))))
		if len(d.Oldest) == 0 {
			continue
		}
		rows := [][]string{{"  CLIENT", "TARGET", "AGE", "IDLE", "BYTES IN", "BYTES OUT"}}
		for _, c := range d.Oldest {
			target := c.Target
			if target == "" {
				target = "-"
			}
			client := c.Client
			if c.Earlier {
				client += " (process before the upgrade)"
			}
			rows = append(rows, []string{"  " + client, target, age(now, c.Since), age(now, c.Active), size(c.BytesIn), size(c.BytesOut)})
		}
		grid(w, rows)
		if more := d.Connections - len(d.Oldest); more > 0 {
			fmt.Fprintf(w, "  and %d younger ones\n", more)
		}
	}
}

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
