package fleettest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/fleettest"
)

// answeredBy fails the test when url is not answered by that version.
func answeredBy(t *testing.T, url, version string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: fleettest.Soon}
	body, err := fleettest.Get(t.Context(), c, url)
	if err != nil || !strings.HasPrefix(body, version+" ") {
		t.Errorf("GET %s: %q, %v; want version %s", url, body, err, version)
	}
}

// onlyServing waits until one container of the component runs on the host, with so many stopped ones beside
// it, and returns it.
func onlyServing(t *testing.T, f *fleettest.Fleet, host, name string, stopped int) dockertest.Container {
	t.Helper()
	var running []dockertest.Container
	fleettest.Await(t, fleettest.Soon, "one container is left", func() error {
		running = f.Running(t, host, name)
		if all := f.Containers(t, host, name); len(running) != 1 || len(all) != 1+stopped {
			return fmt.Errorf("%d containers, %d of them run; want 1 that runs and %d that do not", len(all), len(running), stopped)
		}
		return nil
	})
	return running[0]
}
