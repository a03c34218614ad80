package pages

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gantryd/gantryd/pkg/proxy/internal/smallfile"
)

// maxPage bounds a file; it is kept in memory and sent whole.
const maxPage = 256 << 10

// A Kind is an occasion for a page.
type Kind int

// The kinds.
const (
	BadGateway     Kind = iota // the target did not answer as it should
	Unavailable                // there is no target
	GatewayTimeout             // the target did not answer in time
	Maintenance                // an operator said so
	kinds
)

// OfStatus is the kind of a status that the proxy answers with.
func OfStatus(status int) Kind {
	switch status {
	case http.StatusBadGateway:
		return BadGateway
	case http.StatusGatewayTimeout:
		return GatewayTimeout
	}
	return Unavailable
}

// A Page is an answer.
type Page struct {
	Status      int
	ContentType string
	RetryAfter  string // seconds, the value of the header; empty for none
	Body        []byte // not to be changed
}

// builtin is what is said without a directory.
func builtin(k Kind) (name string, status int, retryAfter, title, text string) {
	switch k {
	case BadGateway:
		return "502.html", http.StatusBadGateway, "", "Bad gateway", "The server behind this address did not answer as it should."
	case GatewayTimeout:
		return "504.html", http.StatusGatewayTimeout, "", "Gateway timeout", "The server behind this address did not answer in time."
	case Maintenance:
		return "maintenance.html", http.StatusServiceUnavailable, "60", "Maintenance", "This site is down for maintenance. Please come back soon."
	default:
		return "503.html", http.StatusServiceUnavailable, "5", "Service unavailable", "The server behind this address is not running at the moment."
	}
}

const template = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>%[1]s</title>
<style>body{font-family:sans-serif;max-width:32em;margin:20vh auto;padding:0 1em;color:#333}</style></head>
<body><h1>%[1]s</h1><p>%[2]s</p></body></html>
`

// A Set is the pages of one listener. Make one with Open.
type Set struct {
	dir   string
	plain [kinds]Page
	html  [kinds]atomic.Pointer[Page]

	polling sync.Mutex
	files   [kinds]*smallfile.File // nil without a directory; guarded by polling, as said is
	said    [kinds]string          // the failure that was logged last
}

// Open reads the pages of dir; with none, the set is the built-in one. A file that cannot be read or is
// too large is an error that names it; a missing file is not.
func Open(dir string) (*Set, error) {
	s := &Set{dir: dir}
	if dir != "" {
		if info, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("open pages: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("open pages: %s is not a directory", dir)
		}
	}
	for k := range kinds {
		name, status, retry, title, text := builtin(k)
		s.plain[k] = Page{status, "text/plain; charset=utf-8", retry, fmt.Appendf(nil, "%d %s\n%s\n", status, title, text)}
		s.set(k, nil)
		if dir == "" {
			continue
		}
		s.files[k] = smallfile.New(filepath.Join(dir, name), maxPage)
		if err := s.read(k); err != nil {
			return nil, fmt.Errorf("open pages: %w", err)
		}
	}
	return s, nil
}

// Dir is the directory given to Open.
func (s *Set) Dir() string { return s.dir }

// set makes body the HTML of k; nil is the built-in one.
func (s *Set) set(k Kind, body []byte) {
	_, status, retry, title, text := builtin(k)
	if body == nil {
		body = fmt.Appendf(nil, template, title, text)
	}
	s.html[k].Store(&Page{status, "text/html; charset=utf-8", retry, body})
}

// read reads the file of k.
func (s *Set) read(k Kind) error {
	body, err := s.files[k].Read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.set(k, body)
	return nil
}

// Poll reads the files that changed.
func (s *Set) Poll(log *slog.Logger) {
	s.polling.Lock()
	defer s.polling.Unlock()
	for k, f := range s.files {
		if f == nil || !f.Changed() {
			continue
		}
		said := ""
		if err := s.read(Kind(k)); err != nil {
			if said = err.Error(); said != s.said[k] {
				log.Warn("new page does not work, the old one stays", "err", err)
			}
		}
		s.said[k] = said
	}
}

// Page is the page of k for a client with this Accept header.
func (s *Set) Page(k Kind, accept string) *Page {
	if acceptsHTML(accept) {
		return s.html[k].Load()
	}
	return &s.plain[k]
}

// acceptsHTML reports whether the client asks for HTML, not only for anything.
func acceptsHTML(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		kind, params, _ := strings.Cut(part, ";")
		kind = strings.TrimSpace(kind)
		if !strings.EqualFold(kind, "text/html") && !strings.EqualFold(kind, "application/xhtml+xml") && kind != "text/*" {
			continue
		}
		q := strings.TrimLeft(params, " \t")
		if q, ok := strings.CutPrefix(q, "q=0"); ok && strings.Trim(q, ".0 ") == "" {
			continue
		}
		return true
	}
	return false
}
