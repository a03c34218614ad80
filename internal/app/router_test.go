package app

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/internal/packet"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/proxy"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

func TestListenersInTheProxysWords(t *testing.T) {
	tests := []struct {
		name string
		in   supervisor.Listener
		want proxy.Listener
	}{
		{
			"defaults",
			supervisor.Listener{Name: "web:80", Addrs: []string{"127.0.0.1:80"}, Kind: "tcp", TargetID: "c1", Target: "172.17.0.2:80"},
			proxy.Listener{
				Name: "web:80", Addrs: []string{"127.0.0.1:80"}, Kind: "tcp", TargetID: "c1", Target: "172.17.0.2:80",
				HoldMax: 1024, HoldTimeout: 30 * time.Second, ConnectTimeout: 30 * time.Second,
			},
		},
		{
			"TCP",
			supervisor.Listener{
				Kind: "tcp", Hold: component.Hold{Max: 7, Timeout: component.Duration(time.Second)}, Maintenance: true,
				Port: component.Port{
					Match: component.Match{SNI: []string{"a"}}, MaxConns: 1, MaxConnsPerClient: 2,
					IdleTimeout: component.Duration(3), LingerTimeout: component.Duration(4),
					ProxyProtocol: component.ProxyProtocol{From: []string{"10.0.0.0/8"}, To: "v2"},
				},
			},
			proxy.Listener{
				Kind: "tcp", HoldMax: 7, HoldTimeout: time.Second, ConnectTimeout: proxy.DefaultConnectTimeout,
				Match: proxy.Match{SNI: []string{"a"}}, MaxConns: 1, MaxConnsPerClient: 2, IdleTimeout: 3, LingerTimeout: 4,
				ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ProxyTo: 2,
			},
		},
		{
			"HTTP",
			supervisor.Listener{
				Kind: "http", Hold: component.Hold{Max: 7, Timeout: component.Duration(time.Minute)}, Maintenance: true,
				Port: component.Port{
					Match: component.Match{Hosts: []string{"a"}, Path: "/x"}, Upstream: "h2c", Pages: "/p", Trusted: []string{"::1/128"},
					MaxConns: 1, MaxConnsPerClient: 2, ProxyProtocol: component.ProxyProtocol{From: []string{"10.0.0.0/8"}},
					TLS: component.TLS{Certs: []component.KeyPair{{Cert: "/c", Key: "/k"}}},
				},
			},
			proxy.Listener{
				Kind: "http", HoldMax: 7, HoldTimeout: time.Minute, ConnectTimeout: time.Minute, Maintenance: true,
				Match: proxy.Match{Hosts: []string{"a"}, Path: "/x"}, Upstream: proxy.UpstreamH2C, Pages: "/p",
				Trusted:  []netip.Prefix{netip.MustParsePrefix("::1/128")},
				MaxConns: 1, MaxConnsPerClient: 2, ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				TLS: &proxy.TLS{Certs: []proxy.KeyPair{{CertFile: "/c", KeyFile: "/k"}}},
			},
		},
	}
	prefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	for _, tt := range tests {
		got, err := listener(tt.in)
		if d := cmp.Diff(tt.want, got, prefix, cmpopts.EquateEmpty()); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, d)
		}
	}
}

// Every setting of a port has a place in a listener: one that is added must not be forgotten here.
func TestNoSettingOfAPortIsLost(t *testing.T) {
	port := reflect.TypeFor[component.Port]()
	names := map[string]string{"ProxyProtocol": "ProxyFrom", "Kind": "Kind", "External": "Addrs", "Container": "Target"}
	for f := range port.Fields() {
		name := f.Name
		if other, ok := names[name]; ok {
			name = other
		}
		if _, ok := reflect.TypeFor[proxy.Listener]().FieldByName(name); !ok {
			t.Errorf("a proxy.Listener has no field for Port.%s", f.Name)
		}
	}
}

