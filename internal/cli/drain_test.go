package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// drainingStatus is what h1 says of web: a container that serves, and one that drains with n left.
func drainingStatus(n int) component.HostStatus {
	now := time.Now()
	old := component.ContainerStatus{
		ID: "0123456789abcdef", Stage: component.Draining, Generation: 1, Connections: n,
		DrainsSince: now.Add(-10 * time.Minute), DrainsUntil: now.Add(2*time.Hour + time.Minute), Oldest: 11 * time.Minute,
	}
	for i := range min(n, component.MaxLeft) {
		old.Left = append(old.Left, component.Connection{
			Client: fmt.Sprintf("192.0.2.%d:4711", i+1), Target: "172.17.0.2:8080", Since: now.Add(-time.Hour - time.Minute*30),
			Active: now.Add(-90*time.Second - time.Minute/2), BytesIn: 999, BytesOut: 12_345_678,
		})
	}
	return component.HostStatus{Host: "h1", Step: component.StepServing, Containers: []component.ContainerStatus{
		old, {ID: "fedcba", Stage: component.Serving, Primary: true, Connections: 40},
	}}
}

func TestDrainShowsWhoIsLeft(t *testing.T) {
	f := newFleet(t)
	f.put("machines/h1/state", component.Machine{Status: "running", Components: []string{"web"}})
	f.put("machines/h2/state", component.Machine{Status: "running", Components: []string{"web"}})
	if o := f.gantryd("", "drain", "shop"); o.code != exitOK || o.out != "No container drains: nobody is left\n" {
		t.Errorf("drain of nothing = %+v", o)
	}
	f.put("components/web/hosts/h1", drainingStatus(2))
	two := drainingStatus(25)
	two.Host, two.Containers[0].DrainsUntil = "h2", time.Time{}
	f.put("components/web/hosts/h2", two)
	golden(t, "drain-h1.txt", f.gantryd("", "drain", "shop", "--host", "h1").out)
	if o := f.gantryd("", "drain", "shop"); !strings.Contains(o.out, "web: host h2: container 0123456789ab: drains for 10m, 25 connections left, never cut\n") ||
		!strings.Contains(o.out, "\n  and 5 younger ones\n") || strings.Count(o.out, "4711") != 22 {
		t.Errorf("drain = %s", o.out)
	}
	if o := f.gantryd("", "drain", "shop", "-c", "worker"); o.out != "No container drains: nobody is left\n" {
		t.Errorf("drain of another component = %+v", o)
	}
	var got struct{ Items []draining }
	o := f.gantryd("", "drain", "shop", "--host", "h2", "-o", "json")
	if err := json.Unmarshal([]byte(o.out), &got); err != nil || len(got.Items) != 1 || got.Items[0].Connections != 25 || len(got.Items[0].Oldest) != component.MaxLeft {
		t.Errorf("drain -o json = %s (%v)", o.out, err)
	}
	for _, tt := range []struct {
		code int
		args []string
	}{
		{exitNotFound, []string{"drain", "shop", "--host", "h9"}},
		{exitNotFound, []string{"drain", "shop", "-c", "nobody"}},
		{exitNotFound, []string{"drain", "nothing"}},
		{exitUsage, []string{"drain", "shop", "-o", "xml"}},
	} {
		if o := f.gantryd("", tt.args...); o.code != tt.code {
			t.Errorf("%v = %+v, want code %d", tt.args, o, tt.code)
		}
	}
	if o := f.gantryd("", "status", "shop"); !strings.Contains(o.out, "25 (oldest 1h30m") {
		t.Errorf("status does not tell how many are left and how old: %s", o.out)
	}
}

