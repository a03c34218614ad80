package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/internal/apiserver"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// tokenRow is a row of token list, in the form programs read.
type tokenRow struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Role     string    `json:"role"`
	Projects []string  `json:"projects"` // none: all
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
}

func (g *gantryd) tokenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Make, list and revoke the tokens that let programs use the deploy API",
		Long: `A token is a credential of the deploy API. It has a role (viewer: read how things stand;
deployer: roll out, go back, pause; admin: read and change configurations too) for some
projects or for all. etcd keeps a hash of it; the token itself is shown once.`,
		Example: "  gantryd token create ci --role deployer --project shop\n  gantryd token list\n  gantryd token revoke k3xw7mq2ab",
		Args:    args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(g.tokenCreateCmd(), g.tokenListCmd(), g.tokenRevokeCmd())
	return cmd
}

func (g *gantryd) tokenCreateCmd() *cobra.Command {
	var role string
	var projects []string
	var expires time.Duration
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a token and print it, once",
		Long: `Makes a token and prints it to standard output. It cannot be printed again. NAME says who
has it; the history of releases shows it as token:NAME.`,
		Example: "  gantryd token create ci --role deployer --project shop --expires 720h\n  gantryd token create page --role viewer",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			r, err := apiserver.ParseRole(role)
			switch {
			case err != nil:
				return fail(exitUsage, "--role: %w", err)
			case expires < 0:
				return fail(exitUsage, "--expires %v: it would never count", expires)
			case slices.Contains(projects, ""), cmd.Flags().Changed("project") && len(projects) == 0: // which would be all
				return fail(exitUsage, "--project: a project has a name")
			case a[0] == "" || clean(a[0]) != a[0]:
				return fail(exitUsage, "%q is no name", a[0])
			}
			t := etcdstate.Token{Name: a[0], Role: string(r), Projects: projects, By: person(g.env.Getenv), At: time.Now().UTC()}
			if expires > 0 {
				t.Expires = t.At.Add(expires)
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error { return g.createToken(cmd.Context(), c, t) })
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&role, "role", "", "viewer, deployer or admin")
	fs.StringSliceVar(&projects, "project", nil, "project that the token is for, may be given several times (default all)")
	fs.DurationVar(&expires, "expires", 0, "time after which the token does not count any more, such as 720h (default never)")
	return cmd
}

func (g *gantryd) createToken(ctx context.Context, c *etcdstate.Client, t etcdstate.Token) error {
	t, text := apiserver.NewToken(t)
	if err := c.CreateToken(ctx, t); err != nil {
		return err
	}
	fmt.Fprintln(g.env.Out, text)
	fmt.Fprintf(g.env.Err, "Token %s of %s made; it is not shown again\n", t.ID, t.Name)
	return nil
}

func (g *gantryd) tokenListCmd() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use: "list", Short: "List the tokens, without their secrets",
		Example: "  gantryd token list\n  gantryd token list -o json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := knownForm(form); err != nil {
				return err
			}
			return g.with(cmd.Context(), func(c *etcdstate.Client) error {
				all, err := c.Tokens(cmd.Context())
				if err != nil {
					return err
				}
				rows := make([]tokenRow, 0, len(all))
				for _, t := range all {
					rows = append(rows, tokenRow{t.ID, t.Name, t.Role, append([]string{}, t.Projects...), t.By, t.At, t.Expires})
				}
				return printData(g.env.Out, form, map[string]any{"items": rows}, func() { g.printTokens(rows, time.Now()) })
			})
		},
	}
	addOutput(cmd, &form)
	return cmd
}

func (g *gantryd) printTokens(rows []tokenRow, now time.Time) {
	table := [][]string{{"ID", "NAME", "ROLE", "PROJECTS", "AGE", "BY", "EXPIRES"}}
	for _, r := range rows {
		projects, expires := strings.Join(r.Projects, ","), "never"
		if projects == "" {
			projects = "all"
		}
		switch {
		case r.Expires.IsZero():
		case !now.Before(r.Expires):
			expires = "expired"
		default:
			expires = "in " + age(r.Expires, now)
		}
		table = append(table, []string{r.ID, r.Name, r.Role, projects, age(now, r.At), dash(r.By), expires})
	}
	grid(g.env.Out, table)
}

func (g *gantryd) tokenRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID...", Short: "Revoke tokens, at once",
		Long:    "Revokes tokens. They count no more at once, and event streams that they opened end.",
		Example: "  gantryd token revoke k3xw7mq2ab",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return g.with(cmd.Context(), func(c *etcdstate.Client) error {
				for _, id := range ids {
					there, err := c.DeleteToken(cmd.Context(), id)
					if err != nil {
						return err
					}
					if !there {
						return fail(exitNotFound, "there is no token %s", id).withHint("'gantryd token list' lists them; a token's ID is what stands between its two underscores")
					}
					fmt.Fprintf(g.env.Out, "Token %s revoked\n", id)
				}
				return nil
			})
		},
	}
}
