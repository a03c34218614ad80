package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// measured waits until a target has had so many tries, of which so many failed in whatever way, and returns its measures.
func measured(t *testing.T, p *Proxy, id string, tries, failed int64) Measures {
	t.Helper()
	var m Measures
	eventually(t, "measures of "+id, func() bool {
		m = p.Measures(id)
		return m.Tries == tries && m.Unreached+m.Broken+m.Errors == failed
	})
	return m
}

func TestMeasuresOfTCP(t *testing.T) {
	resets := backend(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
	})
	speaks := backend(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_, _ = io.WriteString(c, "y")
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
	})
	silent := backend(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	tests := []struct {
		name   string
		target string
		client func(c *net.TCPConn)
		want   Measures
	}{
		{"reset before the first byte", resets, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "x")
			_, _ = io.Copy(io.Discard, c)
		}, Measures{Tries: 1, Broken: 1}},
		{"reset after the first byte", speaks, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "x")
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, _ = io.WriteString(c, "x")
			_, _ = io.Copy(io.Discard, c)
		}, Measures{Tries: 1}},
		{"silent target, client ends", silent, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "x")
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}, Measures{Tries: 1}},
		{"silent target, client resets", silent, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "x")
			_ = c.SetLinger(0)
		}, Measures{Tries: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newProxy(t)
			apply(t, p, tcp("t", tt.target))
			c := connect(t, addrOf(t, p))
			eventually(t, "connected", func() bool { return p.Measures("t").Tries == 1 })
			tt.client(c)
			_ = c.Close()
			wantOpen(t, p, "t", 0)
			if got := p.Measures("t"); !got.same(tt.want) {
				t.Errorf("measures %+v, want %+v", got, tt.want)
			}
		})
	}
}

func (m Measures) same(o Measures) bool {
	return m.Tries == o.Tries && m.Unreached == o.Unreached && m.Broken == o.Broken && m.Errors == o.Errors
}

// A connection that could not be made at once is counted once, however often it is tried, and whatever becomes of it.
func TestMeasuresOfWhatCannotBeReached(t *testing.T) {
	for _, kind := range []string{TCP, HTTP} {
		t.Run(kind, func(t *testing.T) {
			p := newProxy(t)
			l := tcp("gone", deadPort(t))
			l.Kind = kind
			apply(t, p, l)
			c := connect(t, addrOf(t, p))
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			measured(t, p, "gone", 1, 1)
			l.TargetID, l.Target = site(t, "here", nil)
			apply(t, p, l)
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if m := measured(t, p, "here", 1, 0); m.Unreached != 0 {
				t.Errorf("measures of the next target: %+v", m)
			}
			if m := p.Measures("gone"); !m.same(Measures{Tries: 1, Unreached: 1}) {
				t.Errorf("measures of the target that was not there: %+v", m)
			}
		})
	}
}

func TestMeasuresOfHTTP(t *testing.T) {
	p := newProxy(t)
	slow := make(chan struct{})
	id, addr := site(t, "s", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bad":
			w.WriteHeader(http.StatusInternalServerError)
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
		case "/broken":
			c, _, _ := http.NewResponseController(w).Hijack()
			_ = c.Close()
		case "/slow":
			close(slow)
			<-r.Context().Done()
		}
	})
	apply(t, p, web1(id, addr))
	b := browser(t)
	visit := func(ctx context.Context, path string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addrOf(t, p)+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := b.Do(req)
		if err != nil {
			if ctx.Err() == nil {
				t.Fatal(err)
			}
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	for _, path := range []string{"/", "/", "/missing", "/bad", "/broken"} {
		visit(t.Context(), path)
	}
	m := measured(t, p, id, 5, 2)
	if m.Broken != 1 || m.Errors != 1 {
		t.Errorf("measures %+v, want one request without an answer and one answered 500", m)
	}
	var answers int64
	for _, l := range m.Latency {
		answers += l.Answers
	}
	if answers != 4 {
		t.Errorf("%d latencies, want those of 4 answers: %+v", answers, m.Latency)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		<-slow
		cancel()
	})
	visit(ctx, "/slow")
	wg.Wait()
	wantOpen(t, p, id, 0)
	if got := p.Measures(id); !got.same(m) {
		t.Errorf("measures %+v after a client left, want %+v still", got, m)
	}
}

// A request is counted that the target breaks off while its content is still on its way, but not one that its client
// breaks off.
func TestMeasuresOfUnfinishedRequests(t *testing.T) {
	for _, breaks := range []bool{true, false} {
		target := backend(t, func(c *net.TCPConn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil && !breaks {
				_, _ = io.Copy(io.Discard, c)
			}
		})
		p := newProxy(t)
		apply(t, p, web1("t", target))
		c := connect(t, addrOf(t, p))
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1"); err != nil {
			t.Fatal(err)
		}
		want := Measures{}
		if breaks {
			want = Measures{Tries: 1, Broken: 1}
			measured(t, p, "t", 1, 1)
		} else {
			wantOpen(t, p, "t", 1)
			_ = c.Close()
		}
		wantOpen(t, p, "t", 0)
		if got := p.Measures("t"); !got.same(want) {
			t.Errorf("target breaks off: %v: measures %+v, want %+v", breaks, got, want)
		}
	}
}

// What the machine of the proxy lacks is no fault of a target.
func TestMeasuresLeaveShortagesOut(t *testing.T) {
	dial := func(errno unix.Errno) error {
		return &dialError{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}}
	}
	for err, want := range map[error]int64{
		unix.EMFILE: 0, dial(unix.EMFILE): 0, dial(unix.ENFILE): 0, dial(unix.EADDRNOTAVAIL): 0, unix.ENOBUFS: 0, unix.ENOMEM: 0,
		context.Canceled: 0, unix.ECONNREFUSED: 1, dial(unix.ECONNREFUSED): 1, unix.ETIMEDOUT: 1, errors.New("other"): 1,
	} {
		m := &meter{}
		m.missed(err)
		if got := m.read(); got.Tries != want || got.Unreached != want {
			t.Errorf("%v: measures %+v, want %d tries", err, got, want)
		}
	}
}

func TestLatencyBuckets(t *testing.T) {
	last := time.Duration(0)
	for i := range meterBuckets {
		if b := below(i); b <= last || i > 0 && float64(b-last) > float64(b)/8.9 {
			t.Fatalf("bucket %d is below %v, the one before below %v", i, b, last)
		}
		if last > 0 && (bucketOf(last) != i || bucketOf(last-time.Microsecond) != i-1) {
			t.Fatalf("%v is in bucket %d, want %d", last, bucketOf(last), i)
		}
		last = below(i)
	}
	for d, want := range map[time.Duration]int{-1: 0, 0: 0, time.Hour: meterBuckets - 1, 63 * time.Microsecond: 0} {
		if got := bucketOf(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
}

// Meters of targets that are gone are forgotten some time, those in use never.
func TestMetersAreForgotten(t *testing.T) {
	l := newLedger()
	r := &route{}
	l.do(func(a *aftermath) { l.point(r, &dest{id: "a"}, a) })
	l.do(func(a *aftermath) { l.point(r, &dest{id: "b"}, a) })
	l.prune(time.Now().Add(keepMeter / 2))
	if l.meters["a"] == nil {
		t.Error("the meter of a target that just went is forgotten")
	}
	l.prune(time.Now().Add(2 * keepMeter))
	if l.meters["a"] != nil || l.meters["b"] == nil {
		t.Errorf("meters %v, want that of b", l.meters)
	}
}
