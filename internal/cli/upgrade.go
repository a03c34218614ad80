package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/app"
	"github.com/gantryd/gantryd/internal/control"
)

// upgradeWithin is the default of --timeout: beyond the bounds of all steps of an upgrade.
const upgradeWithin = 3 * time.Minute

const upgradeLong = `Replaces the daemon that runs on this machine by a new process of the binary that is
installed now. The new process starts and checks all it can while the old one serves,
and then takes listening sockets and connections over. Connections go on; HTTP requests
and TLS connections finish in the old process.

A new binary that fails, hangs or dies before it has taken over changes nothing: the
old process goes on, and this command says why.`

func (g *gantryd) upgradeCmd() *cobra.Command {
	var o runOptions
	var binary string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "upgrade PROJECT", Short: "Replace this host's daemon by a new process, without losing a connection",
		Long:    upgradeLong,
		Example: "  gantryd upgrade shop\n  gantryd upgrade shop --binary /opt/gantryd-2/gantryd",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			opts, err := g.daemonOptions(a[0], o, nil)
			if err != nil {
				return err
			}
			return upgrade(cmd.Context(), g.env, opts.DataDir, binary, timeout)
		},
	}
	fs := cmd.Flags()
	upgradeFlags(cmd, &binary, &timeout)
	fs.StringVar(&o.host, "host", "", "name of this host (default: the machine's host name)")
	fs.StringVar(&o.dataDir, "data-dir", "", "data directory of the daemon (default /var/lib/gantryd/PROJECT/HOST, or in the home directory)")
	return cmd
}

func (g *gantry) upgradeCmd() *cobra.Command {
	var binary string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "upgrade", Short: "Replace the background agent by a new process, without losing a connection",
		Long: upgradeLong, Example: "  gantry upgrade\n  gantry upgrade --binary /opt/gantry-2/gantry",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := g.dir()
			if err != nil {
				return err
			}
			return upgrade(cmd.Context(), g.env, dir, binary, timeout)
		},
	}
	upgradeFlags(cmd, &binary, &timeout)
	return cmd
}

// upgradeFlags are the same for both daemons.
func upgradeFlags(cmd *cobra.Command, binary *string, timeout *time.Duration) {
	fs := cmd.Flags()
	fs.StringVar(binary, "binary", "", "path of the new binary (default: the path that the daemon was started by)")
	fs.DurationVar(timeout, "timeout", upgradeWithin, "longest wait for the new process to serve")
}

// upgrade asks the daemon of dir to be replaced, and prints what came of it.
func upgrade(ctx context.Context, env Env, dir, binary string, timeout time.Duration) error {
	s, err := askUpgrade(ctx, dir, binary, timeout)
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "Upgraded to %s, process %d\n", s.Version, s.PID)
	return nil
}

// askUpgrade asks the daemon of dir to be replaced.
func askUpgrade(ctx context.Context, dir, binary string, timeout time.Duration) (app.Successor, error) {
	var s app.Successor
	if binary != "" {
		path, err := exec.LookPath(binary)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return s, fail(exitUsage, "--binary: %w", err)
		}
		binary = path
	}
	raw, err := json.Marshal(app.UpgradeArgs{Binary: binary})
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = control.Call(ctx, dir, control.Request{Command: app.CommandUpgrade, Args: raw}, &s)
	if errors.Is(err, control.ErrNobody) {
		return s, fail(exitNotFound, "upgrade: %w", err).withHint("name its directory: --data-dir or --host of gantryd, --state-dir of gantry")
	}
	return s, err
}
