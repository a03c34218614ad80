package proxybench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A figure is a row of the table: what a result says, against HAProxy's of the same round.
type figure struct {
	name, unit string
	measure    string
	of         func(Result) float64
	more       bool // more is better
	absolute   bool // asked and stretch are values, not ratios
	asked      float64
	stretch    float64
}

const (
	micro = 1e6
	perK  = 1e5 // what processor time is told per
)

func figures() []figure {
	fs := []figure{
		{name: "new connections/s", unit: "/s", measure: "conns", of: Result.Rate, more: true, asked: 1.03, stretch: 1.15},
		{name: "CPU per connection", unit: "s/100k", measure: "conns", of: cpuPerOp, asked: 0.85, stretch: 0.72},
		{name: "requests/s, 64 connections", unit: "/s", measure: "requests", of: Result.Rate, more: true, asked: 1.03, stretch: 1.12},
		{name: "CPU per request, under load", unit: "s/100k", measure: "requests", of: cpuPerOp, asked: 0.88, stretch: 0.65},
		{name: "CPU per request at 4,000/s", unit: "s/100k", measure: "rate", of: cpuPerOp, asked: 1.5, stretch: 1.0},
	}
	for _, bulk := range []string{"download 1", "download 8", "upload 1", "upload 8"} {
		fs = append(fs, figure{name: "bulk, " + bulk, unit: "GB/s", measure: bulk, of: Result.GB, more: true, asked: 1.10, stretch: 1.25})
	}
	for _, bulk := range []string{"download 1", "download 8", "upload 1", "upload 8"} {
		fs = append(fs, figure{name: "CPU per GB, " + bulk, unit: "s/GB", measure: bulk, of: Result.CPUPerGB, asked: 0.50, stretch: 0.40})
	}
	return append(fs, []figure{
		{name: "p50 at 4,000 requests/s", unit: "µs", measure: "rate", of: p50, asked: 1.0, stretch: 0.7},
		{name: "p99 at 4,000 requests/s", unit: "µs", measure: "rate", of: p99, asked: 1.3, stretch: 1.0},
		{name: "RSS per idle connection", unit: "B", measure: "idle", of: memoryPerConn, absolute: true, asked: 300, stretch: 120},
		{name: "descriptors per connection", unit: "", measure: "idle", of: openPerConn, absolute: true, asked: 2, stretch: 2},
		{name: "http: requests/s", unit: "/s", measure: "http requests", of: Result.Rate, more: true, asked: 0.50, stretch: 0.80},
		{name: "http: CPU per request", unit: "s/100k", measure: "http requests", of: cpuPerOp},
		{name: "http: p99 at 4,000 requests/s", unit: "µs", measure: "http rate", of: p99},
	}...)
}

func cpuPerOp(r Result) float64      { return r.CPUPerOp() * perK }
func p50(r Result) float64           { return r.P50.Seconds() * micro }
func p99(r Result) float64           { return r.P99.Seconds() * micro }
func memoryPerConn(r Result) float64 { return float64(r.Memory) / float64(r.Ops) }
func openPerConn(r Result) float64 {
	return float64(int(float64(r.Open)/float64(r.Ops)*100+0.5)) / 100 // a few more are no connection's
}

// value is the median of a peer's results.
func (f figure) value(s samples, peer string) float64 {
	var xs []float64
	for _, r := range s[f.measure][peer] {
		xs = append(xs, f.of(r))
	}
	return median(xs)
}

// ratios are a peer's results, each divided by HAProxy's of the same round.
func (f figure) ratios(s samples, peer string) []float64 {
	var xs []float64
	base := s[f.measure][haproxy]
	for i, r := range s[f.measure][peer] {
		if i < len(base) && f.of(base[i]) != 0 {
			xs = append(xs, f.of(r)/f.of(base[i]))
		}
	}
	return xs
}

// reached is the figure of a peer that is compared with what is asked.
func (f figure) reached(s samples, peer string) float64 {
	if f.absolute {
		return f.value(s, peer)
	}
	return median(f.ratios(s, peer))
}

// verdict says how a figure is.
func (f figure) verdict(reached float64) string {
	better := func(limit float64) bool {
		if f.more {
			return reached >= limit
		}
		return reached <= limit
	}
	switch {
	case f.asked == 0:
		return ""
	case better(f.stretch):
		return "stretch"
	case better(f.asked):
		return "met"
	}
	return "MISSED"
}

// limit is what is asked, for people.
func (f figure) limit(x float64) string {
	if x == 0 {
		return "-"
	}
	sign := "≤"
	if f.more {
		sign = "≥"
	}
	if f.absolute {
		return fmt.Sprintf("%s %g", sign, x)
	}
	return fmt.Sprintf("%s %.2f", sign, x)
}

// print prints the table: for each of ours what was reached, with the least and the most of the rounds,
// and for the others their ratio to HAProxy.
func (s samples) print(w io.Writer, title string, ours, others []string) {
	fmt.Fprintf(w, "\n%s\n", title)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := []string{"FIGURE", "ASKED", "STRETCH", "HAPROXY"}
	for _, name := range ours {
		head = append(head, strings.ToUpper(name), "REACHED", "ROUNDS", "")
	}
	for _, name := range others {
		head = append(head, strings.ToUpper(name))
	}
	fmt.Fprintln(tw, strings.Join(head, "\t"))
	for _, f := range figures() {
		if len(s[f.measure]) == 0 {
			continue
		}
		cells := []string{f.name, f.limit(f.asked), f.limit(f.stretch), f.text(f.value(s, haproxy))}
		for _, name := range ours {
			cells = append(cells, f.cells(s, name)...)
		}
		for _, name := range others {
			if cells = append(cells, ""); len(s[f.measure][name]) > 0 && f.value(s, name) != 0 {
				cells[len(cells)-1] = fmt.Sprintf("%.2f", median(f.ratios(s, name)))
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	_ = tw.Flush() // to the terminal
}

// cells are the columns of one of ours.
func (f figure) cells(s samples, name string) []string {
	if len(s[f.measure][name]) == 0 {
		return []string{"", "", "", ""}
	}
	reached := f.reached(s, name)
	number := fmt.Sprintf("%.2f", reached)
	if f.absolute {
		number = fmt.Sprintf("%.4g", reached)
	}
	xs := f.ratios(s, name)
	return []string{
		f.text(f.value(s, name)), number,
		fmt.Sprintf("%.2f..%.2f", slices.Min(xs), slices.Max(xs)), f.verdict(reached),
	}
}

// text is a value with its unit.
func (f figure) text(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f %s", x, f.unit)
	case x >= 10:
		return fmt.Sprintf("%.1f %s", x, f.unit)
	}
	return fmt.Sprintf("%.3f %s", x, f.unit)
}
