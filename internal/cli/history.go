package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// workplace is the machine and the directory that a command was given in.
func workplace() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	dir, err := os.Getwd()
	if err != nil {
		return host
	}
	return host + ":" + dir
}

// one is the name of the only component that a command is about.
func (g *gantryd) one() (string, error) {
	if len(g.components) != 1 {
		return "", fail(exitUsage, "name one component with -c")
	}
	return g.components[0], nil
}

func (g *gantryd) historyCmd() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "history PROJECT -c COMPONENT", Short: "Show who asked for what, when, from where, what changed and how it ended",
		Long: `Shows the last 50 states that were asked for of a component, the newest first: its
generation, how its rollout ended (done, halted, rolledback, superseded, stopped, killed;
open: it goes on), the command, who gave it and when, and what changed against the
release before.`,
		Example: "  gantryd history shop -c web\n  gantryd history shop -c web -o json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := g.one()
			if err == nil {
				err = knownForm(form)
			}
			if err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error {
				if _, err := g.project(cmd.Context(), c, args[0]); err != nil { // it warns of what cannot be read
					return err
				}
				entries, err := operator.History(cmd.Context(), c, args[0], name)
				if err != nil {
					return err
				}
				rows := operator.Releases(entries)
				return printData(g.env.Out, form, map[string]any{"project": args[0], "component": name, "items": rows}, func() {
					printHistory(g.env.Out, rows, time.Now())
				})
			})
		},
	}
	g.addComponents(cmd, "the component")
	addOutput(cmd, &form)
	return cmd
}

func printHistory(w io.Writer, rows []api.Release, now time.Time) {
	table := [][]string{{"GENERATION", "OUTCOME", "COMMAND", "AGE", "BY", "IMAGE", "CHANGED"}}
	for _, r := range rows {
		command := r.Command
		if r.Source != 0 {
			command += " to " + strconv.FormatInt(r.Source, 10)
		}
		if len(r.Together) > 0 {
			command += " of " + strings.Join(r.Together, "+")
		}
		if command == "" {
			command = "-"
		}
		table = append(table, []string{
			strconv.FormatInt(r.Generation, 10), string(r.Outcome), command, age(now, r.At), r.By, component.Short(r.ImageID), changed(r.Changes),
		})
	}
	grid(w, table)
	for _, r := range rows {
		if r.Reason != "" {
			fmt.Fprintf(w, "%d: %s\n", r.Generation, clean(r.Reason))
		}
		if p := r.Rollout.Prepared; p != nil {
			fmt.Fprintf(w, "%d: pre-deploy task succeeded on %s, %s ago\n", r.Generation, p.Host, age(now, p.At))
		}
		if r.Rollout.Reason != "" {
			fmt.Fprintf(w, "%d %s: %s\n", r.Generation, r.Outcome, clean(r.Rollout.Reason))
		}
	}
}

// changed names the fields that changed.
func changed(cs []component.Change) string {
	const most = 3
	var fields []string
	for _, c := range cs {
		if len(fields) == most {
			fields = append(fields, fmt.Sprintf("and %d more", len(cs)-most))
			break
		}
		fields = append(fields, c.Field)
	}
	if len(fields) == 0 {
		return "-"
	}
	return strings.Join(fields, ", ")
}
