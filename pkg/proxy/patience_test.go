package proxy

import (
	"net"
	"testing"
	"time"
)

// A target that died is dialled for as long as the listener says; nobody is refused before.
func TestListenerSaysHowLongItsTargetIsDialled(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{TCP, HTTP} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := newProxyWith(t, Options{Log: newProxy(t).log, ConnectTimeout: 50 * time.Millisecond})
			l := tcp("A", deadPort(t))
			l.Kind, l.ConnectTimeout = kind, time.Minute
			apply(t, p, l)
			c, err := net.Dial("tcp", addrOf(t, p))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
				t.Fatalf("read %d bytes, %v; want to wait for the target", n, err)
			}
			l.TargetID, l.Target = "B", backend(t, func(c *net.TCPConn) { _, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) })
			apply(t, p, l)
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Errorf("the next target does not answer: %v", err)
			}
		})
	}
}
