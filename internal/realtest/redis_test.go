package realtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/debiantest"
	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
)

const benchConns = 20

func redisRelease(t *testing.T, tr debiantest.Tree, version string) release {
	t.Helper()
	files := tr.Program(t, "/usr/bin/redis-server")
	files = append(files, tr.Program(t, "/usr/bin/redis-cli")...)
	files = append(files,
		dockertest.File{Path: "/version", Mode: 0o644, Body: []byte(version)},
		dockertest.File{Path: "/tmp/", Mode: 0o777})
	ref, id := dockertest.Files(t, "redis", files, "redis-server", "--dir", "/tmp", "--save", "", "--protected-mode", "no")
	return release{ref, id}
}

// Redis is replaced twice under redis-benchmark, which keeps its connections: they end on the redis
// they began on, without an error, and new ones go to the newest.
func TestRedisUnderBenchmark(t *testing.T) {
	tr := debian(t)
	var rs []release
	for _, v := range []string{"v1", "v2", "v3"} {
		rs = append(rs, redisRelease(t, tr, v))
	}
	repo, tag, _ := strings.Cut(rs[0].ref, ":")
	s := newSite(t, component.Spec{
		Name: "redis", Repo: repo, Tag: tag, Ports: []component.Port{{Container: 6379}},
		ReadyChecks: []component.Check{
			{Kind: component.CheckTCP, Port: 6379},
			{Kind: component.CheckExec, Command: []string{"redis-cli", "ping"}},
		},
	}, rs[0])

	first := dialRedis(t, s.port)
	began := time.Now()
	run1 := bench(t, tr, s.port, 20_000)
	run1.wait(t)
	enough := int(20_000 / time.Since(began).Seconds() * 20) // requests of some 20 s
	loads := []*background{bench(t, tr, s.port, enough)}
	ids := []string{first.runID(t)}
	until(t, "redis-benchmark to connect", func() bool { return first.clients(t) >= 1+benchConns })
	under := 0
	for i, r := range rs[1:] {
		s.update(t, r)
		if loads[i].running() {
			under++
		}
		c := dialRedis(t, s.port)
		ids = append(ids, c.runID(t))
		if ids[i+1] == ids[i] {
			t.Errorf("a new connection went to the redis of before")
		}
		loads = append(loads, bench(t, tr, s.port, enough/2))
		until(t, "redis-benchmark to connect to the new one", func() bool { return c.clients(t) >= 1+benchConns || !loads[i+1].running() })
		if id := first.runID(t); id != ids[0] {
			t.Errorf("the connection from before the updates answers from another redis")
		}
		if i > 0 {
			c.close(t)
		}
	}
	if under == 0 {
		t.Error("redis-benchmark had ended before each of the updates was done")
	}
	t.Logf("%d updates under redis-benchmark", under)
	for i, l := range loads {
		out := l.wait(t)
		if strings.Contains(out, "rror") {
			t.Errorf("redis-benchmark %d: %s", i, out)
		}
		t.Logf("redis-benchmark %d: %s", i, lastLine(out))
	}
	if id := first.runID(t); id != ids[0] {
		t.Errorf("the connection from before the updates answers from another redis")
	}
	first.close(t) // the last one that the first redis had
	s.containers(t, 2)
}

// bench starts redis-benchmark.
func bench(t *testing.T, tr debiantest.Tree, port, requests int) *background {
	t.Helper()
	return start(t, tr.Command(t.Context(), t, "/usr/bin/redis-benchmark", "-h", "127.0.0.1", "-p", strconv.Itoa(port),
		"-c", strconv.Itoa(benchConns), "-n", strconv.Itoa(requests), "-k", "1", "-t", "set", "-q"))
}

func lastLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// until looks every 20 ms until ok says yes.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("wait for %s: not within 2 minutes", what)
		}
	}
}

// A redisConn is a connection to redis.
type redisConn struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialRedis(t *testing.T, port int) *redisConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &redisConn{c, bufio.NewReader(c)}
}

func (c *redisConn) close(t *testing.T) {
	t.Helper()
	if err := c.conn.Close(); err != nil {
		t.Error(err)
	}
}

// info returns one value that redis tells of itself.
func (c *redisConn) info(t *testing.T, section, key string) string {
	t.Helper()
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c.conn, "INFO %s\r\n", section); err != nil {
		t.Fatal(err)
	}
	head, err := c.in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
	if err != nil {
		t.Fatalf("redis answers %q", head)
	}
	body := make([]byte, n+2) // and the end of the line
	if _, err := io.ReadFull(c.in, body); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("redis does not tell %s", key)
	return ""
}

func (c *redisConn) runID(t *testing.T) string {
	t.Helper()
	return c.info(t, "server", "run_id")
}

func (c *redisConn) clients(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(c.info(t, "clients", "connected_clients"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
