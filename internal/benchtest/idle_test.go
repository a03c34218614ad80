package benchtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/daemontest"
	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
)

const (
	idleFor   = 20 * time.Second
	idleConns = 500
)

// Targets that are the same on a busy machine.
const (
	memoryAlone    = 30  // MB, etcd elsewhere
	memoryEmbedded = 45  // MB, etcd inside
	cpuAlone       = 2   // ms of processor per second
	cpuEmbedded    = 20  // ms of processor per second; etcd's own clock ticks ten times a second
	fdsPerConn     = 2.0 // one to the client, one to the container
)

// A serving is a daemon that serves one component with no checks but the ready one.
type serving struct {
	daemon *daemontest.Daemon
	etcd   *etcdtest.Member
	port   int
}

func serve(tb testing.TB) serving {
	tb.Helper()
	project := dockertest.Project(tb)
	ref, imageID := dockertest.App(tb, "v1")
	s := serving{etcd: etcdtest.Start(tb), port: porttest.Free(tb, 1)[0]}
	op := daemontest.Dial(tb, s.etcd.Endpoint(), project)
	spec := web("web", ref, s.port)
	spec.Ports[0].Container = 9000 // the echo
	op.Configure(tb, spec)
	s.daemon = daemontest.Start(tb, daemontest.Build(tb), daemontest.Options{Project: project, Endpoint: s.etcd.Endpoint()})
	s.daemon.Ready(tb)
	for range 2 { // a daemon that has done something
		op.Served(tb, "web", op.Update(tb, spec, ref, imageID))
		alone(tb, op, "web")
	}
	return s
}

// BenchmarkIdle measures what a daemon costs that has nothing to do, etcd being elsewhere.
func BenchmarkIdle(b *testing.B) {
	s := serve(b)
	pass(b, 5*time.Second)
	cpu := idleCPU(b, s.daemon)
	rss, anon := memory(b, s.daemon.PID())
	note := fmt.Sprintf("%.1f MB of it not pages of files", anon)
	results.add("idle memory, etcd elsewhere", "MB", memoryAlone, rss, note)
	results.add("idle processor, etcd elsewhere", "ms/s", cpuAlone, cpu, fmt.Sprintf("over %v", idleFor))
	results.add("watches of etcd per daemon", "", 1, float64(watches(b, s.etcd)-1), "one more is the benchmark's own")
	per := fdsPer(b, s)
	results.add("descriptors per idle proxied connection", "", fdsPerConn, per, fmt.Sprintf("%d connections", idleConns))
	b.ReportMetric(rss, "MB")
	b.ReportMetric(cpu, "ms-cpu/s")
	b.ReportMetric(per, "fds/conn")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdleEmbedded is BenchmarkIdle with etcd in the daemon.
func BenchmarkIdleEmbedded(b *testing.B) {
	d := embedded(b)
	pass(b, 5*time.Second)
	cpu := idleCPU(b, d)
	rss, anon := memory(b, d.PID())
	results.add("idle memory, etcd inside", "MB", memoryEmbedded, rss, fmt.Sprintf("%.1f MB of it not pages of files", anon))
	results.add("idle processor, etcd inside", "ms/s", cpuEmbedded, cpu, fmt.Sprintf("over %v", idleFor))
	b.ReportMetric(rss, "MB")
	b.ReportMetric(cpu, "ms-cpu/s")
	b.ReportMetric(0, "ns/op")
}

// embedded is a daemon with etcd inside, in a network of its own, that serves one component.
func embedded(tb testing.TB) *daemontest.Daemon {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("a network of its own needs root")
	}
	project := dockertest.Project(tb)
	ref, _ := dockertest.App(tb, "v1")
	spec := web("web", ref, 8080)
	spec.ReadyChecks = []component.Check{{Kind: component.CheckExec, Command: []string{"/app", "check", "http://127.0.0.1:8080/ready"}}}
	config, err := json.Marshal(component.Project{Components: []component.Spec{spec}})
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "gantryd.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		tb.Fatal(err)
	}
	bin := daemontest.Build(tb)
	d := daemontest.Start(tb, bin, daemontest.Options{Project: project, Alone: true})
	d.Ready(tb)
	for _, args := range [][]string{
		{"setconfig", project, file},
		{"update", project, "-c", "web", "--wait"},
		{"update", project, "-c", "web", "--wait", "--restart"},
	} {
		args = append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", d.PID()), bin}, args...)
		if out, err := exec.CommandContext(tb.Context(), "nsenter", args...).CombinedOutput(); err != nil {
			tb.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return d
}

// TestDaemonIsLight holds the figures that do not depend on how busy the machine is.
func TestDaemonIsLight(t *testing.T) {
	s := serve(t)
	// One that has ended and its successor may be there both for a moment, or neither.
	daemontest.Await(t, time.Minute, "etcd to have the daemon's watch, this test's and no other", func() bool { return watches(t, s.etcd) == 2 })
	if per := fdsPer(t, s); per > fdsPerConn+0.05 { // some more are no connection's
		t.Errorf("%.2f descriptors per idle proxied connection, want %v", per, fdsPerConn)
	}
	if rss, _ := memory(t, s.daemon.PID()); rss > 1.5*memoryAlone { // under load, pages come and go
		t.Errorf("%.1f MB of memory, want %d at rest", rss, memoryAlone)
	}
}

// pass lets some time go by.
func pass(tb testing.TB, d time.Duration) {
	tb.Helper()
	select {
	case <-time.After(d):
	case <-tb.Context().Done():
	}
}

// idleCPU is how many milliseconds of processor the daemon takes per second.
func idleCPU(tb testing.TB, d *daemontest.Daemon) float64 {
	tb.Helper()
	before, began := processor(tb, d.PID()), time.Now()
	pass(tb, idleFor)
	return ms(processor(tb, d.PID())-before) / time.Since(began).Seconds()
}

// fdsPer is how many descriptors a connection through the proxy costs that has carried some bytes
// and waits.
func fdsPer(tb testing.TB, s serving) float64 {
	tb.Helper()
	before := descriptors(tb, s.daemon.PID())
	for range idleConns {
		echo(tb, s.port)
	}
	return float64(descriptors(tb, s.daemon.PID())-before) / idleConns
}

// echo opens a connection, sees that it works, and leaves it open until the test ends.
func echo(tb testing.TB, port int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // fails on a closed connection, as what follows will
	if _, err := io.WriteString(c, "ping"); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		tb.Fatal(err)
	}
}

