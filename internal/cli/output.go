package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// Forms of output.
const (
	formTable = "table"
	formJSON  = "json"
	formYAML  = "yaml"
)

// addOutput adds -o to a command that prints data.
func addOutput(cmd *cobra.Command, form *string) {
	cmd.Flags().StringVarP(form, "output", "o", formTable, "table, json or yaml; json and yaml are a stable promise")
}

// knownForm refuses a form of output that there is not, before anything is done.
func knownForm(form string) error {
	if form == formTable || form == formJSON || form == formYAML {
		return nil
	}
	return fail(exitUsage, "unknown form of output %q: table, json or yaml", form)
}

// printData prints v in a form programs read, or calls table.
func printData(w io.Writer, form string, v any, table func()) error {
	switch form {
	case formTable:
		table()
		return nil
	case formJSON:
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case formYAML:
		b, err := json.Marshal(v) // the names are those of the JSON
		if err != nil {
			return err
		}
		var tree any
		if err := json.Unmarshal(b, &tree); err != nil {
			return err
		}
		out, err := yaml.Marshal(tree)
		if err != nil {
			return err
		}
		_, err = w.Write(out)
		return err
	}
	return knownForm(form)
}

// row prints cells 20 wide, as the original does.
func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, " ")
		}
		fmt.Fprintf(w, "%-20s", clean(c))
	}
	fmt.Fprintln(w)
}

// grid prints rows in columns as wide as they need to be.
func grid(w io.Writer, rows [][]string) {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(clean(c))))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			fmt.Fprintf(&b, "%-*s  ", widths[i], clean(c))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// clean takes out of a text what would steer the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// cleanLines is clean for a text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return strings.Join(lines, "\n")
}
