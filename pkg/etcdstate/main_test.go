package etcdstate_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/gantryd/gantryd/internal/etcdtest"
)

func TestMain(m *testing.M) {
	if etcdtest.RunMember() {
		return
	}
	goleak.VerifyTestMain(m,
		// The embedded server starts a log rotation that it never stops.
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"),
	)
}
