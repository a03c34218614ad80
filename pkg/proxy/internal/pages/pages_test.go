package pages

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

func TestBuiltIn(t *testing.T) {
	s, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	s.Poll(slog.New(slog.DiscardHandler))
	tests := []struct {
		kind   Kind
		status int
		retry  string
		title  string
	}{
		{BadGateway, 502, "", "Bad gateway"},
		{Unavailable, 503, "5", "Service unavailable"},
		{GatewayTimeout, 504, "", "Gateway timeout"},
		{Maintenance, 503, "60", "Maintenance"},
	}
	for _, tt := range tests {
		for accept, kind := range map[string]string{browser: "text/html; charset=utf-8", "*/*": "text/plain; charset=utf-8"} {
			p := s.Page(tt.kind, accept)
			if p.Status != tt.status || p.RetryAfter != tt.retry || p.ContentType != kind || !strings.Contains(string(p.Body), tt.title) {
				t.Errorf("page %d for %q: %d, %q, retry after %q: %s", tt.kind, accept, p.Status, p.ContentType, p.RetryAfter, p.Body)
			}
		}
	}
}

func TestAccept(t *testing.T) {
	for accept, want := range map[string]bool{
		browser: true, "text/html": true, "TEXT/HTML; q=1": true, "application/json, text/html;q=0.1": true, "text/*": true,
		"": false, "*/*": false, "application/json": false, "text/plain": false, "text/html;q=0": false, "text/html; q=0.000, */*": false,
		"text/html;q=0.001": true, ",;,": false,
	} {
		if got := acceptsHTML(accept); got != want {
			t.Errorf("%q accepts HTML = %v, want %v", accept, got, want)
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "503.html")
	put(t, path, "one")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	step := func(name, want, warning string) {
		t.Helper()
		logged.Reset()
		s.Poll(log)
		s.Poll(log)
		if got := string(s.Page(Unavailable, browser).Body); !strings.Contains(got, want) {
			t.Errorf("%s: page %.40q, want %q", name, got, want)
		}
		if n := strings.Count(logged.String(), "level=WARN"); warning == "" && n > 0 || warning != "" && (n != 1 || !strings.Contains(logged.String(), warning)) {
			t.Errorf("%s: logged %q, want one warning with %q", name, &logged, warning)
		}
	}
	step("as it was", "one", "")
	if got := string(s.Page(Unavailable, "*/*").Body); strings.Contains(got, "one") {
		t.Errorf("a client that does not ask for HTML gets %q", got)
	}
	if got := string(s.Page(Maintenance, browser).Body); !strings.Contains(got, "Maintenance") {
		t.Errorf("a page that is not in the directory: %q", got)
	}
	put(t, path, "second")
	step("changed", "second", "")
	put(t, path, strings.Repeat("x", maxPage+1))
	step("too large", "second", "more than 262144 bytes")
	put(t, path, "third")
	step("small again", "third", "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	step("gone", "Service unavailable", "")
	put(t, filepath.Join(dir, "maintenance.html"), "soon")
	step("another one appears", "Service unavailable", "")
	if got := string(s.Page(Maintenance, browser).Body); got != "soon" {
		t.Errorf("maintenance page %q, want the new one", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "502.html"), strings.Repeat("x", maxPage+1))
	for path, want := range map[string]string{
		filepath.Join(dir, "gone"): "no such file", filepath.Join(dir, "502.html"): "not a directory", dir: "502.html: more than",
	} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("open %s: %v, want %q", path, err, want)
		}
	}
}

func TestPageAllocatesNothing(t *testing.T) {
	s, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { s.Page(Unavailable, browser) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
