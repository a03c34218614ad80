package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/pkg/component"
)

// maxLine is how many bytes of a line are kept.
const maxLine = 1 << 10

// Logs are the last n lines the container wrote, both streams in order. What a terminal would act
// on is escaped, and lines are cut at 1 KiB.
func (e *Engine) Logs(ctx context.Context, id string, n int) ([]string, error) {
	defer failpoint.Around(failpoint.Logs)()
	if n <= 0 {
		return nil, nil
	}
	c, err := e.inspect(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read logs: %w", err)
	}
	var last lines
	err = e.call(ctx, e.limits.logs, func(ctx context.Context, cli *client.Client) error {
		last = lines{max: n}
		r, err := cli.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(n)})
		if err != nil {
			return err
		}
		defer r.Close()
		return split(r, c.Config.Tty, &last)
	})
	if err != nil {
		return nil, fmt.Errorf("read logs of container %q: %w", component.Short(id), err)
	}
	return last.kept, nil
}

// split sends a stream of the Engine to out, line by line. Without a terminal it has both streams in
// frames.
func split(r io.Reader, tty bool, out *lines) error {
	stdout, stderr := &lineWriter{out: out}, &lineWriter{out: out}
	defer stderr.flush()
	defer stdout.flush()
	if tty {
		_, err := io.Copy(stdout, r)
		return err
	}
	_, err := stdcopy.StdCopy(stdout, stderr, r)
	return err
}

// lines keeps the last max lines.
type lines struct {
	max  int
	kept []string
}

func (l *lines) add(s string) {
	if len(l.kept) == l.max {
		l.kept = append(l.kept[:0], l.kept[1:]...)
	}
	l.kept = append(l.kept, s)
}

// A lineWriter collects one stream into lines, of which it keeps no more than it shows.
type lineWriter struct {
	out  *lines
	line []byte
	open bool // a line has begun
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		part, rest, found := bytes.Cut(p, []byte{'\n'})
		w.open = w.open || len(part) > 0 || found
		room := max(0, maxLine+utf8.UTFMax-len(w.line)) // a little more shows that the line was longer
		w.line = append(w.line, part[:min(room, len(part))]...)
		if !found {
			return n, nil
		}
		w.flush()
		p = rest
	}
}

func (w *lineWriter) flush() {
	if w.open {
		w.out.add(cleanLine(string(w.line)))
	}
	w.line, w.open = w.line[:0], false
}

// cleanLine makes text safe to show on one line of a terminal.
func cleanLine(s string) string {
	s = strings.TrimRight(s, "\r\n")
	var b strings.Builder
	for i, r := range s {
		if i >= maxLine {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