// TestConnectionsOfAnEarlierProcessAreListed drains a target whose connection the process before an upgrade finishes.
func TestConnectionsOfAnEarlierProcessAreListed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	quiet := slog.New(slog.DiscardHandler)
	old := &Daemon{o: Options{Log: quiet, Linger: time.Minute}, router: newRouter(proxy.New(t.Context(), proxy.Options{Log: quiet}))}
	t.Cleanup(func() { old.router.proxy.Close() })
	err = old.router.Apply("web", []supervisor.Listener{{Name: "web:1", Addrs: []string{"127.0.0.1:0"}, Kind: "tcp", TargetID: "c1", Target: ln.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", old.router.proxy.Addr("web:1")[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "12345"); err != nil {
		t.Fatal(err)
	}
	to, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.ReadFull(to, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	ours, theirs := links(t)
	next := newRouter(proxy.New(t.Context(), proxy.Options{Log: quiet}))
	t.Cleanup(func() { next.proxy.Close() })
	next.join(ours)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() { old.finish(ctx, theirs) })
	wg.Go(func() { next.follow(ctx) })
	next.Drain("c1")
	var got []component.Connection
	for end := time.Now().Add(20 * time.Second); len(got) == 0 || got[0].BytesIn == 0; got = next.Connections("c1", 20) {
		if time.Now().After(end) {
			t.Fatalf("connections %+v, of %+v", got, next.Conns("c1"))
		}
	}
	if len(got) != 1 || got[0].Client != c.LocalAddr().String() || got[0].Target != ln.Addr().String() || got[0].BytesIn != 5 || !got[0].Earlier {
		t.Errorf("connections %+v, want the client %s, marked as of an earlier process", got, c.LocalAddr())
	}
	if none := next.Connections("c2", 20); len(none) != 0 {
		t.Errorf("connections of another target: %+v", none)
	}
}

// links are the two ends of a link.
func links(t *testing.T) (ours, theirs *handover.Link) {
	t.Helper()
	c, there, err := packet.Pair(syscall.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	here, err := c.File()
	_ = c.Close() // here is a duplicate
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []struct {
		f *os.File
		l **handover.Link
	}{{here, &ours}, {there, &theirs}} {
		if *end.l, err = handover.Adopt(end.f, nil); err != nil {
			t.Fatal(err)
		}
	}
	return ours, theirs
}

// A file that is not there, or a value that cannot be read, is told, and the other ports work.
func TestOtherPortsWorkBesideABrokenOne(t *testing.T) {
	p := proxy.New(t.Context(), proxy.Options{Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { p.Close() })
	r := newRouter(p)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	none := filepath.Join(t.TempDir(), "none.pem")
	err = r.Apply("web", []supervisor.Listener{
		{Name: "web:1", Addrs: []string{"127.0.0.1:0"}, Kind: "http", Port: component.Port{TLS: component.TLS{Certs: []component.KeyPair{{Cert: none, Key: none}}}}},
		{Name: "web:2", Addrs: []string{"127.0.0.1:0"}, Kind: "tcp", TargetID: "c1", Target: ln.Addr().String()},
	})
	if err == nil || !strings.Contains(err.Error(), none) || !strings.Contains(err.Error(), `"web:1"`) {
		t.Errorf("error is %v, want the listener and its file", err)
	}
	if len(p.Addr("web:2")) != 1 {
		t.Fatal("the other port is not open")
	}
	c, err := net.Dial("tcp", p.Addr("web:2")[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Error(err)
	}
	if to, err := ln.Accept(); err != nil {
		t.Error(err)
	} else {
		to.Close()
	}

	err = r.Apply("db", []supervisor.Listener{
		{Name: "db:1", Addrs: []string{"127.0.0.1:0"}, Kind: "tcp", Port: component.Port{ProxyProtocol: component.ProxyProtocol{From: []string{"everybody"}}}},
	})
	if err == nil || !strings.Contains(err.Error(), `"everybody"`) || len(p.Addr("db:1")) != 1 {
		t.Errorf("error is %v, want the value, and the port open", err)
	}
}
