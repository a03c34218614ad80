package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// Each benchmark runs once against the target and once through the proxy, for the ratio of the two.

func both(b *testing.B, l Listener, run func(b *testing.B, addr string)) {
	b.Run("direct", func(b *testing.B) { run(b, l.Target) })
	b.Run("proxied", func(b *testing.B) {
		p := newProxy(b)
		apply(b, p, l)
		run(b, addrOf(b, p))
	})
}

func BenchmarkRelayConnections(b *testing.B) {
	both(b, tcp("A", echo(b)), func(b *testing.B, addr string) {
		b.RunParallel(func(pb *testing.PB) {
			buf := make([]byte, 64)
			for pb.Next() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					b.Fatal(err)
				}
				_ = c.(*net.TCPConn).SetLinger(0) // leaves no port behind
				roundTrip(b, c, buf)
				_ = c.Close()
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conn/s")
	})
}

func BenchmarkRelayMessages(b *testing.B) {
	both(b, tcp("A", echo(b)), func(b *testing.B, addr string) {
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			buf := make([]byte, 64)
			c := connect(b, addr)
			_ = c.SetDeadline(never)
			for pb.Next() {
				roundTrip(b, c, buf)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	})
}

func BenchmarkRelayBulk(b *testing.B) {
	sink := backend(b, func(c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
	})
	both(b, tcp("A", sink), func(b *testing.B, addr string) {
		buf := make([]byte, 1<<20)
		b.SetBytes(int64(len(buf)))
		c := connect(b, addr)
		_ = c.SetDeadline(never)
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
		_ = c.CloseWrite()
		_, _ = c.Read(buf) // until the target has it all
	})
}

func BenchmarkRequests(b *testing.B) {
	_, addr := site(b, "A", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello, world")
	})
	for _, method := range []string{"GET", "POST"} {
		b.Run(method, func(b *testing.B) {
			both(b, web1("A", addr), func(b *testing.B, addr string) {
				b.SetParallelism(8)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					c := connect(b, addr)
					_ = c.SetDeadline(never)
					r := bufio.NewReader(c)
					body := ""
					if method == "POST" {
						body = "Content-Length: 5\r\n\r\nhello"
					} else {
						body = "\r\n"
					}
					head := method + " / HTTP/1.1\r\nHost: x\r\n"
					for pb.Next() {
						_, _ = io.WriteString(c, head+body)
						res, err := http.ReadResponse(r, nil)
						if err != nil {
							b.Fatal(err)
						}
						_, _ = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			})
		})
	}
}

func echo(b *testing.B) string {
	return backend(b, func(c *net.TCPConn) {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	})
}

func roundTrip(b *testing.B, c net.Conn, buf []byte) {
	if _, err := c.Write(buf); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkHTTP compares the ways to a target that costs next to nothing: direct, through the proxy, and
// through net/http's reverse proxy. Allocations are those of the whole process, which is the way alone:
// client and target allocate nothing for a request.
func BenchmarkHTTP(b *testing.B) {
	get := []byte("GET /a HTTP/1.1\r\nHost: x.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	post := []byte("POST /a HTTP/1.1\r\nHost: x.example\r\nUser-Agent: bench\r\nContent-Length: 5\r\n\r\nhello")
	for _, bb := range []struct {
		name    string
		request []byte
	}{{"GET", get}, {"POST", post}} {
		target := answers(b)
		for _, way := range []struct {
			name string
			addr func(b *testing.B) string
		}{
			{"direct", func(*testing.B) string { return target }},
			{"proxied", func(b *testing.B) string {
				p := newProxy(b)
				apply(b, p, web1("A", target))
				return addrOf(b, p)
			}},
			{"reverseproxy", func(b *testing.B) string { return reverseProxy(b, target) }},
		} {
			b.Run(bb.name+"/"+way.name, func(b *testing.B) { requests(b, way.addr(b), bb.request) })
		}
	}
}

// requests sends the same request again and again on 32 connections.
func requests(b *testing.B, addr string, request []byte) {
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := connect(b, addr)
		_ = c.SetDeadline(never)
		buf := make([]byte, 4096)
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			for n := 0; !bytes.HasSuffix(buf[:n], []byte("hello, world")); {
				m, err := c.Read(buf[n:])
				if err != nil {
					b.Error(err)
					return
				}
				n += m
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// answers is a target that answers each request, which it knows by its end.
func answers(b *testing.B) string {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello, world")
	return backend(b, func(c *net.TCPConn) {
		buf := make([]byte, 4096)
		for n := 0; ; {
			m, err := c.Read(buf[n:])
			if err != nil {
				return
			}
			n += m
			end := "\r\n\r\n"
			if buf[0] == 'P' {
				end = "hello"
			}
			if !bytes.HasSuffix(buf[:n], []byte(end)) {
				continue
			}
			n = 0
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
}

func reverseProxy(b *testing.B, target string) string {
	transport := &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}
	b.Cleanup(transport.CloseIdleConnections)
	s := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.SetXForwarded()
		},
	})
	b.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
