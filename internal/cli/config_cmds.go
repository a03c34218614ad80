package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/version"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func (g *gantryd) setconfigCmd() *cobra.Command {
	return &cobra.Command{
		Use: "setconfig PROJECT CONFIGFILE", Short: "Store a project's configuration in etcd, when it is valid",
		Example: "  gantryd setconfig shop gantryd.json\n  gantryd setconfig shop - < gantryd.yaml",
		Args:    args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fail(exitUsage, "Missing configfile parameter")
			}
			p, err := readProject(g.env, args[1])
			if err != nil {
				return err
			}
			b, err := config.Canonical(p)
			if err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error {
				if err := c.PutConfig(cmd.Context(), args[0], b); err != nil {
					return err
				}
				fmt.Fprintln(g.env.Out, "Configuration updated")
				return nil
			})
		},
	}
}

func (g *gantryd) getconfigCmd() *cobra.Command {
	return &cobra.Command{
		Use: "getconfig PROJECT", Short: "Print a project's stored configuration",
		Example: "  gantryd getconfig shop > gantryd.json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.with(cmd.Context(), func(c *etcdstate.Client) error {
				b, ok, err := c.Config(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if !ok {
					return fail(exitNotFound, "No config found")
				}
				if b, err = config.Pretty(b); err != nil {
					return err
				}
				_, err = g.env.Out.Write(append(b, '\n'))
				return err
			})
		},
	}
}

func validateCmd(env Env) *cobra.Command {
	return &cobra.Command{
		Use: "validate CONFIGFILE", Short: "Check a project file and print every mistake, with its place",
		Example: "  gantryd validate gantryd.json",
		Args:    args(cobra.RangeArgs(1, 2)), // the original's order has a project first
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readProject(env, args[len(args)-1])
			if err != nil {
				return err
			}
			fmt.Fprintf(env.Out, "Configuration valid: %d components\n", len(p.Components))
			return nil
		},
	}
}

func schemaCmd() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of project files, for editors",
		Example: "  gantryd schema > gantryd.schema.json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)
			return err
		},
	}
}

func versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version.Get())
			return err
		},
	}
}

// maxConfig is the largest project file that is read; what is larger is refused by its parser.
const maxConfig = 2 << 20

// readProject reads and validates a project file; "-" is standard input.
func readProject(env Env, path string) (component.Project, error) {
	in := env.In
	if path != "-" {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return component.Project{}, fail(exitNotFound, "Could not find config file: %s", path)
		}
		if err != nil {
			return component.Project{}, fail(exitNotFound, "Could not find config file: %s: %w", path, err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxConfig))
	if err != nil {
		return component.Project{}, fail(exitNotFound, "Could not find config file: %s: %w", path, err)
	}
	p, err := config.Parse(path, b)
	if _, ok := errors.AsType[*config.SyntaxError](err); ok {
		return p, fail(exitFailed, "Error parsing gantry config: %w", err)
	}
	if err != nil {
		return p, fail(exitFailed, "%w", err).withHint("nothing was stored or changed; 'gantryd schema' describes the file to editors")
	}
	return p, nil
}
