package proxybench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryd/gantryd/internal/debiantest"
)

// A peer is one of those that are compared.
type peer struct {
	name string
	tcp  string // address, empty: it does not forward connections
	http string // address, empty: it does not forward requests
	// start starts it anew. Nil for the server itself, which is always there.
	start func(tb testing.TB) *process
}

// Names of peers.
const (
	direct  = "direct"
	haproxy = "haproxy"
	nginx   = "nginx"
	gantryd = "gantryd"
)

const haproxyConf = `global
	nbthread 2
	maxconn 9800
defaults
	maxconn 9800
	timeout connect 5s
	timeout client 10m
	timeout server 10m
listen connections
	mode tcp
	bind 127.0.0.1:7101
	server s ` + serverAddr + `
listen requests
	mode http
	bind 127.0.0.1:7102
	server s ` + serverAddr + `
`

const nginxConf = `daemon off;
user root root;
worker_processes 2;
worker_rlimit_nofile 20000;
pid %[1]s/pid;
error_log stderr;
load_module %[2]s;
events { worker_connections 19900; }
stream {
	access_log off;
	server {
		listen 127.0.0.1:7201 reuseport;
		proxy_pass ` + serverAddr + `;
	}
}
`

// conf writes a configuration into a new folder.
func conf(tb testing.TB, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func (s *space) haproxy(tree debiantest.Tree) peer {
	return peer{name: haproxy, tcp: "127.0.0.1:7101", http: "127.0.0.1:7102", start: func(tb testing.TB) *process {
		tb.Helper()
		return s.start(tb, tree.Command(tb.Context(), tb, "/usr/sbin/haproxy", "-db", "-q", "-f", conf(tb, haproxyConf)))
	}}
}

func (s *space) nginx(tree debiantest.Tree) peer {
	return peer{name: nginx, tcp: "127.0.0.1:7201", start: func(tb testing.TB) *process {
		tb.Helper()
		dir := tb.TempDir()
		module := tree.Path(tb, "/usr/lib/nginx/modules/ngx_stream_module.so")
		return s.start(tb, tree.Command(tb.Context(), tb, "/usr/sbin/nginx", "-p", dir, "-e", "stderr", "-c", conf(tb, fmt.Sprintf(nginxConf, dir, module))))
	}}
}

// gantryd is 'gantryd proxy' of the binary, on ports from port on: the first forwards connections,
// the next one requests. They are processes of their own, so that each has its own account.
func (s *space) gantryd(name, bin string, port int) []peer {
	one := func(flags ...string) func(testing.TB) *process {
		return func(tb testing.TB) *process {
			tb.Helper()
			args := append([]string{"proxy", "--target", serverAddr, "--drain", "0s"}, flags...)
			return s.start(tb, exec.CommandContext(tb.Context(), bin, args...))
		}
	}
	tcp, http := fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", port+1)
	return []peer{
		{name: name, tcp: tcp, start: one("--listen", tcp)},
		{name: name, http: http, start: one("--listen", http, "--http")},
	}
}

// also are other builds of gantryd that are measured beside this one: GANTRYD_BENCH_ALSO is NAME=PATH,...
func (s *space) also(tb testing.TB) []peer {
	tb.Helper()
	var peers []peer
	for i, item := range strings.FieldsFunc(os.Getenv("GANTRYD_BENCH_ALSO"), func(r rune) bool { return r == ',' }) {
		name, path, ok := strings.Cut(item, "=")
		if !ok {
			tb.Fatalf("GANTRYD_BENCH_ALSO: %q is not NAME=PATH", item)
		}
		peers = append(peers, s.gantryd(name, path, 7500+10*i)...)
	}
	return peers
}