func TestRouteErrorsAreShown(t *testing.T) {
	f := newFleet(t)
	f.put("components/web/state", component.Desired{Status: component.StatusReady, ImageID: imageID})
	f.put("components/web/hosts/h2", component.HostStatus{Host: "h2", Step: component.StepServing, RouteErr: `open listener "web:443": no certificate`})
	if o := f.gantryd("", "status", "shop"); !strings.Contains(o.out, "  ports on h2: open listener \"web:443\": no certificate\n") {
		t.Errorf("status = %s", o.out)
	}
	if o := f.gantryd("", "status", "shop", "-o", "json"); !strings.Contains(o.out, `"route_error": "open listener`) {
		t.Errorf("status -o json = %s", o.out)
	}
	if o := f.gantryd("", "list", "shop", "-o", "yaml"); !strings.Contains(o.out, "host h2: open listener") {
		t.Errorf("list -o yaml = %s", o.out)
	}
}

func TestDrainWatchEndsWhenNobodyIsLeft(t *testing.T) {
	f := newFleet(t)
	f.put("components/web/hosts/h1", drainingStatus(3))
	cmd := command(t, "gantryd", f.env, "drain", "shop", "--watch")
	out := filepath.Join(t.TempDir(), "out")
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	says := func(text string) {
		t.Helper()
		within(t, 30*time.Second, text, func() bool {
			b, err := os.ReadFile(out)
			return err == nil && strings.Contains(string(b), text)
		})
	}
	says("web: host h1: container 0123456789ab: 3 connections left, oldest 1h, cut in 2h\n")
	f.put("components/web/hosts/h1", drainingStatus(1))
	says("web: host h1: container 0123456789ab: 1 connection left, oldest 1h, cut in 2h\n")
	f.put("components/web/hosts/h1", component.HostStatus{Host: "h1", Step: component.StepServing})
	if err := cmd.Wait(); err != nil {
		t.Errorf("the command ended with %v", err)
	}
	says("web: host h1: container 0123456789ab: nobody is left\n")
}

