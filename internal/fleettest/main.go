package fleettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"testing"
)

// binaries is the variable that tells the tests where the built programs are.
const binaries = "GANTRYD_FLEETTEST_BIN"

// Main builds gantryd and gantry, runs the tests and returns their exit code. The programs have the
// race detector when the tests have it.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gantryd-fleettest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := Build(dir, "", "gantryd", "gantry"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.Setenv(binaries, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// failpoints make the programs die where FailpointEnv says. Nothing but this and the race detector tells them from
// a release.
const failpoints = "-s -w -X github.com/gantryd/gantryd/internal/failpoint.variable=" + FailpointEnv

// FailpointEnv names the variable that tells a daemon where it is to die, see internal/failpoint.
const FailpointEnv = "GANTRYD_FAILPOINT"

// Build builds the commands into dir, with more flags of the linker: only that has to be done again, for all is
// compiled as it is for Main.
func Build(dir, flags string, commands ...string) error {
	args := []string{"build", "-buildvcs=false", "-ldflags", failpoints + " " + flags, "-o", dir + string(filepath.Separator)}
	if raceEnabled() {
		args = append(args, "-race")
	}
	for _, c := range commands {
		args = append(args, "github.com/gantryd/gantryd/cmd/"+c)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build gantryd: %w\n%s", err, out)
	}
	return nil
}

// raceEnabled reports whether this program was built with the race detector.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// Binary is the path of a built program: gantryd or gantry.
func Binary(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv(binaries)
	if dir == "" {
		t.Fatalf("the programs are not built: TestMain must call fleettest.Main")
	}
	return filepath.Join(dir, name)
}
