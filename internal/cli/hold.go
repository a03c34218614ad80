package cli

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/app"
	"github.com/gantryd/gantryd/internal/holder"
)

// holdCommand is the hidden command that keeps listening sockets of a daemon.
const holdCommand = "hold-sockets"

// inheritedListener is the descriptor at which that command finds its socket.
const inheritedListener = 3

// keeper keeps the listening sockets of the daemon of dir for so long when it is killed; 0: not at all.
func keeper(env Env, dir string, wait time.Duration, log *slog.Logger) app.Keeper {
	var argv []string
	if wait > 0 {
		argv = append(slices.Clone(env.Self), holdCommand, "--for", wait.String())
	}
	return app.NewKeeper(dir, argv, env.Getenv, log)
}

// holdFlag is the same for both daemons.
func holdFlag(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "hold-sockets", holder.DefaultWait, "how long listening sockets outlive a daemon that was killed; 0: not at all")
}

// smallHeap is the part of its heap by which a holder may let it grow, in percent.
const smallHeap = 10

func holdCmd(env Env) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: holdCommand, Short: "Keep the listening sockets of a daemon (started by it)", Hidden: true,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := logger(env, slog.LevelInfo)
			f := os.NewFile(inheritedListener, "holder")
			l, err := net.FileListener(f)
			if err != nil {
				return fail(exitUsage, "%s is started by the daemon: %w", holdCommand, err)
			}
			_ = f.Close() // l is a duplicate
			u, ok := l.(*net.UnixListener)
			if !ok {
				return fail(exitUsage, "%s is started by the daemon: descriptor %d is a %T", holdCommand, inheritedListener, l)
			}
			u.SetUnlinkOnClose(false)
			debug.SetGCPercent(smallHeap)
			if err := app.Shrink(); err != nil {
				log.Debug("give memory back", "err", err)
			}
			if err := holder.Serve(cmd.Context(), u, wait, log); err != nil {
				return fmt.Errorf("hold sockets: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&wait, "for", holder.DefaultWait, "longest time without a daemon")
	return cmd
}
