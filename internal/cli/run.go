package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gantryd/gantryd/internal/app"
	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/internal/sdnotify"
	"github.com/gantryd/gantryd/internal/version"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/engine"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// runOptions are the flags of run.
type runOptions struct {
	host, bind, advertise, dataDir string
	leaseTTL, linger, hold         time.Duration
	accessLog                      string
	api                            apiFlags
}

func (g *gantryd) runCmd() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use: "run PROJECT", Short: "Run this host's daemon: start, watch and update components until stopped",
		Long: `Runs the components of a project on this host and follows every update. Blocks until
SIGTERM or SIGINT, which deregisters the host and leaves the containers running; the
next start adopts them. SIGHUP, and 'gantryd upgrade', replace the process by a new one
of the binary that is installed now; no connection is lost.

Without an etcd at the default endpoint, and none named, one is started inside the
daemon, with its data in the data directory.`,
		Example: "  gantryd run shop\n  gantryd run shop -c web worker --endpoints 10.0.0.1:2379,10.0.0.2:2379",
		Args:    args(cobra.ExactArgs(1)),
		RunE:    func(cmd *cobra.Command, a []string) error { return g.run(cmd.Context(), a[0], o) },
	}
	g.addComponents(cmd, "components to run on this host (default all)")
	fs := cmd.Flags()
	fs.StringVar(&o.host, "host", "", "name of this host (default: the machine's host name)")
	fs.StringVar(&o.bind, "bind", "0.0.0.0", "IP address that external ports listen on")
	fs.StringVar(&o.advertise, "advertise", "", "IP address at which other hosts reach this one (default: --bind, or found out)")
	fs.StringVar(&o.dataDir, "data-dir", "", "directory for what must survive a restart (default /var/lib/gantryd/PROJECT/HOST, or in the home directory)")
	fs.DurationVar(&o.leaseTTL, "lease-ttl", etcdstate.DefaultTTL, "time after which a host that went silent counts as gone")
	lingerFlag(cmd, &o.linger)
	holdFlag(cmd, &o.hold)
	accessLogFlag(cmd, &o.accessLog)
	fs.StringVar(&o.api.addr, "api", "", "address that the deploy API is served at, such as 0.0.0.0:3000 (default: it is not served)")
	o.api.add(cmd)
	return cmd
}

// lingerFlag is the same for both daemons.
func lingerFlag(cmd *cobra.Command, linger *time.Duration) {
	cmd.Flags().DurationVar(linger, "linger", app.DefaultLinger, "longest time for HTTP connections of a process that was replaced")
}

func (g *gantryd) run(ctx context.Context, projectName string, o runOptions) error {
	log := logger(g.env, slog.LevelInfo)
	return untilSignal(ctx, func(ctx context.Context, hangup <-chan os.Signal) error {
		return g.daemon(ctx, hangup, projectName, o, log)
	})
}

// daemon starts the daemon and runs it until ctx ends.
func (g *gantryd) daemon(ctx context.Context, hangup <-chan os.Signal, projectName string, o runOptions, log *slog.Logger) error {
	opts, err := g.daemonOptions(projectName, o, log)
	if err != nil {
		return err
	}
	cfg, named, err := g.etcd.config(g.env, log)
	if err != nil {
		return err
	}
	fleet := app.Fleet{Etcd: cfg, LeaseTTL: o.leaseTTL}
	if opts.Past, err = handover.Inherit(ctx, g.env.Getenv, opts.Version); err != nil {
		return notStarted(ctx, err, log)
	}
	switch {
	case opts.Past != nil:
		fleet.Embedded = opts.Past.Facts.Embedded
	case !named && !answers(ctx, etcdstate.DefaultEndpoint):
		fleet.Embedded = etcdstate.DefaultEndpoint
		fmt.Fprintf(g.env.Out, "No etcd at %s and none named: starting one in this process, data in %s\n",
			fleet.Embedded, filepath.Join(opts.DataDir, "etcd"))
	}
	requests, err := openAccessLog(g.env, o.accessLog, log)
	if err != nil {
		return err
	}
	if requests != nil {
		defer requests.Close()
		opts.AccessLog = requests
	}
	if o.api.addr != "" {
		s, requests, err := o.api.server(g.env, true, log)
		if err != nil {
			return err
		}
		defer requests.Close()
		opts.API = func(ctx context.Context, c *etcdstate.Client, e *engine.Engine) error {
			return s.Run(ctx, c, imagesOf(e))
		}
	}
	raiseProcs(g.env)
	opts.Keeper = keeper(g.env, opts.DataDir, o.hold, log)
	d, err := app.New(ctx, opts, fleet)
	if err != nil {
		return notStarted(ctx, err, log)
	}
	return serve(ctx, d, hangup, log, func() { fmt.Fprintln(g.env.Out, "Gantryd running") })
}