// watches asks etcd how many watches it has.
func watches(tb testing.TB, m *etcdtest.Member) int {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "http://"+m.Endpoint()+"/metrics", nil)
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "etcd_debugging_mvcc_watcher_total "); ok {
			n, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return int(n)
		}
	}
	tb.Fatal("etcd does not count its watches")
	return 0
}

// adopted is how many components the daemon of BenchmarkRestart finds again.
const adopted = 20

// BenchmarkRestart measures how long a daemon takes from the start of its process until all of its
// components are served again.
func BenchmarkRestart(b *testing.B) {
	project := dockertest.Project(b)
	ref, imageID := dockertest.App(b, "v1")
	etcd := etcdtest.Start(b)
	op := daemontest.Dial(b, etcd.Endpoint(), project)
	var specs []component.Spec
	for i, port := range porttest.Free(b, adopted) {
		specs = append(specs, web(fmt.Sprintf("web%d", i), ref, port))
	}
	op.Configure(b, specs...)
	bin := daemontest.Build(b)
	o := daemontest.Options{Project: project, Endpoint: etcd.Endpoint(), DataDir: b.TempDir()}
	d := daemontest.Start(b, bin, o)
	d.Ready(b)
	gens := make([]int64, adopted)
	for i, s := range specs {
		gens[i] = op.Update(b, s, ref, imageID)
	}
	for i, s := range specs {
		op.Served(b, s.Name, gens[i])
	}
	var ready, all []time.Duration
	for range 7 {
		d.Stop(b)
		d = daemontest.Start(b, bin, o)
		ready = append(ready, d.Ready(b))
		for _, s := range specs {
			get(b, s.Ports[0].External, "/")
		}
		all = append(all, time.Since(d.Began))
	}
	results.add(fmt.Sprintf("start with %d containers, to ready", adopted), "ms", 1000, ms(of(ready).median), of(ready).String())
	results.add(fmt.Sprintf("start with %d containers, to all answered", adopted), "ms", 1000, ms(of(all).median), of(all).String()+"; asked one after another once ready")
	b.ReportMetric(ms(of(all).median), "ms")
	b.ReportMetric(0, "ns/op")
}
