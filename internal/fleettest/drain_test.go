package fleettest_test

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/fleettest"
	"github.com/gantryd/gantryd/pkg/component"
)

// A guest is a client with a TCP connection to the echo.
type guest struct{ net.Conn }

func visit(t *testing.T, addr string) guest {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	g := guest{c}
	if err := g.ask(); err != nil {
		t.Fatal(err)
	}
	return g
}

// ask sends six bytes and waits for as many.
func (g guest) ask() error {
	if err := g.SetDeadline(time.Now().Add(fleettest.Soon)); err != nil {
		return err
	}
	if _, err := g.Write([]byte("hello\n")); err != nil {
		return err
	}
	got := make([]byte, 6)
	for n := 0; n < len(got); {
		m, err := g.Read(got[n:])
		if err != nil {
			return err
		}
		n += m
	}
	return nil
}

// drained is what gantryd drain -o json says.
type drained struct {
	Items []struct {
		Component, Host, Container string
		Until                      time.Time
		Connections                int
		Oldest                     []component.Connection
	}
}

func askDrain(t *testing.T, f *fleettest.Fleet) drained {
	t.Helper()
	var d drained
	if err := json.Unmarshal([]byte(f.Must(t, "drain", f.Project, "-o", "json").Out), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// The command that asks who is left runs anywhere; the deadline that a setconfig brings counts at once; those
// that are silent longest go first, one each second.
func TestDrainTellsWhoIsLeftAndFollowsTheConfig(t *testing.T) {
	var spec component.Spec
	f, d := serving(t, both, func(s *component.Spec) { spec = *s })
	guests := make([]guest, 4)
	for i := range guests {
		guests[i] = visit(t, echoAddr(f, d))
		fleettest.Pass(t, 1100*time.Millisecond) // each is silent for longer than the next
	}
	f.Release(t, "web", version("v2"))
	f.Update(t, "web")
	if err := guests[0].ask(); err != nil { // the oldest one is not the most silent one
		t.Fatal(err)
	}
	fleettest.Await(t, fleettest.Soon, "drain tells who is left", func() error {
		got := askDrain(t, f)
		if len(got.Items) != 1 || got.Items[0].Connections != 4 || len(got.Items[0].Oldest) != 4 || got.Items[0].Oldest[0].BytesIn != 12 {
			return fmt.Errorf("drain says %+v", got)
		}
		for i, c := range got.Items[0].Oldest {
			if want := guests[i].LocalAddr().String(); c.Client != want || c.BytesOut != c.BytesIn {
				t.Fatalf("drain says %+v of client %d, want %s", c, i, want)
			}
		}
		return nil
	})
	if out := f.Must(t, "status", f.Project).Out; !strings.Contains(out, "draining") || !strings.Contains(out, "4 (oldest ") {
		t.Errorf("status does not tell how many are left: %s", out)
	}

	ended := make(chan int, len(guests))
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, g := range guests {
		if err := g.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			_, _ = g.Read(make([]byte, 1)) // nothing comes any more
			ended <- i
		})
	}
	spec.Drain = component.DrainPolicy{Timeout: component.Duration(time.Second), Rate: 1}
	f.Configure(t, spec)
	begin := time.Now()
	watched := f.Must(t, "drain", f.Project, "-c", "web", "--host", "h1", "--watch")
	var order []int
	for range guests {
		order = append(order, <-ended)
	}
	if want := []int{1, 2, 3, 0}; !slices.Equal(order, want) {
		t.Errorf("connections ended in the order %v, want the most silent first: %v", order, want)
	}
	if took := time.Since(begin); took < 2900*time.Millisecond {
		t.Errorf("four connections were cut in %v, want one each second", took)
	}
	if !strings.HasSuffix(strings.TrimSpace(watched.Out), "nobody is left") || !strings.Contains(watched.Out, "connections left, oldest ") {
		t.Errorf("drain --watch said:\n%s", watched.Out)
	}
	onlyServing(t, f, "h1", "web", 0)
}
