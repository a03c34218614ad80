package benchtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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

// turns is how many updates the figures of a turn are medians of.
const turns = 15

// BenchmarkTurn updates one component again and again, and splits the time of each turn into Docker
// Engine's and ours.
func BenchmarkTurn(b *testing.B) {
	project := dockertest.Project(b)
	ref, _ := dockertest.App(b, "v1")
	images := [2]string{}
	for i, version := range []string{"v1", "v2"} {
		_, images[i] = dockertest.App(b, version)
	}
	f := startFront(b)
	etcd := etcdtest.Start(b)
	op := daemontest.Dial(b, etcd.Endpoint(), project)
	spec := web("web", ref, porttest.Free(b, 1)[0])
	op.Configure(b, spec)
	d := daemontest.Start(b, daemontest.Build(b), daemontest.Options{
		Project: project, Endpoint: etcd.Endpoint(), Env: []string{"DOCKER_HOST=" + f.host},
	})
	d.Ready(b)
	engine := dockertest.Engine(b)

	var react, turn, own, floor, extra []time.Duration
	var calls []string
	for i := range turns + 1 {
		imageID := images[i%2]
		base := dockertest.Floor(b, engine, project, imageID)
		idle(b)
		f.take()
		gen := op.Update(b, spec, ref, imageID)
		asked := time.Now()
		op.Served(b, spec.Name, gen)
		served := time.Now()
		cs := f.take()
		create, ok1 := find(cs, "/containers/create")
		start, ok2 := find(cs, "/start")
		if !ok1 || !ok2 {
			b.Fatalf("turn %d: no create and start among %d calls", i, len(cs))
		}
		alone(b, op, spec.Name)
		if i == 0 {
			continue // caches are cold
		}
		ready := readyAt(b, spec.Ports[0].External, start.began.Add(start.took))
		react = append(react, create.began.Sub(asked))
		turn = append(turn, served.Sub(asked))
		own = append(own, served.Sub(asked)-create.took-start.took-ready)
		floor = append(floor, base)
		extra = append(extra, served.Sub(asked)-base)
		if i == turns {
			calls = list(cs, asked)
		}
	}
	results.add("reaction: update returned to create call", "ms", 15, ms(of(react).median), of(react).String())
	results.add("own cost of a turn", "ms", 25, ms(of(own).median), of(own).String()+"; without create, start and readiness in the same turn")
	results.add("turn over Docker's floor, interleaved", "ms", 0, ms(of(extra).median), of(extra).String()+"; a difference of two noisy times")
	results.add("turn / floor", "times", 0, float64(of(turn).median)/float64(of(floor).median), fmt.Sprintf("turn %v; floor %v", of(turn), of(floor)))
	b.ReportMetric(ms(of(react).median), "ms-react")
	b.ReportMetric(ms(of(own).median), "ms-own")
	b.ReportMetric(0, "ns/op")
	b.Logf("the last turn's calls of Docker Engine:\n%s", strings.Join(calls, "\n"))
}

// idle lets what the daemon remembers of the Engine grow old: an update comes out of the blue.
func idle(tb testing.TB) {
	tb.Helper()
	select {
	case <-time.After(1200 * time.Millisecond):
	case <-tb.Context().Done():
	}
}

// web is a component of the test application.
func web(name, ref string, port int) component.Spec {
	repo, tag, _ := strings.Cut(ref, ":")
	none := component.Duration(0)
	return component.Spec{
		Name: name, Repo: repo, Tag: tag,
		Ports:       []component.Port{{External: port, Container: 8080}},
		ReadyChecks: []component.Check{{Kind: component.CheckHTTP, Port: 8080, Path: "/ready"}},
		StopTimeout: component.Duration(2 * time.Second),
		Rollout:     component.RolloutPolicy{Bake: &none},
	}
}

// alone waits until the old container is gone.
func alone(tb testing.TB, op *daemontest.Operator, name string) {
	tb.Helper()
	op.Await(tb, name, "to be alone", func(st component.HostStatus) bool { return len(st.Containers) == 1 })
}

// readyAt is how long after its start the container could have answered: what it took itself. The
// application says when it began to listen.
func readyAt(tb testing.TB, port int, started time.Time) time.Duration {
	tb.Helper()
	body := get(tb, port, "/since")
	at, err := strconv.ParseInt(strings.TrimSpace(body), 10, 64)
	if err != nil {
		tb.Fatalf("GET /since: %q", body)
	}
	return max(0, time.Unix(0, at).Sub(started))
}

func get(tb testing.TB, port int, path string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // fails on a closed connection, as what follows will
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		tb.Fatalf("GET %s: %s %v", path, resp.Status, err)
	}
	return string(b)
}

// list tells calls in the order they began.
func list(cs []call, since time.Time) []string {
	var out []string
	for _, c := range cs {
		out = append(out, fmt.Sprintf("%8.2f ms  took %7.2f ms  %s %.60s", ms(c.began.Sub(since)), ms(c.took), c.method, c.path))
	}
	return out
}
