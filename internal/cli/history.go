package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// past is a row of history, in the form programs read.
type past struct {
	Generation int64              `json:"generation"`
	Outcome    component.Outcome  `json:"outcome"`
	Command    string             `json:"command,omitempty"`
	Together   []string           `json:"together,omitempty"` // components that were one release with it
	Source     int64              `json:"source,omitempty"`   // of a rollback: the generation it brought back
	By         string             `json:"by,omitempty"`
	From       string             `json:"from,omitempty"`
	At         time.Time          `json:"at,omitzero"`
	Reason     string             `json:"reason,omitempty"` // the operator's
	ImageID    string             `json:"imageid,omitempty"`
	Image      string             `json:"image,omitempty"`
	Changes    []component.Change `json:"changes"`
	Rollout    component.Rollout  `json:"rollout,omitzero"`
}

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

// history reads the history of a component, which must have one.
func (g *gantryd) history(ctx context.Context, c *etcdstate.Client, project, name string) ([]component.Past, error) {
	entries, err := c.History(ctx, project, name)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return entries, nil
	}
	p, err := g.project(ctx, c, project)
	if err != nil {
		return nil, err
	}
	if _, err := pick(names(p), []string{name}); err != nil {
		return nil, err
	}
	return nil, fail(exitNotFound, "component %s has no history: nothing was asked for yet", name).withHint("gantryd update %s -c %s", project, name)
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
				entries, err := g.history(cmd.Context(), c, args[0], name)
				if err != nil {
					return err
				}
				rows := pasts(entries)
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

// pasts are the rows of entries, which come newest first.
func pasts(entries []component.Past) []past {
	out := make([]past, 0, len(entries))
	for i, e := range entries {
		d := e.Desired
		row := past{
			Generation: e.Generation, Outcome: e.Outcome, Command: d.Command, Source: d.Source, Together: d.Together, By: d.By, From: d.From,
			At: d.At, Reason: d.Reason, ImageID: d.ImageID, Image: d.Image.Ref, Changes: []component.Change{}, Rollout: e.Rollout,
		}
		if i+1 < len(entries) && entries[i+1].Desired.Spec != nil && d.Spec != nil {
			row.Changes = append(row.Changes, component.Changes(entries[i+1].Desired.Release(), d.Release())...)
		}
		out = append(out, row)
	}
	return out
}

func printHistory(w io.Writer, rows []past, now time.Time) {
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
