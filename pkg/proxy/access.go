package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"time"
	"unsafe"

	"github.com/gantryd/gantryd/pkg/proxy/internal/h1"
	"github.com/gantryd/gantryd/pkg/proxy/internal/hostname"
	"github.com/gantryd/gantryd/pkg/proxy/internal/routes"
)

// flushLog is how long the end of the proxy waits for the access log's reader.
const flushLog = 2 * time.Second

// closeAccessLog writes what is left of the access log. It may be called again.
func (p *Proxy) closeAccessLog() {
	if p.access == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.within()), flushLog)
	defer cancel()
	if err := p.access.Close(ctx); err != nil {
		p.log.Warn("write access log", "err", err)
	}
}

// newRoutes are the rules of binds, which do not conflict.
func newRoutes(log *slog.Logger, binds []bind) *routes.Table[*front] {
	rules := make([]routes.Rule[*front], 0, len(binds))
	for _, b := range binds {
		rules = append(rules, routes.Rule[*front]{Name: b.front.name, Hosts: b.match.Hosts, Path: b.match.Path, Value: b.front})
	}
	t, err := routes.New(rules)
	if err != nil {
		log.Error("route requests", "err", err) // cannot be: each rule and each pair was checked
	}
	return t
}

// route finds the listener that a request is for, or the status to answer with.
func (w *web) route(req *h1.Request) (*front, int) {
	t := w.table.Load()
	if t.only != nil {
		return t.only, 0
	}
	name := ""
	if len(req.Host) > 0 {
		var err error
		if name, _, err = hostname.FromAuthority(text(req.Host)); err != nil {
			return nil, http.StatusBadRequest
		}
	}
	if t.routes == nil {
		return nil, http.StatusNotFound
	}
	switch f, verdict := t.routes.Find(name, text(req.Path)); verdict {
	case routes.Found:
		return f, 0
	case routes.Ambiguous:
		return nil, http.StatusBadRequest
	default:
		return nil, http.StatusNotFound
	}
}

// text is b as a string, for functions that look at it and keep nothing.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
