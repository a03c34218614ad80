package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// A Store is what the agent writes the desired state to.
type Store interface {
	PutProject(ctx context.Context, p component.Project) error
	SetDesired(ctx context.Context, name string, d component.Desired) (generation int64, err error)
	View(name string) component.View
}

// Options are what a Server is made of. All fields without "may be" must be set.
type Options struct {
	Store   Store
	Status  func(name string) component.HostStatus                                                        // of the supervisor
	Resolve func(ctx context.Context, ref string, progress func(string)) (component.Image, string, error) // image and its ID, pulled when absent
	Hub     *Hub
	Moved   <-chan struct{} // closed when another process is the agent; may be nil
	Version string
	Log     *slog.Logger
}

// A Server answers the commands of gantry.
//
// Actions on one component may overlap, so that a kill need not wait for a stop that drains; the
// later one wins and the earlier one says so.
type Server struct{ Options }

// NewServer returns a server; Serve runs it.
func NewServer(o Options) *Server { return &Server{o} }

// limits of a request.
const (
	maxRequest   = 4 << 20
	headerWithin = 5 * time.Second
	goodbye      = 2 * time.Second
)

// Serve answers on l until ctx ends or the daemon closes l, which it does itself as well. Streams under way are ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", s.ping)
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /follow", s.follow)
	mux.HandleFunc("POST /do", s.do)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: headerWithin,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	done, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		<-done.Done()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer cancel()
		if srv.Shutdown(bounded) != nil {
			_ = srv.Close() // what is left after the goodbye is cut
		}
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func (s *Server) ping(w http.ResponseWriter, _ *http.Request) {
	reply(w, Info{PID: os.Getpid(), Version: s.Version})
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	reply(w, s.Status(r.FormValue("component")))
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone when this fails
}

// follow streams the events of a component until the client leaves.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	events, stop := s.Hub.Subscribe(r.FormValue("component"))
	defer stop()
	out := newStream(w)
	out.flush()
	for {
		select {
		case e := <-events:
			out.event(e)
		case <-s.Moved:
			out.end(s.asError(nil))
			return
		case <-r.Context().Done():
			return
		}
	}
}

// do carries an action out and streams its story. When the client leaves, the action goes on: what
// was asked for is in the store.
func (s *Server) do(w http.ResponseWriter, r *http.Request) {
	var req Request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	events, stop := s.Hub.Subscribe(req.Component)
	defer stop()
	out := newStream(w)
	out.flush()
	if err := s.act(r.Context(), req, events, out); err != nil {
		out.end(s.asError(err))
		return
	}
	out.end(nil)
}

func (s *Server) asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case s.moved():
		return refuse(CodeMoved, "the agent was replaced: run the command again")
	case errors.Is(err, component.ErrEngineUnreachable):
		return refuse(CodeUnreachable, "%v", err)
	}
	return refuse(CodeFailed, "%v", err)
}

// moved reports whether another process is the agent now.
func (s *Server) moved() bool {
	select {
	case <-s.Moved:
		return true
	default:
		return false
	}
}

// A stream writes one JSON object a line, at once.
type stream struct {
	enc *json.Encoder
	rc  *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &stream{enc: json.NewEncoder(w), rc: http.NewResponseController(w)}
}

// Errors of the following mean that the client has left, which its context tells.

func (o *stream) flush()                  { _ = o.rc.Flush() }
func (o *stream) event(e component.Event) { o.write(line{Event: &e}) }
func (o *stream) end(err *Error)          { o.write(line{End: true, Error: err}) }

func (o *stream) write(l line) {
	_ = o.enc.Encode(l)
	o.flush()
}

// say is an event of the agent's own.
func (o *stream) say(name string, kind component.EventKind, text string) {
	o.event(component.Event{At: time.Now(), Component: name, Kind: kind, Text: text})
}
