package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/internal/app"
	"github.com/gantryd/gantryd/pkg/localstate"
)

// TestRemovedDirectoryHasOneDaemon removes what a daemon has locked under it: a second one would act on the same
// containers.
func TestRemovedDirectoryHasOneDaemon(t *testing.T) {
	o := options(t, noEngine(t))
	o.DataDir = filepath.Join(o.DataDir, "agent")
	first, err := app.NewLocal(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, removed := range []string{filepath.Join(o.DataDir, "lock"), o.DataDir} {
		if err := os.RemoveAll(removed); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first one has made a lock
			if _, err := app.NewLocal(t.Context(), o); !errors.Is(err, localstate.ErrLocked) || !strings.Contains(err.Error(), o.DataDir) {
				t.Errorf("second daemon after %s was removed: %v, want ErrLocked with the directory", removed, err)
			}
		}
	}
	ends(t, first.Run)
	if err := os.RemoveAll(o.DataDir); err != nil {
		t.Fatal(err)
	}
	again, err := app.NewLocal(t.Context(), o)
	if err != nil {
		t.Fatalf("after the first one ended: %v", err)
	}
	ends(t, again.Run)
}
