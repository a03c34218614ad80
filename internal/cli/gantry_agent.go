package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gantryd/gantryd/internal/agent"
	"github.com/gantryd/gantryd/internal/app"
	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/internal/version"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/engine"
	"github.com/gantryd/gantryd/pkg/localstate"
)

// agentProject is the project that the containers of an agent carry. Each state directory has one of
// its own, so that two agents of one machine leave each other's containers alone.
func agentProject(dir string) string {
	if dir == rootState("gantry") {
		return "gantry"
	}
	sum := sha256.Sum256([]byte(dir))
	return "gantry-" + hex.EncodeToString(sum[:4])
}

// agentOptions are the flags of agent.
type agentOptions struct {
	bind, accessLog string
	linger, hold    time.Duration
}

func (g *gantry) agentCmd() *cobra.Command {
	var o agentOptions
	cmd := &cobra.Command{
		Use: "agent", Short: "Run the background agent in the foreground, e.g. under systemd",
		Example: "  gantry agent\n  gantry agent --state-dir /var/lib/gantry --bind 127.0.0.1",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := g.dir()
			if err != nil {
				return err
			}
			if net.ParseIP(o.bind) == nil {
				return fail(exitUsage, "--bind %q: not an IP address", o.bind)
			}
			return g.agent(cmd.Context(), dir, o)
		},
	}
	cmd.Flags().StringVar(&o.bind, "bind", envOr(g.env, "GANTRY_BIND", "0.0.0.0"), "IP address that external ports listen on (GANTRY_BIND)")
	lingerFlag(cmd, &o.linger)
	holdFlag(cmd, &o.hold)
	accessLogFlag(cmd, &o.accessLog)
	return cmd
}

func envOr(env Env, name, unset string) string {
	if v := env.Getenv(name); v != "" {
		return v
	}
	return unset
}

func (g *gantry) agent(ctx context.Context, dir string, o agentOptions) error {
	log := logger(g.env, slog.LevelInfo)
	return untilSignal(ctx, func(ctx context.Context, hangup <-chan os.Signal) error {
		return g.runAgent(ctx, hangup, dir, o, log)
	})
}

// runAgent starts the agent and runs it until ctx ends.
func (g *gantry) runAgent(ctx context.Context, hangup <-chan os.Signal, dir string, o agentOptions, log *slog.Logger) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find the host's name: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if _, err := agent.Socket(dir); err != nil {
		return fail(exitUsage, "%w", err)
	}
	hub := &agent.Hub{}
	story := storyTo(g.env.Out)
	requests, err := openAccessLog(g.env, o.accessLog, log)
	if err != nil {
		return err
	}
	if requests != nil {
		defer requests.Close()
	}
	raiseProcs(g.env)
	past, err := handover.Inherit(ctx, g.env.Getenv, version.Get().String())
	if err != nil {
		return notStarted(ctx, err, log)
	}
	d, err := app.NewLocal(ctx, app.Options{
		Project: agentProject(dir), Host: host, Bind: o.bind, DataDir: dir, Version: version.Get().String(),
		Getenv: g.env.Getenv, Log: log, Past: past, Linger: o.linger, Keeper: keeper(g.env, dir, o.hold, log),
		Argv: append(slices.Clone(g.env.Self), g.argv...), AccessLog: requests,
		Report: func(e component.Event) { hub.Publish(e); story(e) },
	})
	if errors.Is(err, localstate.ErrLocked) {
		return fail(agent.ExitInUse, "%w", err)
	}
	if err != nil {
		return notStarted(ctx, err, log)
	}
	agent.MarkSupervised(dir, g.env.Getenv("NOTIFY_SOCKET") != "", log)
	return serve(ctx, &agentDaemon{Daemon: d, server: agent.NewServer(agent.Options{
		Store: d, Status: d.Status, Hub: hub, Moved: d.Handed(), Version: version.Get().String(), Log: log,
		Resolve: resolver(d.Engine()),
	})}, hangup, log, func() { fmt.Fprintln(g.env.Out, "gantry agent running") })
}

// resolver pins an image: what is here counts, what is not is pulled.
func resolver(e *engine.Engine) func(context.Context, string, func(string)) (component.Image, string, error) {
	return func(ctx context.Context, ref string, progress func(string)) (component.Image, string, error) {
		return e.Resolve(ctx, ref, engine.PullMissing, progress)
	}
}

// agentDaemon is the daemon with the socket that commands talk to.
type agentDaemon struct {
	*app.Daemon
	server *agent.Server
}

// Run serves both until ctx ends, or another process has taken over. The socket comes last: whoever gets an
// answer finds a daemon. It goes first when there is another process, in whose queue commands wait from then on.
func (a *agentDaemon) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	answering, silence := context.WithCancel(ctx)
	g.Go(func() error {
		defer silence()
		return a.Daemon.Run(ctx)
	})
	g.Go(func() error {
		defer silence()
		select {
		case <-a.Handed():
		case <-answering.Done():
		}
		return nil
	})
	g.Go(func() error { return a.answer(answering) })
	return g.Wait()
}

// answer serves the socket until ctx ends.
func (a *agentDaemon) answer(ctx context.Context) error {
	select {
	case <-a.Looked():
	case <-ctx.Done():
		return nil
	}
	l, err := a.Listen(ctx, agent.SocketName)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return a.server.Serve(ctx, l)
}
