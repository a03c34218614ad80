package localstate

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/pkg/component"
)

const writerEnv = "GANTRYD_TEST_WRITER_DIR"

// writeUntilKilled writes as fast as it can, and says after each write which generation is durable.
func writeUntilKilled(ctx context.Context, dir string) error {
	m, err := OpenMemory(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	s, err := OpenStore(dir, Options{Host: "h1"})
	if err != nil {
		return err
	}
	for {
		g, err := s.SetDesired(ctx, "web", component.Desired{Status: component.StatusReady, ImageID: "sha256:aa"})
		if err != nil {
			return err
		}
		if err := m.Save("web", component.Record{Generation: g}); err != nil {
			return err
		}
		if _, err := fmt.Println(g); err != nil {
			return err
		}
	}
}

func TestKilledProcessLosesNothingItReported(t *testing.T) {
	dir := t.TempDir()
	last := int64(0)
	for round := range 8 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), writerEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := 0; lines.Scan(); i++ {
			if i == round*3 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			g, err := strconv.ParseInt(strings.TrimSpace(lines.Text()), 10, 64)
			if err != nil || g <= last {
				t.Fatalf("the process said %q (%v) after generation %d", lines.Text(), err, last)
			}
			last = g
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the process ended by itself")
		}
		s := openTestStore(t, dir)
		if g := s.View("web").Desired.Generation; g < last {
			t.Errorf("generation %d in the store, %d was reported", g, last)
		}
		r, complete := mustLoad(t, openTestMemory(t, dir))
		if g := r.Components["web"].Generation; g < last || !complete {
			t.Errorf("generation %d in memory (complete: %v), %d was reported", g, complete, last)
		}
		last = max(last, s.View("web").Desired.Generation)
	}
	if aside, err := filepath.Glob(filepath.Join(dir, "*"+suffixCorrupt+"*")); err != nil || len(aside) != 0 {
		t.Errorf("damaged files %v, %v; want none", aside, err)
	}
}
