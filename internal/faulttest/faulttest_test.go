package faulttest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryd/gantryd/internal/faulttest"
	"github.com/gantryd/gantryd/internal/porttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a connection through a proxy, seen from both ends.
type pair struct {
	p              *faulttest.Proxy
	client, server *net.TCPConn
}

func newPair(t *testing.T, f faulttest.Faults) pair {
	t.Helper()
	ln, err := net.Listen("tcp", porttest.Addr(t)) // nobody else listens there when it is closed
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := faulttest.Start(t, ln.Addr().String())
	p.Set(f)
	c := connect(t, p)
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	_ = s.SetDeadline(time.Now().Add(20 * time.Second))
	return pair{p, c, s.(*net.TCPConn)}
}

func connect(t *testing.T, p *faulttest.Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// what reads c to its end and says what came and how it ended.
func what(c net.Conn) string {
	b, err := io.ReadAll(c)
	switch {
	case err == nil:
		return string(b) + "|end"
	case errors.Is(err, syscall.ECONNRESET):
		return string(b) + "|reset"
	}
	return string(b) + "|" + err.Error()
}

// wantDenied expects that a new connection is reset, which may be seen before it is there.
func wantDenied(t *testing.T, p *faulttest.Proxy) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if got := what(c); got != "|reset" {
		t.Errorf("client saw %q, want a reset", got)
	}
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func wantNext(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v, want %q", b, err, want)
	}
}

// wantSilence fails the test when something comes within a while.
func wantSilence(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	b := make([]byte, 1)
	if n, err := c.Read(b); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %q, %v, want nothing", b[:n], err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
}

func TestTransparent(t *testing.T) {
	t.Run("each direction ends by itself", func(t *testing.T) {
		x := newPair(t, faulttest.Faults{})
		write(t, x.client, "question")
		_ = x.client.CloseWrite()
		if got := what(x.server); got != "question|end" {
			t.Errorf("target saw %q", got)
		}
		write(t, x.server, "answer")
		_ = x.server.Close()
		if got := what(x.client); got != "answer|end" {
			t.Errorf("client saw %q", got)
		}
	})
	t.Run("a reset of the client is one", func(t *testing.T) {
		x := newPair(t, faulttest.Faults{})
		_ = x.client.SetLinger(0)
		_ = x.client.Close()
		if got := what(x.server); got != "|reset" {
			t.Errorf("target saw %q", got)
		}
	})
	t.Run("a reset of the target is one", func(t *testing.T) {
		x := newPair(t, faulttest.Faults{})
		write(t, x.server, "no")
		wantNext(t, x.client, "no")
		_ = x.server.SetLinger(0)
		_ = x.server.Close()
		if got := what(x.client); got != "|reset" {
			t.Errorf("client saw %q", got)
		}
	})
	t.Run("bytes stay as they are", func(t *testing.T) {
		x := newPair(t, faulttest.Faults{})
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			_, _ = x.client.Write(sent)
			_ = x.client.CloseWrite()
		})
		if got, err := io.ReadAll(x.server); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes, %v, want %d that are equal", len(got), err, len(sent))
		}
	})
	t.Run("a target that refuses resets the client", func(t *testing.T) {
		wantDenied(t, faulttest.Start(t, porttest.Refusing(t).Addr))
	})
}

func TestDelayAndRate(t *testing.T) {
	const delay = 200 * time.Millisecond
	tests := []struct {
		name string
		way  faulttest.Way
		size int
		min  time.Duration
	}{
		{"delay is not paid by every piece", faulttest.Way{Delay: delay}, 1 << 20, delay},
		{"rate", faulttest.Way{Rate: 100_000}, 20_000, 180 * time.Millisecond},
		{"one byte at a time", faulttest.Way{Rate: 50}, 10, 180 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newPair(t, faulttest.Faults{Down: tt.way})
			write(t, x.client, "at once")
			wantNext(t, x.server, "at once")
			var wg sync.WaitGroup
			defer wg.Wait()
			start := time.Now()
			wg.Go(func() { _, _ = x.server.Write(make([]byte, tt.size)) })
			if _, err := io.ReadFull(x.client, make([]byte, tt.size)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < tt.min {
				t.Errorf("took %v, want at least %v", took, tt.min)
			}
		})
	}
}

func TestHold(t *testing.T) {
	x := newPair(t, faulttest.Faults{})
	x.p.Set(faulttest.Faults{Up: faulttest.Way{Hold: true}})
	write(t, x.client, "late")
	_ = x.client.CloseWrite()
	wantSilence(t, x.server)
	write(t, x.server, "the other way is free")
	wantNext(t, x.client, "the other way is free")
	x.p.Set(faulttest.Faults{})
	if got := what(x.server); got != "late|end" {
		t.Errorf("target saw %q", got)
	}
}

