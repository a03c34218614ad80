package localstate

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also the other process of tests that need one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(lockEnv); dir != "" {
		if err := holdUntilTold(dir); err != nil {
			panic(err)
		}
		return
	}
	if dir := os.Getenv(writerEnv); dir != "" {
		if err := writeUntilKilled(context.Background(), dir); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// testLog writes to the test's log.
func testLog(t testing.TB) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
