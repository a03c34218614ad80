package skiptest_test

import (
	"runtime"
	"testing"

	"github.com/gantryd/gantryd/internal/skiptest"
)

// An end is how a test would have ended.
type end struct {
	testing.TB
	how string
}

func (e *end) Fatalf(string, ...any) { e.how = "failed"; runtime.Goexit() }
func (e *end) Skipf(string, ...any)  { e.how = "skipped"; runtime.Goexit() }

func TestMissing(t *testing.T) {
	for _, tt := range []struct{ require, what, want string }{
		{"", "docker", "skipped"},
		{"fleet", "docker", "skipped"},
		{"docker,fleet", "docker", "failed"},
		{"docker fleet", "fleet", "failed"},
		{"dockers", "docker", "skipped"},
	} {
		t.Setenv("GANTRYD_REQUIRE", tt.require)
		e := &end{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			skiptest.Missing(e, tt.what, "because of %d", 1)
		}()
		if <-done; e.how != tt.want {
			t.Errorf("%q, without %s: %s, want %s", tt.require, tt.what, e.how, tt.want)
		}
	}
}
