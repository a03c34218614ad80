package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func (g *gantryd) etcdCmd() *cobra.Command {
	o := etcdstate.ServerOptions{}
	cmd := &cobra.Command{
		Use: "etcd", Short: "Run an etcd member, alone or as one of several",
		Example: `  gantryd etcd --name e1 --data-dir /var/lib/gantryd-etcd --listen-client 10.0.0.1:2379 --listen-peer 10.0.0.1:2380 \
    --initial-cluster e1=http://10.0.0.1:2380,e2=http://10.0.0.2:2380,e3=http://10.0.0.3:2380`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.DataDir == "" {
				return fail(exitUsage, "--data-dir is needed")
			}
			o.Log = logger(g.env, slog.LevelInfo)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			srv, err := etcdstate.StartServer(ctx, o)
			if err != nil {
				return err
			}
			fmt.Fprintf(g.env.Out, "etcd member %s running, clients at %s\n", o.Name, srv.ClientURL())
			select {
			case <-ctx.Done():
				return srv.Close()
			case <-srv.Failed():
				_ = srv.Close() // it is broken already
				return errors.New("etcd failed, see the log; the data directory is left as it is")
			}
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.Name, "name", "default", "name of the member")
	fs.StringVar(&o.DataDir, "data-dir", "", "directory of the member's data")
	fs.StringVar(&o.ListenClient, "listen-client", etcdstate.DefaultEndpoint, "address for clients")
	fs.StringVar(&o.ListenPeer, "listen-peer", "127.0.0.1:2380", "address for the other members")
	fs.StringVar(&o.InitialCluster, "initial-cluster", "", "all members, NAME=URL,...; default: this one alone")
	return cmd
}

func (g *gantryd) adoptCmd() *cobra.Command {
	var confirm bool
	cmd := &cobra.Command{
		Use: "adopt PROJECT --confirm", Short: "Confirm that what etcd says counts, after its data was lost, restored or replaced",
		Long: `A daemon that finds etcd empty, older than before, or another cluster keeps what it serves
and starts nothing new. This command tells all daemons of a project that the data is right.`,
		Example: "  gantryd adopt shop --confirm",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if !confirm {
				return fail(exitUsage, "this makes every daemon of project %s follow what etcd says now; give --confirm when 'gantryd list %s' is right", a[0], a[0])
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error {
				if err := c.Adopt(cmd.Context(), a[0], person(g.env.Getenv)); err != nil {
					return err
				}
				fmt.Fprintf(g.env.Out, "Project %s adopted\n", a[0])
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&confirm, "confirm", false, "yes, what etcd says is right")
	return cmd
}
