package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestRunSubcommands(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	tests := []struct {
		name string
		args []string
		want int
		out  string
	}{
		{"print keeps its arguments apart", []string{"app", "print", "a b", "c"}, 0, "[\"a b\",\"c\"]\n"},
		{"exit takes a code", []string{"app", "exit", "7"}, 7, ""},
		{"check fails on 404", []string{"app", "check", srv.URL}, 1, "404 Not Found\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			got := run(tt.args, func(string) string { return "" }, &out, io.Discard)
			if got != tt.want || out.String() != tt.out {
				t.Errorf("run(%q) = %d %q, want %d %q", tt.args, got, out.String(), tt.want, tt.out)
			}
		})
	}
}

func TestReadConfigRefusesNonsense(t *testing.T) {
	_, err := readConfig(func(name string) string {
		if name == "READY_AFTER" {
			return "soon"
		}
		return ""
	})
	if err == nil || !strings.Contains(err.Error(), "READY_AFTER") {
		t.Errorf("readConfig() error = %v, want one that names READY_AFTER", err)
	}
}

func TestReadyAndHealth(t *testing.T) {
	get := func(cfg config, path string) int {
		rec := httptest.NewRecorder()
		newApp(cfg, log.New(io.Discard, "", 0)).handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		return rec.Code
	}
	tests := []struct {
		name string
		cfg  config
		path string
		want int
	}{
		{"ready at once", config{}, "/ready", 200},
		{"not ready yet", config{readyAfter: time.Hour}, "/ready", 503},
		{"never ready", config{neverReady: true}, "/ready", 503},
		{"healthy", config{}, "/healthz", 200},
		{"sick from the start", config{sickness: true}, "/healthz", 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := get(tt.cfg, tt.path); got != tt.want {
				t.Errorf("GET %s = %d, want %d", tt.path, got, tt.want)
			}
		})
	}
}
