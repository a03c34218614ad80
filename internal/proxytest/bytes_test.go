package proxytest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestBytesBothWays sends random bytes both ways at once, over several connections, and compares checksums.
func TestBytesBothWays(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		const conns = 4
		each := int64(pick(64<<20, 10<<30/conns)) // bytes, each way and connection
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		g := newGate(t, settings{Engine: engine}, ln.Addr().String())
		before := g.stats()
		start := time.Now()
		var wg sync.WaitGroup
		for i := range uint64(conns) {
			client, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			wg.Go(func() { carry(t, "up", client.(*net.TCPConn), server.(*net.TCPConn), 2*i, each) })
			wg.Go(func() { carry(t, "down", server.(*net.TCPConn), client.(*net.TCPConn), 2*i+1, each) })
		}
		wg.Wait()
		took := time.Since(start)
		g.awaitConns("0", 0)
		after := g.stats()
		total := 2 * conns * each
		t.Logf("%.2f GB in %v: %.2f GB/s, %.2f CPU s/GB", float64(total)/1e9, took.Round(time.Millisecond),
			float64(total)/1e9/took.Seconds(), (after.CPU-before.CPU).Seconds()/(float64(total)/1e9))
	})
}

// carry sends n random bytes from one end to the other and compares what arrives.
func carry(t *testing.T, way string, from, to *net.TCPConn, seed uint64, n int64) {
	limit := time.Now().Add(10 * time.Minute)
	_ = from.SetWriteDeadline(limit)
	_ = to.SetReadDeadline(limit)
	sent, got := newSum(), newSum()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		// An odd size, so that borders of writes are everywhere.
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(from, sent)}, random(seed, n), make([]byte, 98_765)); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		_ = from.CloseWrite()
	})
	m, err := io.CopyBuffer(got, struct{ io.Reader }{to}, make([]byte, 64<<10))
	wg.Wait()
	if err != nil || m != n || got.Sum32() != sent.Sum32() {
		t.Errorf("%s: %d of %d bytes, checksum %x, sent %x, %v", way, m, n, got.Sum32(), sent.Sum32(), err)
	}
}
