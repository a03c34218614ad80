package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// env is an environment in which only these variables are set.
func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(k string) string { return m[k] }
}

func pong(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/_ping" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Api-Version", "1.41")
}

// listenUnix serves h on a socket and returns DOCKER_HOST for it.
func listenUnix(t *testing.T, path string, h http.HandlerFunc) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return "unix://" + path
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	tcp := httptest.NewServer(http.HandlerFunc(pong))
	t.Cleanup(tcp.Close)
	website := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(website.Close)
	secure := httptest.NewTLSServer(http.HandlerFunc(pong))
	t.Cleanup(secure.Close)
	addr := func(s *httptest.Server) string { return "tcp://" + s.Listener.Addr().String() }

	tests := []struct {
		name   string
		args   []string
		env    func(string) string
		want   int
		stderr string // what it contains
	}{
		{
			name: "an engine on a socket",
			env:  env("DOCKER_HOST", listenUnix(t, filepath.Join(dir, "up.sock"), pong)),
		},
		{
			name: "an engine on TCP",
			env:  env("DOCKER_HOST", addr(tcp)),
		},
		{
			name: "an engine with TLS",
			env: env("DOCKER_HOST", addr(secure), "DOCKER_TLS_VERIFY", "1",
				"DOCKER_CERT_PATH", certificates(t, secure)),
		},
		{
			name:   "TLS without certificates",
			env:    env("DOCKER_HOST", addr(secure), "DOCKER_TLS_VERIFY", "1", "HOME", dir),
			want:   1,
			stderr: "ca.pem",
		},
		{
			name:   "nobody listens",
			env:    env("DOCKER_HOST", "unix://"+filepath.Join(dir, "down.sock")),
			want:   1,
			stderr: "no such file",
		},
		{
			name:   "nobody comes within the wait",
			args:   []string{"-wait", "10ms"},
			env:    env("DOCKER_HOST", "unix://"+filepath.Join(dir, "down.sock")),
			want:   1,
			stderr: "no such file",
		},
		{
			name:   "something else answers",
			env:    env("DOCKER_HOST", addr(website)),
			want:   1,
			stderr: "not a Docker Engine's answer",
		},
		{
			name:   "an address it cannot check",
			env:    env("DOCKER_HOST", "ssh://h1"),
			want:   1,
			stderr: `"ssh://h1": only unix:// and tcp://`,
		},
		{
			name:   "an address that is none",
			env:    env("DOCKER_HOST", "://"),
			want:   1,
			stderr: "read DOCKER_HOST",
		},
		{
			name:   "an unknown flag",
			args:   []string{"-x"},
			env:    env(),
			want:   2,
			stderr: "-x",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stderr bytes.Buffer
			got := run(t.Context(), tt.args, tt.env, &stderr)
			if got != tt.want || !strings.Contains(stderr.String(), tt.stderr) || (tt.want == 0) != (stderr.Len() == 0) {
				t.Fatalf("run = %d, stderr %q; want %d, stderr with %q", got, &stderr, tt.want, tt.stderr)
			}
		})
	}
}

// certificates writes the three files of DOCKER_CERT_PATH for the server s and returns their folder.
func certificates(t *testing.T, s *httptest.Server) string {
	t.Helper()
	dir := t.TempDir()
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: marshalKey(t, s)})
	for name, data := range map[string][]byte{"ca.pem": cert, "cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func marshalKey(t *testing.T, s *httptest.Server) []byte {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestWaitsForAnEngineThatComesLater(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "late.sock")
	listenUnix(t, filepath.Join(dir, "early.sock"), pong)
	timer := time.AfterFunc(300*time.Millisecond, func() {
		if err := os.Rename(filepath.Join(dir, "early.sock"), path); err != nil {
			t.Errorf("move the socket: %v", err)
		}
	})
	defer timer.Stop()
	var stderr bytes.Buffer
	if got := run(t.Context(), []string{"-wait", "20s"}, env("DOCKER_HOST", "unix://"+path), &stderr); got != 0 {
		t.Fatalf("run = %d, stderr %q, want 0", got, &stderr)
	}
}

func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var stderr bytes.Buffer
	begin := time.Now()
	host := "unix://" + filepath.Join(t.TempDir(), "never.sock")
	if got := run(ctx, []string{"-wait", "1h"}, env("DOCKER_HOST", host), &stderr); got != 1 {
		t.Fatalf("run = %d, want 1", got)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Fatalf("run took %v after its context ended", took)
	}
}