func TestLose(t *testing.T) {
	x := newPair(t, faulttest.Faults{})
	x.p.Set(faulttest.Faults{Down: faulttest.Way{Lose: true}})
	write(t, x.client, "question")
	wantNext(t, x.server, "question")
	write(t, x.server, "answer")
	wantSilence(t, x.client)
	x.p.Set(faulttest.Faults{})
	if got := what(x.client); got != "|reset" {
		t.Errorf("client saw %q, want a reset: the answer is lost", got)
	}

	x = newPair(t, faulttest.Faults{})
	x.p.Set(faulttest.Faults{Down: faulttest.Way{Lose: true}})
	x.p.Set(faulttest.Faults{})
	write(t, x.server, "nothing was lost")
	wantNext(t, x.client, "nothing was lost")
}

func TestSetAfter(t *testing.T) {
	x := newPair(t, faulttest.Faults{})
	x.p.SetAfter("PUT", faulttest.Faults{Down: faulttest.Way{Lose: true}})
	write(t, x.client, "GET")
	wantNext(t, x.server, "GET")
	write(t, x.server, "got")
	wantNext(t, x.client, "got")
	write(t, x.client, "PUT")
	wantNext(t, x.server, "PUT")
	write(t, x.server, "put")
	wantSilence(t, x.client)
}

func TestAfterSoManyBytes(t *testing.T) {
	t.Run("reset", func(t *testing.T) {
		x := newPair(t, faulttest.Faults{Up: faulttest.Way{ResetAfter: 4}})
		write(t, x.client, "123")
		wantNext(t, x.server, "123")
		write(t, x.client, "456")
		if got := what(x.client); got != "|reset" {
			t.Errorf("client saw %q", got)
		}
		if got := what(x.server); got != "|reset" && got != "4|reset" {
			t.Errorf("target saw %q", got)
		}
	})
	t.Run("end of one direction", func(t *testing.T) {
		x := newPair(t, faulttest.Faults{Up: faulttest.Way{EndAfter: 4}})
		write(t, x.client, "123456")
		if got := what(x.server); got != "1234|end" {
			t.Errorf("target saw %q", got)
		}
		write(t, x.server, "answer")
		wantNext(t, x.client, "answer")
		write(t, x.client, "nobody hears it")
		_ = x.server.Close()
		if got := what(x.client); got != "|end" {
			t.Errorf("client saw %q", got)
		}
	})
}

func TestNow(t *testing.T) {
	tests := []struct {
		name           string
		do             func(*faulttest.Proxy)
		client, server string
	}{
		{"reset", (*faulttest.Proxy).Reset, "|reset", "|reset"},
		{"cut", (*faulttest.Proxy).Cut, "|end", "|end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newPair(t, faulttest.Faults{})
			write(t, x.client, "x")
			wantNext(t, x.server, "x")
			tt.do(x.p)
			if got := what(x.client); got != tt.client {
				t.Errorf("client saw %q, want %q", got, tt.client)
			}
			if got := what(x.server); got != tt.server {
				t.Errorf("target saw %q, want %q", got, tt.server)
			}
		})
	}
	t.Run("end", func(t *testing.T) {
		x := newPair(t, faulttest.Faults{})
		write(t, x.client, "x")
		wantNext(t, x.server, "x")
		x.p.End(faulttest.Down)
		if got := what(x.client); got != "|end" {
			t.Errorf("client saw %q", got)
		}
		write(t, x.client, "still heard")
		wantNext(t, x.server, "still heard")
	})
}

func TestNewConnections(t *testing.T) {
	x := newPair(t, faulttest.Faults{})
	x.p.Set(faulttest.Faults{Deny: true})
	wantDenied(t, x.p)
	write(t, x.client, "the open one goes on")
	wantNext(t, x.server, "the open one goes on")
	x.p.Set(faulttest.Faults{Mute: true})
	c := connect(t, x.p)
	wantSilence(t, c)
	if n := x.p.Open(); n != 1 {
		t.Errorf("%d connections are open, want 1", n)
	}
	x.p.Set(faulttest.Faults{})
	if got := what(c); got != "|reset" { // the target's listener is closed
		t.Errorf("client saw %q after the silence", got)
	}
	if n := x.p.Dials(); n != 3 {
		t.Errorf("%d dials, want 3", n)
	}
}
