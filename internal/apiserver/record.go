package apiserver

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// maxRequestID bounds an ID that a client gives.
const maxRequestID = 64

// An entry is what the access log tells of a request.
type entry struct {
	id     string
	who    string // whose credential it had
	status int
	bytes  int64
}

type entryKey struct{}

func entryOf(ctx context.Context) *entry {
	e, _ := ctx.Value(entryKey{}).(*entry)
	return e
}

// requestID is the ID of the request that ctx belongs to.
func requestID(ctx context.Context) string {
	if e := entryOf(ctx); e != nil {
		return e.id
	}
	return ""
}

// record gives each request its ID and its line in the access log.
func (s *Server) record(next http.Handler) http.Handler {
	access := slog.New(slog.NewJSONHandler(s.o.AccessLog, nil))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		e := &entry{id: r.Header.Get("X-Request-ID")}
		if !goodID(e.id) {
			e.id = rand.Text()
		}
		w.Header().Set("X-Request-ID", e.id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		defer func() {
			access.Info("request", "request", e.id, "client", clientOf(r).String(), "who", e.who, "method", r.Method, "path", r.URL.Path,
				"proto", r.Proto, "status", e.status, "bytes", e.bytes, "elapsed_ms", time.Since(start).Milliseconds())
		}()
		next.ServeHTTP(&recorder{w, e}, r.WithContext(context.WithValue(r.Context(), entryKey{}, e)))
	})
}

// goodID reports whether an ID may go to logs as it is.
func goodID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	return !strings.ContainsFunc(id, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.", c)
	})
}

// A recorder notes what is answered.
type recorder struct {
	http.ResponseWriter
	entry *entry
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.entry.status == 0 {
		r.entry.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.entry.status == 0 {
		r.entry.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.entry.bytes += int64(n)
	return n, err
}
