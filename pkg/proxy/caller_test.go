package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/proxyproto"
)

// loopback is where the clients of tests come from.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// introducing is a client that speaks d to addr, and begins each connection with a PROXY header, byte by byte.
func (d dialect) introducing(t testing.TB, addr string, version int, source, destination netip.AddrPort) *http.Client {
	t.Helper()
	b, err := proxyproto.Append(nil, version, source, destination)
	if err != nil {
		t.Fatal(err)
	}
	c := d.client(t, addr)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		for i := range b {
			if err == nil {
				_, err = conn.Write(b[i : i+1])
			}
		}
		return conn, err
	}
	return c
}

// origin is a target that answers with where a request came from, as it was told.
func origin(t testing.TB) (id, addr string) {
	t.Helper()
	return site(t, "A", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header.Get("X-Forwarded-For"), " ", r.Header.Get("X-Forwarded-Port"))
	})
}

func TestProxyHeaderBeforeHTTP(t *testing.T) {
	t.Parallel()
	client := netip.MustParseAddrPort("192.0.2.7:7777")
	service := netip.MustParseAddrPort("198.51.100.1:4443")
	for _, d := range dialects {
		for _, version := range []int{proxyproto.V1, proxyproto.V2} {
			t.Run(fmt.Sprintf("%s, version %d", d.name, version), func(t *testing.T) {
				t.Parallel()
				p := newProxy(t)
				id, addr := origin(t)
				l := d.listener(t, id, addr)
				l.ProxyFrom = loopback
				apply(t, p, l)
				c := d.introducing(t, addrOf(t, p), version, client, service)
				for range 2 {
					got := fetch(t, c, d.url("shop.example", "/"))
					if got.text != "192.0.2.7 4443" || got.Proto != d.proto {
						t.Errorf("%s answer %q, want the client and the port of the header", got.Proto, got.text)
					}
				}
				unknown := d.introducing(t, addrOf(t, p), version, netip.AddrPort{}, netip.AddrPort{})
				_, port, _ := net.SplitHostPort(addrOf(t, p))
				if got := fetch(t, unknown, d.url("shop.example", "/")); got.text != "127.0.0.1 "+port {
					t.Errorf("a header without addresses: %q, want those of the connection", got.text)
				}
			})
		}
	}
}

func TestProxyHeaderOfNobodyElse(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	id, addr := origin(t)
	l := web1(id, addr)
	l.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	apply(t, p, l)
	if got := fetch(t, dialects[0].client(t, addrOf(t, p)), "http://shop.example/"); !strings.HasPrefix(got.text, "127.0.0.1 ") {
		t.Errorf("answer %q, want the address of the connection", got.text)
	}
	c := dialects[0].introducing(t, addrOf(t, p), proxyproto.V1, netip.MustParseAddrPort("192.0.2.7:1"), netip.MustParseAddrPort("192.0.2.8:2"))
	if got := fetch(t, c, "http://shop.example/"); got.StatusCode != http.StatusBadRequest {
		t.Errorf("a header of a client that may send none: %d %q", got.StatusCode, got.text)
	}
}

func TestProxyHeaderBeforeHTTPThatDoesNotCome(t *testing.T) {
	t.Parallel()
	for name, said := range map[string]string{
		"silent": "", "half": "PROXY TCP4 192.0.2.7 ", "wrong": "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
	} {
		for _, d := range dialects[:2] {
			t.Run(name+" "+d.name, func(t *testing.T) {
				t.Parallel()
				p := newProxyWith(t, Options{Log: slog.New(slog.DiscardHandler), ConnectTimeout: 200 * time.Millisecond})
				id, addr := origin(t)
				l := d.listener(t, id, addr)
				l.ProxyFrom = loopback
				apply(t, p, l)
				if got := outcomeOf(addrOf(t, p), said); got != "|reset" {
					t.Errorf("the client saw %q, want a reset", got)
				}
				eventually(t, "its place is free", func() bool { return p.conns.Load() == 0 })
			})
		}
	}
}

