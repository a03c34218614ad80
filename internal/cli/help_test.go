package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// trees are the commands of both binaries.
func trees() map[string]*cobra.Command {
	env := Env{Getenv: func(string) string { return "" }}
	return map[string]*cobra.Command{"gantryd": (&gantryd{env: env}).root(), "gantry": (&gantry{env: env}).root()}
}

// walk calls f with every command that is there for people.
func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
			walk(sub, f)
		}
	}
}

func TestHelp(t *testing.T) {
	run := map[string]func(*testing.T, ...string) outcome{
		"gantryd": func(t *testing.T, a ...string) outcome { return inProcess(t, Gantryd, "", nil, a...) },
		"gantry":  func(t *testing.T, a ...string) outcome { return inProcess(t, Gantry, "", nil, a...) },
	}
	for name, root := range trees() {
		walk(root, func(c *cobra.Command) {
			path := c.CommandPath()
			t.Run(path, func(t *testing.T) {
				o := run[name](t, append(strings.Fields(path)[1:], "--help")...)
				if o.code != exitOK || o.err != "" {
					t.Errorf("%s --help = %+v", path, o)
				}
				golden(t, filepath.Join("help", strings.ReplaceAll(path, " ", "-")+".txt"), o.out)
				if c.Short == "" || strings.HasSuffix(c.Short, ".") {
					t.Errorf("short text %q: must be there, without a full stop", c.Short)
				}
			})
		})
	}
}

// TestDocsNameEverything keeps the reference of the command lines whole.
func TestDocsNameEverything(t *testing.T) {
	for name, root := range trees() {
		b, err := os.ReadFile(filepath.Join("..", "..", "docs", name+".md"))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		walk(root, func(c *cobra.Command) {
			if !strings.Contains(text, "`"+c.CommandPath()) {
				t.Errorf("docs/%s.md does not name `%s", name, c.CommandPath())
			}
			usages := c.LocalFlags().FlagUsages() + c.PersistentFlags().FlagUsages()
			for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllStringSubmatch(usages, -1) {
				if m[1] != "--help" && !strings.Contains(text, "`"+m[1]) {
					t.Errorf("docs/%s.md does not name `%s`", name, m[1])
				}
			}
		})
		for _, env := range []string{"DOCKER_HOST", "GANTRYD_LOG", "NO_COLOR"} {
			if !strings.Contains(text, "`"+env+"`") {
				t.Errorf("docs/%s.md does not name `%s`", name, env)
			}
		}
		for code := range 6 {
			if !strings.Contains(text, "| "+string(rune('0'+code))+" |") {
				t.Errorf("docs/%s.md does not say what exit code %d means", name, code)
			}
		}
	}
}
