package health_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/health"
)

// A component that answers 503 until it is ready.
func ExampleProber_Ready() {
	var ready atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	number, _ := strconv.Atoi(port)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	target := component.ProbeTarget{ID: "4ae76210a4fe77", Addr: host}
	checks := []component.Check{{ID: "web", Kind: component.CheckHTTP, Port: number, Path: "/ping"}}
	err := health.New(health.Options{}).Ready(ctx, target, checks, func(e component.Event) {
		if e.Kind == component.EventCheckFailed {
			fmt.Println(e.Text)
			ready.Store(true)
		}
	})
	fmt.Println("ready:", err == nil)
	// Output:
	// Health check failed
	// ready: true
}

// A check that cannot be run fails.
func ExampleProber_Probe() {
	p := health.New(health.Options{})
	target := component.ProbeTarget{ID: "4ae76210a4fe77", Addr: "172.17.0.4"}
	fmt.Println(p.Probe(context.Background(), target, component.Check{Kind: component.CheckHTTP}))
	fmt.Println(p.Probe(context.Background(), target, component.Check{Kind: "ftp", Port: 21}))
	// Output:
	// http: no port
	// Unknown health check: ftp
}

// The proxy knows how many connections a container has; it may be stopped when there are none.
func ExampleProber_Terminated() {
	open := 2
	target := component.ProbeTarget{ID: "4ae76210a4fe77", Conns: func() int { open--; return open }}
	_ = health.New(health.Options{}).Terminated(context.Background(), target, nil, func(e component.Event) {
		fmt.Println(e.Text)
	})
	// Output:
	// Waiting for 1 termination checks
	// Running termination check: connection
	// Container still has existing connections: 4ae76210a4fe
	// Termination check failed
	// Container has no remaining connections: 4ae76210a4fe
	// Monitor check finished
}

// Health says when the answer changes, until its context ends.
func ExampleProber_Health() {
	ctx, stop := context.WithCancel(context.Background())
	target := component.ProbeTarget{ID: "4ae76210a4fe77", Conns: func() int { return 7 }}
	checks := []component.Check{{Kind: component.CheckConnection}}
	err := health.New(health.Options{}).Health(ctx, target, checks, func(healthy bool, problem error) {
		fmt.Println(healthy, problem)
		stop()
	})
	fmt.Println(err)
	// Output:
	// false check "connection": connections: 7 open
	// context canceled
}

// Signals tell a container that its drain begins.
func ExampleProber_Signal() {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("container:", r.Method, r.URL)
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	number, _ := strconv.Atoi(port)

	target := component.ProbeTarget{ID: "4ae76210a4fe77", Addr: host}
	signals := []component.Signal{{Kind: component.CheckHTTP, Port: number, Path: "/quit"}, {Kind: "smoke"}}
	health.New(health.Options{}).Signal(context.Background(), target, signals, func(e component.Event) {
		fmt.Println(e.Text + "|" + e.Detail)
	})
	// Output:
	// Sending 2 termination signals|
	// Sending termination signal: http|
	// container: POST /quit
	// Sending termination signal: smoke|
	// Termination signal failed|Unknown termination signal kind: smoke
}
