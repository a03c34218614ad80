package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/internal/proxyproto"
)

// header reads a PROXY header from a connection, and nothing behind it.
func header(c net.Conn) (proxyproto.Header, error) {
	var b []byte
	for {
		h, need, err := proxyproto.Parse(b)
		if err != nil || need == 0 {
			return h, err
		}
		more := make([]byte, need-len(b))
		if _, err := io.ReadFull(c, more); err != nil {
			return h, err
		}
		b = append(b, more...)
	}
}

func TestProxyProtocol(t *testing.T) {
	client := netip.MustParseAddrPort("192.0.2.7:7777")
	service := netip.MustParseAddrPort("198.51.100.1:443")
	for _, out := range []int{1, 2} {
		for _, in := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("from version %d to %d", in, out), func(t *testing.T) {
				t.Parallel()
				p := newProxy(t)
				l := tcp("A", backend(t, func(c *net.TCPConn) {
					h, err := header(c)
					_, _ = fmt.Fprintf(c, "%v %v %v %v\n", h.Version, h.Source, h.Destination, err)
					line, _ := bufio.NewReader(c).ReadString('\n')
					_, _ = io.WriteString(c, line)
				}))
				l.ProxyTo = out
				if in > 0 {
					l.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
				}
				apply(t, p, l)
				c := connect(t, addrOf(t, p))
				want := fmt.Sprintf("%d %v %v <nil>", out, c.LocalAddr(), c.RemoteAddr())
				shown := c.LocalAddr().String()
				if in > 0 {
					b, err := proxyproto.Append(nil, in, client, service)
					if err != nil {
						t.Fatal(err)
					}
					for _, one := range b {
						_, _ = c.Write([]byte{one})
					}
					want = fmt.Sprintf("%d %v %v <nil>", out, client, service)
					shown = client.String()
				}
				r := bufio.NewReader(c)
				if got, err := r.ReadString('\n'); strings.TrimSpace(got) != want {
					t.Errorf("target was told %q, %v, want %q", got, err, want)
				}
				if got := p.Connections("A"); len(got) != 1 || got[0].Client != shown {
					t.Errorf("connections %+v, want one of %s", got, shown)
				}
				_, _ = io.WriteString(c, "behind\n")
				if got, err := r.ReadString('\n'); got != "behind\n" {
					t.Errorf("behind the header: %q, %v", got, err)
				}
			})
		}
	}
}

func TestProxyHeaderThatDoesNotCome(t *testing.T) {
	for name, said := range map[string]string{"silent": "", "half": "PROXY TCP4 192.0.2.7 ", "wrong": "GET / HTTP/1.1\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: 200 * time.Millisecond})
			l := tcp("A", named(t, "a"))
			l.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			apply(t, p, l)
			if got := outcomeOf(addrOf(t, p), said); got != "|reset" {
				t.Errorf("client saw %q, want a reset", got)
			}
			wantOpen(t, p, "A", 0)
			eventually(t, "its place is free", func() bool { return p.conns.Load() == 0 }) // it leaves after the reset
		})
	}
}

func TestServerNames(t *testing.T) {
	t.Parallel()
	p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: patience})
	exact, wild, rest := tcp("exact", named(t, "exact")), tcp("wild", named(t, "wild")), tcp("rest", named(t, "rest"))
	exact.Match.SNI, exact.Name = []string{"a.example"}, "exact"
	apply(t, p, exact)
	addr := p.Addr("exact")[0]
	exact.Addrs, wild.Addrs, rest.Addrs = []string{addr}, []string{addr}, []string{addr}
	wild.Match.SNI, wild.Name = []string{"*.example"}, "wild"
	rest.Name = "rest"
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	hello := func(name string) <-chan error { // says so, and waits for what no target says
		c, ended := connect(t, addr), make(chan error, 1)
		wg.Go(func() { ended <- tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() })
		return ended
	}
	count := func(id string) int { n, _ := p.Conns(id); return n }
	if err := <-hello("b.example"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a name of nobody: %v, want a reset", err)
	}
	apply(t, p, exact)
	if err := p.Apply("other", []Listener{wild}); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply("third", []Listener{rest}); err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]string{"a.example": "exact", "b.example": "wild", "a.b.example": "rest"} {
		before := count(id)
		hello(name)
		eventually(t, name+" goes to "+id, func() bool { return count(id) == before+1 })
	}
	wantAnswer(t, connect(t, addr), "no TLS at all", "rest no TLS at all") // seen at its first byte
}

// TestSilentClientAmongServerNames: who says nothing for as long as a name is waited for goes where those without a
// name go.
func TestSilentClientAmongServerNames(t *testing.T) {
	t.Parallel()
	p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: 100 * time.Millisecond})
	rest := tcp("rest", named(t, "rest"))
	rest.ConnectTimeout = patience
	apply(t, p, rest)
	shop := tcp("", "")
	shop.Name, shop.Addrs, shop.Match.SNI = "shop", []string{addrOf(t, p)}, []string{"a.example"}
	if err := p.Apply("other", []Listener{shop}); err != nil {
		t.Fatal(err)
	}
	silent := connect(t, addrOf(t, p))
	wantOpen(t, p, "rest", 1)
	wantAnswer(t, silent, "late", "rest late")
}
