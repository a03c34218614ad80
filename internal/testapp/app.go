package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// app is the HTTP side. Its handlers may run at once.
type app struct {
	cfg     config
	out     *log.Logger
	started time.Time
	host    string

	sick              atomic.Bool
	hits, early, sigs atomic.Int64
	listening         atomic.Int64 // Unix time in nanoseconds
}

func newApp(cfg config, out *log.Logger) *app {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &app{cfg: cfg, out: out, started: time.Now(), host: host}
}

func (a *app) ready() bool {
	return !a.cfg.neverReady && time.Since(a.started) >= a.cfg.readyAfter
}

func (a *app) healthy() bool {
	return !a.sick.Load() && (!a.cfg.sickness || time.Since(a.started) < a.cfg.unhealthyAfter)
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.ready()) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.healthy()) })
	mux.HandleFunc("POST /unhealthy", func(w http.ResponseWriter, _ *http.Request) { a.sick.Store(true); answer(w, true) })
	mux.HandleFunc("GET /stream", a.stream)
	mux.HandleFunc("GET /slow", a.slow)
	mux.HandleFunc("GET /env", a.env)
	mux.HandleFunc("POST /signal", func(w http.ResponseWriter, _ *http.Request) {
		a.out.Printf("signal %d", a.sigs.Add(1))
		answer(w, true)
	})
	mux.HandleFunc("GET /signal", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, a.sigs.Load()) })
	mux.HandleFunc("GET /hits", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "{\"hits\":%d,\"before_ready\":%d}\n", a.hits.Load(), a.early.Load())
	})
	mux.HandleFunc("GET /since", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, a.listening.Load()) })
	mux.HandleFunc("GET /file", readFile)
	mux.HandleFunc("PUT /file", writeFile)
	mux.HandleFunc("GET /fetch", fetch)
	mux.HandleFunc("/", a.root)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			upgrade(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, ok bool) {
	if !ok {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (a *app) root(w http.ResponseWriter, r *http.Request) {
	a.hits.Add(1)
	if !a.ready() {
		a.early.Add(1)
	}
	w.Header().Set("X-Forwarded-For-Seen", r.Header.Get("X-Forwarded-For"))
	fmt.Fprintln(w, a.cfg.version, a.host)
}

// seconds is the length of time asked for, at most ten minutes.
func seconds(r *http.Request) time.Duration {
	s, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64)
	if err != nil || s < 0 {
		s = 1
	}
	return time.Duration(min(s, 600) * float64(time.Second))
}

func (a *app) stream(w http.ResponseWriter, r *http.Request) {
	end := time.After(seconds(r))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	rc := http.NewResponseController(w)
	for i := 0; ; i++ {
		fmt.Fprintf(w, "%s %d\n", a.cfg.version, i)
		if err := rc.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-end:
			fmt.Fprintln(w, "end")
			return
		case <-tick.C:
		}
	}
}

func (a *app) slow(w http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-time.After(seconds(r)):
		fmt.Fprintln(w, a.cfg.version, a.host)
	}
}

func (a *app) env(w http.ResponseWriter, _ *http.Request) {
	dir, err := os.Getwd()
	if err != nil {
		dir = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		Args     []string `json:"args"`
		Env      []string `json:"env"`
		UID      int      `json:"uid"`
		Dir      string   `json:"dir"`
		Hostname string   `json:"hostname"`
	}{a.cfg.args, os.Environ(), os.Getuid(), dir, a.host})
}

func readFile(w http.ResponseWriter, r *http.Request) {
	b, err := os.ReadFile(r.URL.Query().Get("path"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	_, _ = w.Write(b)
}

func writeFile(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err == nil {
		err = os.WriteFile(r.URL.Query().Get("path"), b, 0o644)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, true)
}

func fetch(w http.ResponseWriter, r *http.Request) {
	addr := os.Getenv(r.URL.Query().Get("env"))
	if rest, ok := strings.CutPrefix(addr, "tcp://"); ok {
		addr = "http://" + rest
	}
	// A connection of its own: one that is kept would go on to a server that was replaced meanwhile.
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(addr + r.URL.Query().Get("path"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// upgrade answers 101 and echoes bytes until the client is done.
func upgrade(w http.ResponseWriter, r *http.Request) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	if buf.Flush() != nil {
		return
	}
	_, _ = io.Copy(conn, buf)
}
