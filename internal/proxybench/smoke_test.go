package proxybench

import (
	"testing"
	"time"

	"github.com/gantryd/gantryd/internal/daemontest"
)

// TestMeasures sees that what is measured is what happened: the server has seen all that the generator
// counted, through the proxy as without it, and the proxy is charged for it. How fast anything was is
// not its subject.
func TestMeasures(t *testing.T) {
	s := newSpace(t)
	proxy := s.run(t, s.gantryd(gantryd, daemontest.Build(t), 7301)[:1])[0]
	const each = 500 * time.Millisecond // in which also a machine that stands still now and then gets something done
	for _, at := range []runner{{peer: peer{name: direct, tcp: serverAddr}}, proxy} {
		for _, m := range measures() {
			if m.http {
				continue
			}
			t.Run(at.name+" "+m.name, func(t *testing.T) {
				job := m.job
				job.Addr, job.Warm, job.For, job.PID = at.tcp, each/2, each, at.pid
				before := s.counts(t)
				began := time.Now()
				r := s.load(t, job)
				r.check(t, job, s.counts(t).since(before), time.Since(began))
			})
		}
	}
	t.Run("idle", func(t *testing.T) {
		before := s.counts(t)
		r := s.load(t, Job{Test: TestIdle, Addr: proxy.tcp, Conns: 500, Warm: each, PID: proxy.pid})
		seen := s.counts(t).since(before)
		if r.Ops != 500 || r.Errors != 0 || r.Open < 1000 || seen.Conns != 500 || seen.Requests != 500 {
			t.Errorf("%+v, the server saw %+v; want 500 connections with a request, and two descriptors of each", r, seen)
		}
	})
}

// since is what came after.
func (c Counts) since(before Counts) Counts {
	return Counts{c.Conns - before.Conns, c.Requests - before.Requests, c.Echoed - before.Echoed, c.Taken - before.Taken}
}

// check holds a result against what the server saw of the whole job, of which r counted a part.
func (r Result) check(t *testing.T, j Job, seen Counts, took time.Duration) {
	t.Helper()
	if r.Errors != 0 || r.Elapsed < j.For || r.LoadCPU == 0 || (j.PID != 0) != (r.CPU > 0) {
		t.Errorf("%+v", r)
	}
	ops := map[string]int64{TestConns: seen.Echoed, TestRequests: seen.Requests, TestRate: seen.Requests}
	if n, ok := ops[j.Test]; ok && (r.Ops == 0 || r.Ops > n || r.P50 <= 0 || r.P99 < r.P50) {
		t.Errorf("%d operations, p50 %v, p99 %v; the server saw %d", r.Ops, r.P50, r.P99, n)
	}
	if j.Test == TestConns && seen.Conns < r.Ops {
		t.Errorf("%d connections; the server saw %d", r.Ops, seen.Conns)
	}
	bulk := j.Test == TestDownload || j.Test == TestUpload
	if bulk != (r.Bytes > 0) || j.Test == TestUpload && seen.Taken == 0 {
		t.Errorf("%d bytes; the server took %d", r.Bytes, seen.Taken)
	}
	// What was late, before the counting too, is made up for: only all of it has a bound.
	if most := float64(j.Rate)*took.Seconds() + float64(j.Conns); j.Test == TestRate && float64(seen.Requests) > most {
		t.Errorf("%d requests in %v, %d a second were asked for", seen.Requests, took, j.Rate)
	}
}

func TestMedian(t *testing.T) {
	tests := []struct {
		name string
		of   []float64
		want float64
	}{
		{"nothing", nil, 0}, {"one", []float64{3}, 3}, {"odd", []float64{9, 1, 3}, 3}, {"even", []float64{4, 1, 3, 2}, 2.5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := median(tt.of); got != tt.want {
				t.Errorf("median of %v = %v, want %v", tt.of, got, tt.want)
			}
		})
	}
}

// TestHeads feeds heads in every way they may be cut.
func TestHeads(t *testing.T) {
	const text = "GET / HTTP/1.1\r\nA: b\r\n\r\nGET /\r\r\n\r\n\nX: y\r\n\r\n"
	for cut := range len(text) {
		var v visitor
		if n := v.heads([]byte(text[:cut])) + v.heads([]byte(text[cut:])); n != 3 {
			t.Errorf("%d heads when cut at %d, want 3", n, cut)
		}
	}
}
