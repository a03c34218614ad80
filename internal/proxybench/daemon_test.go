package proxybench

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/daemontest"
	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
)

// components is how many the daemon of BenchmarkDaemonAgainstHAProxy runs.
const components = 20

// Ports of the daemon in the namespace: of connections, and of requests.
const (
	daemonTCP  = 7401
	daemonHTTP = 7402
)

// daemon starts a real daemon in the namespace: with etcd inside, and a container, a health check and a
// port of each of its components. The containers are in the machine's own network; their address, as
// the daemon sees it, is the namespace's server, so that all proxies have the same one behind them.
func (s *space) daemon(tb testing.TB, bin string) *daemontest.Daemon {
	tb.Helper()
	project := dockertest.Project(tb)
	ref, _ := dockertest.App(tb, "v1")
	repo, tag, _ := strings.Cut(ref, ":")
	var specs []component.Spec
	for i, port := range porttest.Free(tb, components) {
		specs = append(specs, component.Spec{
			Name: fmt.Sprintf("web%d", i), Repo: repo, Tag: tag, Networks: []string{"host"},
			EnvironmentVariables: []component.EnvVar{{Name: "PORT", Value: fmt.Sprint(port)}, {Name: "TCP_PORT", Value: "0"}},
			Ports:                []component.Port{{External: daemonTCP + i, Container: serverPort, Kind: component.KindTCP}},
			ReadyChecks:          []component.Check{{Kind: component.CheckHTTP, Port: serverPort, Path: "/ready"}},
			HealthChecks:         []component.Check{{Kind: component.CheckHTTP, Port: serverPort, Path: "/healthz", Interval: component.Duration(5 * time.Second)}},
			StopTimeout:          component.Duration(time.Second),
		})
	}
	specs[1].Ports[0].Kind = component.KindHTTP
	config, err := json.Marshal(component.Project{Components: specs})
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "gantryd.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		tb.Fatal(err)
	}
	d := daemontest.Start(tb, bin, daemontest.Options{Project: project, Inside: s.inside()})
	d.Ready(tb)
	for _, args := range [][]string{{"setconfig", project, file}, {"update", project, "--all", "--wait", "--timeout", "2m"}} {
		cmd := exec.CommandContext(tb.Context(), bin, args...)
		s.enter(tb, cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return d
}

// BenchmarkDaemonAgainstHAProxy compares the proxy in a real daemon, whose other work shares the
// processors, the scheduler and the collector of garbage with it.
func BenchmarkDaemonAgainstHAProxy(b *testing.B) {
	dockertest.Engine(b) // without one there is no daemon
	tree, s, p := debian(b), newSpace(b), planned(b)
	d := s.daemon(b, daemontest.Build(b))
	in := peer{name: "daemon", tcp: fmt.Sprintf("127.0.0.1:%d", daemonTCP), http: fmt.Sprintf("127.0.0.1:%d", daemonHTTP)}
	haproxy := s.haproxy(tree)
	running := append(s.run(b, []peer{haproxy}), runner{peer: in, pid: d.PID()})
	for _, addr := range []string{in.tcp, in.http} {
		s.await(b, running[0].process, addr)
	}
	idle := samples{}
	if wanted("idle") { // at first: later it would find memory that the load has left
		idle.add("idle", in.name, s.idleOf(b, running[1]))
	}
	all := s.compare(b, p, running, measures())
	maps.Copy(all, idle)
	stop(running)
	s.idle(b, 1, []peer{haproxy}, all)
	title := fmt.Sprintf("The proxy in a daemon with %d components and etcd inside, against HAProxy", components)
	all.print(os.Stdout, title, []string{in.name}, nil)
	for _, f := range figures()[:3] {
		b.ReportMetric(f.reached(all, in.name), f.measure+"-ratio")
	}
	b.ReportMetric(0, "ns/op")
}
