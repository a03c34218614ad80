package benchtest

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/health"
)

// BenchmarkReadiness measures how late it is noticed that a server has become ready, at some moment
// of its first two seconds.
func BenchmarkReadiness(b *testing.B) {
	var late []time.Duration
	for range 15 {
		late = append(late, noticed(b, 20*time.Millisecond+rand.N(1900*time.Millisecond)))
	}
	results.add("readiness noticed, in the first 2 s", "ms", 5, ms(of(late).median), of(late).String())
	b.ReportMetric(ms(of(late).median), "ms-late")
	b.ReportMetric(0, "ns/op")
}

func noticed(tb testing.TB, after time.Duration) time.Duration {
	tb.Helper()
	var ready atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().(*net.TCPAddr)
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	since := make(chan time.Time, 1)
	time.AfterFunc(after, func() {
		ready.Store(true)
		since <- time.Now()
	})
	target := component.ProbeTarget{ID: "c", Addr: addr.IP.String()}
	checks := []component.Check{{Kind: component.CheckHTTP, Port: addr.Port, Path: "/ready"}}
	if err := health.New(health.Options{}).Ready(ctx, target, checks, nil); err != nil {
		tb.Fatal(err)
	}
	return time.Since(<-since)
}
