package health

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/porttest"
	"github.com/gantryd/gantryd/pkg/component"
)

// Readiness of a real server is noticed within 5 ms in its first 2 s, or soon after what a timer is late and a
// request takes to a server that is ready, where that is more: a busy machine lets all of them wait.
func TestReadyLatency(t *testing.T) {
	const tries, bound = 21, 5 * time.Millisecond
	for name, try := range latencies {
		t.Run(name, func(t *testing.T) {
			srv, _ := web(t, fine)
			srv.Start()
			var late, plain []time.Duration
			var limit time.Duration
			for round := range 3 { // a busy machine may spoil one
				late, plain = late[:0], plain[:0]
				for i := range tries {
					late = append(late, try(t, time.Duration(20+5*i)*time.Millisecond))
					plain = append(plain, takes(t, srv))
				}
				slices.Sort(late)
				slices.Sort(plain)
				limit = max(bound, floor(component.CheckHTTP)+3*plain[tries/2])
				t.Logf("round %d: noticed after %v (median of %d), %v at least, %v at most; a late timer and a request take %v",
					round, late[tries/2], tries, late[0], late[tries-1], plain[tries/2])
				if late[tries/2] <= limit {
					return
				}
			}
			t.Errorf("readiness noticed after %v in the median, want at most %v", late[tries/2], limit)
		})
	}
}

// takes is how late a timer is that waits as long as Ready does between two attempts, and how long a request to
// srv takes then, with a connection of its own.
func takes(t *testing.T, srv *httptest.Server) time.Duration {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	pause := floor(component.CheckHTTP)
	start := time.Now().Add(pause)
	<-time.After(pause)
	res, err := c.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return time.Since(start)
}

func BenchmarkReadyLatency(b *testing.B) {
	for name, try := range latencies {
		b.Run(name, func(b *testing.B) {
			var late []time.Duration
			for range b.N {
				late = append(late, try(b, 300*time.Millisecond))
			}
			slices.Sort(late)
			b.ReportMetric(float64(late[len(late)/2].Microseconds())/1000, "ms-median")
			b.ReportMetric(float64(late[len(late)-1].Microseconds())/1000, "ms-max")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// latencies are the ways to become ready; each returns how long after that Ready returned.
var latencies = map[string]func(testing.TB, time.Duration) time.Duration{
	"starts to listen": func(t testing.TB, after time.Duration) time.Duration {
		port := porttest.Refusing(t)
		srv := &http.Server{Handler: http.HandlerFunc(fine)}
		done := make(chan error, 1)
		late := noticed(t, addrOf(t, port.Addr), component.CheckHTTP, after, func() {
			ln := port.Listen()
			go func() { done <- srv.Serve(ln) }()
		})
		_ = srv.Close()
		<-done
		return late
	},
	"answers 200 instead of 503": func(t testing.TB, after time.Duration) time.Duration {
		var ready atomic.Bool
		srv, _ := web(t, func(w http.ResponseWriter, _ *http.Request) {
			if !ready.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		srv.Start()
		defer srv.Close()
		return noticed(t, srv.Listener.Addr(), component.CheckHTTP, after, func() { ready.Store(true) })
	},
	"tcp starts to listen": func(t testing.TB, after time.Duration) time.Duration {
		port := porttest.Refusing(t)
		return noticed(t, addrOf(t, port.Addr), component.CheckTCP, after, func() { port.Listen() })
	},
}

// noticed waits for the readiness that become brings about after a while and returns how late that was.
func noticed(t testing.TB, addr net.Addr, kind string, after time.Duration, become func()) time.Duration {
	t.Helper()
	target, port := at(t, addr)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at := make(chan time.Time, 1)
	time.AfterFunc(after, func() {
		become()
		at <- time.Now()
	})
	err := New(Options{}).Ready(ctx, target, []component.Check{{Kind: kind, Port: port}}, nil)
	now := time.Now()
	if err != nil {
		t.Error(err)
	}
	return now.Sub(<-at)
}
