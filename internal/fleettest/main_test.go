package fleettest_test

import (
	"os"
	"testing"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

func TestMain(m *testing.M) {
	if o := os.Getenv(asStorm); o != "" {
		os.Exit(storm(o))
	}
	os.Exit(fleettest.Main(m))
}

// version is an image of the test program that does nothing special.
func version(v string) dockertest.Variant { return dockertest.Variant{Version: v} }

// serving is a fleet of one host that serves v1 of the web component; edits change it first.
func serving(t *testing.T, edits ...func(*component.Spec)) (*fleettest.Fleet, *fleettest.Daemon) {
	t.Helper()
	f := fleettest.New(t)
	d := f.Daemon(t, "h1")
	d.Start(t)
	spec := f.Web()
	for _, edit := range edits {
		edit(&spec)
	}
	f.Configure(t, spec)
	f.Release(t, "web", version("v1"))
	f.Update(t, "web")
	return f, d
}

// count is n, or with -short a tenth of it.
func count(n int) int {
	if testing.Short() {
		return max(1, n/10)
	}
	return n
}
