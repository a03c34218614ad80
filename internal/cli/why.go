package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

func (g *gantryd) whyCmd() *cobra.Command {
	var host string
	cmd := &cobra.Command{
		Use: "why PROJECT -c COMPONENT", Short: "Say why a component is, or is not, running, serving or rolling out",
		Long: `One paragraph from recorded facts: what was asked for, by whom and why, how its rollout
stands, and what each host does and waits for.`,
		Example: "  gantryd why shop -c web\n  gantryd why shop -c web --host h2",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := g.one()
			if err != nil {
				return err
			}
			return g.show(cmd.Context(), args[0], formTable, func(p etcdstate.Project, _ []string) error {
				v, ok := p.Components[name]
				if !ok {
					v = component.View{}
				}
				v.Machines, v.Drained = p.Machines, p.Drained
				fmt.Fprintln(g.env.Out, clean(strings.Join(rollout.Why(name, host, v, time.Now()), " ")))
				return nil
			})
		},
	}
	g.addComponents(cmd, "the component")
	cmd.Flags().StringVar(&host, "host", "", "one host only")
	return cmd
}
