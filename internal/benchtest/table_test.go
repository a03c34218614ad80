package benchtest

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// A row is one figure beside its target.
type row struct {
	figure  string
	target  string
	reached string
	verdict string
	note    string
}

// A table gathers the rows of a run.
type table struct {
	mu   sync.Mutex
	rows []row
}

// results is filled by the benchmarks of one run and printed by TestMain.
var results table

func TestMain(m *testing.M) {
	code := m.Run()
	if len(results.rows) > 0 {
		results.print(os.Stdout)
	}
	os.Exit(code)
}

// add notes a figure of which less is better. A target of 0 means that there is none.
func (t *table) add(figure, unit string, target, reached float64, note string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := row{figure: figure, reached: fmt.Sprintf("%.4g %s", reached, unit), note: note}
	if target > 0 {
		r.target, r.verdict = fmt.Sprintf("≤ %g %s", target, unit), "met"
		if reached > target {
			r.verdict = "MISSED"
		}
	}
	t.rows = append(t.rows, r)
}

func (t *table) print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nFIGURE\tTARGET\tREACHED\t\tHOW")
	for _, r := range t.rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.figure, r.target, r.reached, r.verdict, r.note)
	}
	_ = tw.Flush() // to the terminal
}

// spread are the median, the least and the most of some times.
type spread struct{ median, least, most time.Duration }

func of(ds []time.Duration) spread {
	s := slices.Sorted(slices.Values(ds))
	return spread{s[len(s)/2], s[0], s[len(s)-1]}
}

func (s spread) String() string {
	r := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	return fmt.Sprintf("median %v, %v to %v", r(s.median), r(s.least), r(s.most))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
