package proxybench

import (
	"slices"
	"time"
)

// Tests of a Job.
const (
	TestConns    = "conns"    // connect, a byte each way, close, and again; Conns at once
	TestRequests = "requests" // one request after another on each of Conns connections
	TestRate     = "rate"     // Rate requests a second over Conns connections
	TestDownload = "download" // Conns connections take all they get
	TestUpload   = "upload"   // Conns connections send all they can
	TestIdle     = "idle"     // Conns connections, each after one request
)

// A Job is one measurement.
type Job struct {
	Test  string
	Addr  string // ip:port of the proxy, or of the server itself
	Conns int
	Rate  int           // of TestRate, a second
	Warm  time.Duration // before it counts; of TestIdle between the last connection and the count
	For   time.Duration // while it counts
	PID   int           // whose, and whose children's, processor time, memory and descriptors count; 0: nobody's
}

// loops is how many loops of the generator do the job. One handles more events at once than two; only
// bulk needs two processors at both ends.
func (j Job) loops() int {
	if j.Test == TestDownload || j.Test == TestUpload {
		return min(j.Conns, bulkLoops)
	}
	return 1
}

// bulkLoops is how many loops of the generator, and of the server, take part in bulk.
const bulkLoops = 2

// A Result is what a Job measured.
type Result struct {
	Ops     int64         // connections or requests that were answered
	Bytes   int64         // of a download or upload
	Elapsed time.Duration // while it counted
	CPU     time.Duration // processor time of PID
	LoadCPU time.Duration // processor time of the generator
	P50     time.Duration
	P99     time.Duration
	Memory  int64 // bytes that PID has grown by; TestIdle only
	Open    int64 // descriptors more that PID has; TestIdle only
	Errors  int64
	Error   string // the first of them
}

// Rate is operations a second.
func (r Result) Rate() float64 { return float64(r.Ops) / r.Elapsed.Seconds() }

// GB is gigabytes a second.
func (r Result) GB() float64 { return float64(r.Bytes) / 1e9 / r.Elapsed.Seconds() }

// CPUPerOp is the processor time of an operation.
func (r Result) CPUPerOp() float64 { return r.CPU.Seconds() / float64(max(r.Ops, 1)) }

// CPUPerGB is the processor time of a gigabyte.
func (r Result) CPUPerGB() float64 { return r.CPU.Seconds() / (float64(max(r.Bytes, 1)) / 1e9) }

// percentile is the value that the part p of sorted is not above.
func percentile(sorted []int64, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := min(int(p*float64(len(sorted))), len(sorted)-1)
	return time.Duration(sorted[i])
}

// median is the middle of xs, 0 without any.
func median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(xs))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}