func (g *gantryd) daemonOptions(projectName string, o runOptions, log *slog.Logger) (app.Options, error) {
	opts := app.Options{
		Project: projectName, Host: o.host, Bind: o.bind, Advertise: o.advertise, Components: g.components,
		DataDir: o.dataDir, Version: version.Get().String(), Getenv: g.env.Getenv, Log: log, Report: storyTo(g.env.Out),
		Argv: append(slices.Clone(g.env.Self), g.argv...), Linger: o.linger,
	}
	if opts.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return opts, fmt.Errorf("find the host's name: %w; give --host", err)
		}
		opts.Host = host
	}
	for flag, v := range map[string]string{"--bind": o.bind, "--advertise": o.advertise} {
		if v != "" && net.ParseIP(v) == nil {
			return opts, fail(exitUsage, "%s %q: not an IP address", flag, v)
		}
	}
	if opts.DataDir == "" {
		base, err := stateHome(g.env, "gantryd")
		if err != nil {
			return opts, err
		}
		opts.DataDir = filepath.Join(base, projectName, opts.Host)
	}
	return opts, nil
}

// stateHome is where a binary keeps its state unless told otherwise.
func stateHome(env Env, name string) (string, error) {
	if os.Geteuid() == 0 {
		return rootState(name), nil
	}
	if dir := env.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, name), nil
	}
	home := env.Getenv("HOME")
	if home == "" {
		return "", errors.New("find a place for state: neither root nor HOME; name a directory")
	}
	return filepath.Join(home, ".local", "state", name), nil
}

// rootState is where root's state is.
func rootState(name string) string { return filepath.Join("/var/lib", name) }

// answers reports whether anything listens at addr.
func answers(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// storyTo prints events in the original's words, each behind the component it is about.
func storyTo(w io.Writer) func(component.Event) {
	var mu sync.Mutex // one line at a time
	return func(e component.Event) {
		mu.Lock()
		defer mu.Unlock()
		text := e.Text
		if e.Detail != "" {
			text += " (" + e.Detail + ")"
		}
		if e.Component != "" {
			text = "[" + e.Component + "] " + text
		}
		fmt.Fprintln(w, clean(text))
	}
}

// A blocking is a daemon that runs until its context ends, or another process has taken its place.
type blocking interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	Alive(ctx context.Context) error
	Upgrade(ctx context.Context, binary string) (app.Successor, error)
}

// untilSignal runs a daemon until SIGTERM or SIGINT. They and SIGHUP, which hangup gets, are its from the start of
// the process: one that is about to take over must not end of a signal that is meant for the daemon, and one that
// is told to end before it serves ends well.
func untilSignal(ctx context.Context, daemon func(ctx context.Context, hangup <-chan os.Signal) error) error {
	hangup := make(chan os.Signal, 1) // one is enough to remember
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return daemon(ctx, hangup)
}

// notStarted is err, why a daemon does not serve, or nil if that is because it was told to end.
func notStarted(ctx context.Context, err error, log *slog.Logger) error {
	if ctx.Err() == nil {
		return err
	}
	log.Info("ended before it served", "err", err)
	return nil
}

// serve runs d until ctx ends, or it was replaced, and keeps the service manager informed. Each hangup is an upgrade,
// also one from before it served.
func serve(ctx context.Context, d blocking, hangup <-chan os.Signal, log *slog.Logger, ready func()) error {
	g, ctx := errgroup.WithContext(ctx)
	ended, end := context.WithCancel(ctx)
	g.Go(func() error {
		defer end()
		return d.Run(ctx)
	})
	g.Go(func() error {
		select {
		case <-d.Ready():
			ready()
			tell(log, sdnotify.Ready("running"))
		case <-ended.Done():
			return nil
		}
		if err := sdnotify.Watchdog(ended, d.Alive); err != nil && ended.Err() == nil {
			log.Warn("watchdog", "err", err)
		}
		return nil
	})
	g.Go(func() error {
		upgradeOnHangup(ended, d, hangup)
		return nil
	})
	g.Go(func() error {
		<-ended.Done()
		if ctx.Err() != nil {
			tell(log, sdnotify.Stopping("stopping; containers keep running"))
		}
		return nil
	})
	return g.Wait()
}

// upgradeOnHangup upgrades the daemon at each SIGHUP until ctx ends. How it went is in the log.
func upgradeOnHangup(ctx context.Context, d blocking, hangup <-chan os.Signal) {
	for {
		select {
		case <-hangup:
			_, _ = d.Upgrade(ctx, "") // it has logged the error
		case <-ctx.Done():
			return
		}
	}
}

func tell(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("notify service manager", "err", err)
	}
}