// TestDrainWatchTellsHostsThatVanish: that a host says nothing any more does not mean that nobody is left.
func TestDrainWatchTellsHostsThatVanish(t *testing.T) {
	f := newFleet(t)
	f.put("machines/h1/state", component.Machine{Status: "running", Components: []string{"web"}})
	f.put("components/web/hosts/h1", drainingStatus(3))
	var out, errOut syncBuffer
	ended := make(chan int, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		ended <- Gantryd(t.Context(), []string{"drain", "shop", "--watch"}, Env{
			Out: &out, Err: &errOut, Getenv: func(name string) string {
				return map[string]string{"ETCDCTL_ENDPOINTS": f.etcd.Endpoint()}[name]
			},
		})
	})
	within(t, 20*time.Second, "3 connections left", func() bool { return strings.Contains(out.String(), "3 connections left") })
	f.etcd.Delete(t, "/gantryd/projects/shop/machines/h1/state", "/gantryd/projects/shop/components/web/hosts/h1") // its lease ended
	select {
	case code := <-ended:
		if code != exitFailed || !strings.Contains(errOut.String(), "host h1 vanished before its containers were drained") {
			t.Errorf("the command ended with %d: %s", code, errOut.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the command goes on: %s", out.String())
	}
	if got := out.String(); strings.Contains(got, "nobody is left") || !strings.Contains(got, "container 0123456789ab: the host vanished, who is left is not known\n") {
		t.Errorf("it says %q", got)
	}
}

func TestLookout(t *testing.T) {
	both := func(hosts ...string) etcdstate.Project {
		p := etcdstate.Project{Machines: map[string]component.Machine{}, Components: map[string]component.View{
			"web": {Hosts: map[string]component.HostStatus{}},
		}}
		for _, h := range hosts {
			p.Machines[h] = component.Machine{}
			p.Components["web"].Hosts[h] = component.HostStatus{}
		}
		return p
	}
	silent := both("h2") // h1 is registered again, and has not said anything yet
	silent.Machines["h1"] = component.Machine{}
	h1, h2 := draining{Component: "web", Host: "h1"}, draining{Component: "web", Host: "h2"}
	steps := []struct {
		name string
		p    etcdstate.Project
		ds   []draining
		want string
		over []string
	}{
		{"both drain", both("h1", "h2"), []draining{h1, h2}, "h1 h2", nil},
		{"one vanishes, the other one goes on", both("h2"), []draining{h2}, "h2 h1!", nil},
		{"it is back and has said nothing", silent, []draining{h2}, "h2 h1!", nil},
		{"it is back and drains", both("h1", "h2"), []draining{h1, h2}, "h1 h2", nil},
		{"one is done", both("h1", "h2"), []draining{h1}, "h1", nil},
		{"the last one vanishes", both("h2"), nil, "h1!", []string{"h1"}},
		{"it is back and is done", both("h1", "h2"), nil, "", nil},
	}
	var l lookout
	for _, s := range steps {
		var got []string
		ds := l.look(s.p, s.ds)
		for _, d := range ds {
			name := d.Host
			if d.Vanished {
				name += "!"
			}
			got = append(got, name)
		}
		if strings.Join(got, " ") != s.want || !slices.Equal(vanished(ds), s.over) {
			t.Errorf("%s: %q and over for %q, want %q and %q", s.name, got, vanished(ds), s.want, s.over)
		}
	}
}

func TestConnectionsOfTheProcessBeforeAreMarked(t *testing.T) {
	ds := drains("web", drainingStatus(2))
	ds[0].Oldest[1].Earlier = true
	var out bytes.Buffer
	printDrains(&out, ds, time.Now())
	if got := out.String(); strings.Count(got, "(process before the upgrade)") != 1 || !strings.Contains(got, "  192.0.2.2:4711 (process before the upgrade)  172.17.0.2:8080") {
		t.Errorf("drain shows:\n%s", got)
	}
}

func TestDrainViewTellsChangesOnly(t *testing.T) {
	tests := []struct {
		name, form string
		inPlace    bool
		want       string
	}{
		{"lines", formTable, false, "3 connections left|1 connection left|nobody is left|"},
		{"JSON", formJSON, false, `"connections":3|"connections":1|"items":[]|`},
		{"in place", formTable, true, "3 connections left|3 connections left|1 connection left|1 connection left|No container drains|"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				v := newDrainView(&out, tt.form)
				v.inPlace = tt.inPlace
				three, one := drains("web", drainingStatus(3)), drains("web", drainingStatus(1))
				err := v.watch(t.Context(), func(ctx context.Context, show func([]draining)) error {
					for _, ds := range [][]draining{three, three, one} {
						show(ds)
						synctest.Wait()
					}
					time.Sleep(1500 * time.Millisecond) // ages are painted again each second
					show(nil)
					<-ctx.Done()
					return context.Cause(ctx)
				})
				if err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				for _, part := range []string{"3 connections left", "1 connection left", "nobody is left", `"connections":3`, `"connections":1`, `"items":[]`, "No container drains"} {
					if n := strings.Count(out.String(), part); n > 0 && (part != "nobody is left" || !tt.inPlace) {
						got.WriteString(strings.Repeat(part+"|", n))
					}
				}
				if d := cmp.Diff(tt.want, got.String()); d != "" {
					t.Errorf("said (-want +got):\n%s\n%s", d, out.String())
				}
				if painted := strings.Count(out.String(), "\x1b[H"); tt.inPlace != (painted > 0) {
					t.Errorf("painted %d times in place", painted)
				}
			})
		})
	}
}

func TestDrainWatchEndsWithItsSource(t *testing.T) {
	want := errors.New("etcd is gone")
	v := newDrainView(io.Discard, formTable)
	if err := v.watch(t.Context(), func(context.Context, func([]draining)) error { return want }); !errors.Is(err, want) {
		t.Errorf("error is %v, want that of the source", err)
	}
}

func TestOnlyTerminalsArePaintedOver(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if isTerminal(file) || isTerminal(io.Discard) {
		t.Error("a file counts as a terminal")
	}
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	defer pty.Close()
	if !isTerminal(pty) {
		t.Error("a terminal does not count as one")
	}
}
