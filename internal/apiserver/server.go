package apiserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/proxy/certs"
)

// Limits of requests.
const (
	headWithin  = 10 * time.Second // the head of a request has come
	bodyWithin  = 30 * time.Second // all of it has come
	writeWithin = 10 * time.Second // a client takes what an event stream has for it
	workWithin  = 15 * time.Minute // a request is answered; an image may have to be pulled
	idleWithin  = 2 * time.Minute  // between requests of a connection
	maxHead     = 32 << 10
	maxBody     = 2 << 20 // a project file
	maxStreams  = 100     // event streams at a time
)

// stopWithin is how long requests under way have when the server ends.
const stopWithin = 3 * time.Second

// ErrNoCredentials says that nobody could use the API.
var ErrNoCredentials = errors.New("the API has no credentials: nobody could use it")

// Images says which image a reference names, by content. When is missing, always or never: when to pull it first.
type Images func(ctx context.Context, ref, when string) (component.Image, string, error)

// Options are what a Server is made of.
type Options struct {
	Addr      string    // host:port
	Cert, Key string    // PEM files; both empty: no TLS
	Basic     *Basic    // nil: there is no such user
	Patient   bool      // wait for credentials and for the address, as a daemon does, which has other things to do
	AccessLog io.Writer // gets a line of JSON for each request; nil: there is none
	Version   string
	Log       *slog.Logger
}

// A Server serves the API. Make one with New.
type Server struct {
	o        Options
	tls      *tls.Config
	certs    *certs.Store
	tokens   *tokens
	limiter  *limiter
	streams  chan struct{} // a place for each stream
	handler  http.Handler
	document *huma.OpenAPI
	work     atomic.Pointer[work]
	head     time.Duration // the head of a request comes within it
	body     time.Duration // and all of it within this
	beat     time.Duration // how often a stream says that it lives
	addr     atomic.Pointer[net.TCPAddr]
}

// work is what requests are answered with, while Run runs.
type work struct {
	etcd   *etcdstate.Client
	images Images
	ending <-chan struct{} // closed when streams are to end
}

// New returns a server that does not listen yet. It fails when its files do not work.
func New(o Options) (*Server, error) {
	if o.AccessLog == nil {
		o.AccessLog = io.Discard
	}
	s := &Server{o: o, tokens: newTokens(), limiter: newLimiter(), streams: make(chan struct{}, maxStreams), head: headWithin, body: bodyWithin, beat: beat}
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		return nil, fmt.Errorf("address of the API: %w", err)
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("the certificate of the API and its key go together")
	}
	if b := o.Basic; b != nil && (b.Username == "" || b.Password == "" || !b.Role.includes(Viewer)) {
		return nil, errors.New("a user of the API needs a name, a password and a role")
	}
	if o.Cert != "" {
		s.certs = certs.NewStore(o.Log)
		choice, err := s.certs.Use([]certs.Pair{{Cert: o.Cert, Key: o.Key}})
		if err != nil {
			return nil, err
		}
		s.tls = certs.Config(choice)
	}
	sites := http.NewCrossOriginProtection() // a browser may know the password, and send it for any page
	sites.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, problem(http.StatusForbidden, "a page of another site sent this"))
	}))
	s.handler = s.record(s.bound(sites.Handler(s.authenticate(s.read(s.routes())))))
	return s, nil
}

// Run serves until ctx ends. Who is patient waits until there is a credential; else that there is none is
// ErrNoCredentials.
func (s *Server) Run(ctx context.Context, etcd *etcdstate.Client, images Images) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s.work.Store(&work{etcd: etcd, images: images, ending: ctx.Done()})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.tokens.forget()
	defer end(nil)
	wg.Go(func() {
		if err := etcd.WatchTokens(ctx, s.tokens.set); ctx.Err() == nil {
			end(fmt.Errorf("watch tokens: %w", err))
		}
	})
	if s.certs != nil {
		wg.Go(func() { s.poll(ctx) })
	}
	err := s.serve(ctx)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Cause(ctx))) && !errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Cause(ctx)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serve listens once there is a credential, and answers until ctx ends.
func (s *Server) serve(ctx context.Context) error {
	if err := s.credentials(ctx); err != nil {
		return err
	}
	l, err := s.listen(ctx)
	if err != nil {
		return err
	}
	addr, _ := l.Addr().(*net.TCPAddr)
	s.addr.Store(addr)
	s.o.Log.Info("api serves", "addr", l.Addr().String(), "tls", s.tls != nil)
	if s.tls == nil && !addr.IP.IsLoopback() {
		s.o.Log.Warn("api serves without tls: credentials can be read on the way", "addr", l.Addr().String())
	}
	srv := s.server(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	served := make(chan error, 1)
	wg.Go(func() {
		if s.tls != nil {
			served <- srv.ServeTLS(l, "", "")
			return
		}
		served <- srv.Serve(l)
	})
	select {
	case err := <-served:
		return fmt.Errorf("serve api: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	if srv.Shutdown(stopping) != nil {
		_ = srv.Close() // what is left is cut
	}
	return nil
}

// server is one that is not used yet: one that was shut down cannot serve again.
func (s *Server) server(ctx context.Context) *http.Server {
	srv := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: s.head, IdleTimeout: idleWithin, MaxHeaderBytes: maxHead,
		ErrorLog:    slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug), // what clients do wrong
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		Protocols:   new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(s.tls == nil)
	if s.tls != nil {
		srv.TLSConfig = s.tls.Clone()
	}
	return srv
}

// credentials waits for a credential that lets anybody in.
func (s *Server) credentials(ctx context.Context) error {
	said := false
	for s.o.Basic == nil {
		changed := s.tokens.next()
		if s.tokens.any(time.Now()) {
			return nil
		}
		switch {
		case s.tokens.ready() && !s.o.Patient:
			return ErrNoCredentials
		case s.tokens.ready() && !said:
			said = true
			s.o.Log.Warn("api is off: it has no credentials; 'gantryd token create' makes one")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// listen listens. Who is patient tries again when it cannot: the process that it replaces may have the address.
func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	for said := false; ; said = true {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.o.Addr)
		switch {
		case err == nil:
			return l, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !s.o.Patient:
			return nil, fmt.Errorf("serve api: %w", err)
		case !said:
			s.o.Log.Error("api cannot listen; it tries again", "err", err)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// poll reads the certificates again when their files change.
func (s *Server) poll(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.certs.Poll(now)
		case <-ctx.Done():
			return
		}
	}
}

// bound bounds the time in which a request comes and is answered.
func (s *Server) bound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(s.body)) // every server of ours knows deadlines
		_ = rc.SetWriteDeadline(time.Now().Add(workWithin + writeWithin))
		next.ServeHTTP(w, r)
	})
}

// read reads the body of a request whole: what is known to have come needs no deadline any more.
func (s *Server) read(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		switch _, large := errors.AsType[*http.MaxBytesError](err); {
		case large:
			answer(w, r, problem(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", maxBody))
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			answer(w, r, problem(http.StatusRequestTimeout, "the body did not come within %v", s.body))
			return
		case err != nil:
			answer(w, r, problem(http.StatusBadRequest, "the body cannot be read"))
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}
