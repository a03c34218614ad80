package fleettest_test

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

func TestHundredUpdatesUnderLoadLoseNothing(t *testing.T) {
	f, d := serving(t, func(s *component.Spec) {
		s.Ports = append(s.Ports, component.Port{External: s.Ports[0].External + 1, Container: 9000})
	})
	mixed := fleettest.Mixed(d.URL(f.Port, "/"))
	mixed.EchoAddr, mixed.Echoes = net.JoinHostPort(d.IP, strconv.Itoa(f.Port+1)), 2
	load := fleettest.StartLoad(t, mixed)
	updates := count(100)
	begin := time.Now()
	for i := range updates {
		f.Release(t, "web", version(fmt.Sprintf("v%d", 2-i%2)))
		f.Update(t, "web")
	}
	t.Logf("%d updates in %v", updates, time.Since(begin).Round(time.Second))
	tally := load.Stop()
	tally.NoFailures(t, fleettest.Short, fleettest.KeepAlive, fleettest.Stream, fleettest.Echo)
	if tally.Versions["v1"] == 0 || tally.Versions["v2"] == 0 {
		t.Errorf("answered by %v, want both versions", tally.Versions)
	}
	// The clients are gone: nothing is left of all these releases but the one that serves.
	fleettest.Await(t, fleettest.Soon, "one container is left", func() error {
		if cs := f.Containers(t, "", "web"); len(cs) != 1 {
			return fmt.Errorf("%d containers", len(cs))
		}
		return nil
	})
}