func TestBoundsOfAnHTTPListener(t *testing.T) {
	t.Parallel()
	bounds := map[string]func(l *Listener){
		"of all":         func(l *Listener) { l.MaxConns = 2 },
		"of each client": func(l *Listener) { l.MaxConnsPerClient = 2 },
	}
	for name, set := range bounds {
		for _, d := range dialects {
			t.Run(name+" "+d.name, func(t *testing.T) {
				t.Parallel()
				p := newProxy(t)
				id, addr := site(t, "A", nil)
				l := d.listener(t, id, addr)
				set(&l)
				apply(t, p, l)
				var clients []*http.Client
				use := func() {
					c := d.client(t, addrOf(t, p))
					clients = append(clients, c)
					fetch(t, c, d.url("shop.example", "/"))
				}
				use()
				use()
				for range 3 {
					if got := outcomeAt(addrOf(t, p)); got != "|reset" {
						t.Errorf("the third saw %q, want a reset", got)
					}
				}
				if got := p.Refused("a:1"); got != 3 {
					t.Errorf("%d refused, want 3", got)
				}
				fetch(t, clients[0], d.url("shop.example", "/")) // who is there may go on
				clients[0].CloseIdleConnections()
				eventually(t, "the connection is closed", func() bool { return p.conns.Load() == 1 })
				use()
			})
		}
	}
}

// TestBoundsCountNamedClients has clients behind one load balancer.
func TestBoundsCountNamedClients(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	id, addr := site(t, "A", nil)
	l := web1(id, addr)
	l.ProxyFrom, l.MaxConnsPerClient = loopback, 1
	apply(t, p, l)
	at := netip.MustParseAddrPort("198.51.100.1:80")
	for _, client := range []string{"192.0.2.7:1", "192.0.2.8:1"} {
		c := dialects[0].introducing(t, addrOf(t, p), proxyproto.V2, netip.MustParseAddrPort(client), at)
		if got := fetch(t, c, "http://shop.example/"); got.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", client, got.StatusCode)
		}
	}
	again := dialects[0].introducing(t, addrOf(t, p), proxyproto.V2, netip.MustParseAddrPort("192.0.2.7:2"), at)
	if res, err := again.Get("http://shop.example/"); err == nil {
		res.Body.Close()
		t.Errorf("the second connection of a client: %d, want that it is reset", res.StatusCode)
	}
}

// TestUpgradedConnectionsAreBounded counts a tunnel until it ends.
func TestUpgradedConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	id, addr := site(t, "A", func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(io.Discard, rw)
	})
	l := web1(id, addr)
	l.MaxConns = 1
	apply(t, p, l)
	c := connect(t, addrOf(t, p))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); !strings.Contains(line, " 101 ") {
		t.Fatalf("answer %q, %v", line, err)
	}
	if got := outcomeAt(addrOf(t, p)); got != "|reset" {
		t.Errorf("beside a tunnel another client saw %q, want a reset", got)
	}
	_ = c.Close()
	eventually(t, "the tunnel is closed", func() bool { return p.conns.Load() == 0 })
	q := p.quotaOf("a:1")
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conns != 0 {
		t.Errorf("%d connections are counted, want none", q.conns)
	}
}

// TestBoundsOfASharedPort counts a connection where it sent requests to.
func TestBoundsOfASharedPort(t *testing.T) {
	t.Parallel()
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			id, addr := site(t, "A", nil)
			few := d.listener(t, id, addr)
			few.Match.Hosts, few.MaxConns = []string{"few.example"}, 1
			apply(t, p, few)
			few.Addrs = []string{addrOf(t, p)}
			rest := few
			rest.Name, rest.Match, rest.MaxConns = "rest", Match{}, 0
			apply(t, p, few, rest)
			ask := func(c *http.Client, host string, want int) {
				t.Helper()
				if got := fetch(t, c, d.url(host, "/")); got.StatusCode != want {
					t.Errorf("%s: %s, want %d", host, got.Status, want)
				}
			}
			first, second := d.client(t, few.Addrs[0]), d.client(t, few.Addrs[0])
			ask(first, "few.example", http.StatusOK)
			ask(second, "other.example", http.StatusOK)
			ask(second, "few.example", http.StatusServiceUnavailable)
			ask(second, "other.example", http.StatusOK)
			ask(first, "few.example", http.StatusOK)
			ask(first, "other.example", http.StatusOK)
			if got := p.Refused(few.Name); got != 1 {
				t.Errorf("%d refused, want 1", got)
			}
			first.CloseIdleConnections()
			second.CloseIdleConnections()
			eventually(t, "all are closed", func() bool { return p.conns.Load() == 0 })
			ask(second, "few.example", http.StatusOK)
		})
	}
}
