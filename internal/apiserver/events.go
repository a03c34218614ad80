package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// beat is how often a stream says that it lives.
const beat = 15 * time.Second

// errOver ends a stream: its credential does not count any more, or the server ends.
var errOver = errors.New("the stream is over")

// A following asks for events.
type following struct {
	InProject
	Components []string `query:"component,explode" doc:"of these only, besides those of hosts"`
	LastID     string   `header:"Last-Event-ID" doc:"of the last event that came: the stream goes on after it"`
}

func (s *Server) eventRoutes(a huma.API) {
	r := route{"follow-events", http.MethodGet, "/v2/projects/{project}/events", "Follow what happens, as server-sent events", Viewer, 0}
	op := r.operation(a)
	op.Description += " A stream begins with what happens from now on, or after the event of Last-Event-ID, and tells each event once." +
		" The code gone says that events from then on are not kept any more. The data of each event is an Event, as JSON."
	a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Event](), true, "Event")
	op.Responses["200"] = &huma.Response{
		Description: "A stream", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	huma.Register(a, op, func(ctx context.Context, in *following) (*huma.StreamResponse, error) {
		out, err := s.follow(ctx, in)
		if err != nil {
			return nil, s.problemOf(ctx, err)
		}
		return out, nil
	})
}

// follow finds out whether there can be such a stream.
func (s *Server) follow(ctx context.Context, in *following) (*huma.StreamResponse, error) {
	after, err := api.ParseEventID(in.LastID)
	if err != nil {
		return nil, problem(http.StatusBadRequest, "Last-Event-ID is not one of ours")
	}
	w := s.work.Load()
	if _, err := operator.Read(ctx, w.etcd, in.Project); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) { //nolint:contextcheck // it takes the same one out of the request
		r, rw := unwrap(hc)
		select {
		case s.streams <- struct{}{}:
			defer func() { <-s.streams }()
		default:
			answer(rw, r, problem(http.StatusServiceUnavailable, "there are %d event streams already", cap(s.streams)))
			return
		}
		st := &stream{server: s, w: rw, rc: http.NewResponseController(rw), which: in.Components, after: after}
		if err := st.run(r.Context(), w, in.Project); !st.begun {
			answer(rw, r, s.problemOf(r.Context(), err))
		}
	}}, nil
}

// A stream tells one client of events.
type stream struct {
	server *Server
	which  []string
	after  api.EventID // the last one that the client has

	before etcdstate.Project // as it was last

	mu    sync.Mutex // guards what follows
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
	whole int64 // the last revision that was told whole; 0: none, or one is being told
}

// run tells events until the client is gone or too slow, its credential ends, or the server does.
func (st *stream) run(ctx context.Context, w *work, project string) error {
	identity := who(ctx)
	ctx, end := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end(nil)
	wg.Go(func() { end(st.guard(ctx, w, identity)) })
	from := st.after.Revision
	if st.after.Number > 0 {
		from-- // what came before is known, of this one a part
	}
	return w.etcd.Moments(ctx, project, from, st.look)
}

// guard keeps the connection alive, and returns why the stream is to end.
func (st *stream) guard(ctx context.Context, w *work, i identity) error {
	tick := time.NewTicker(st.server.beat)
	defer tick.Stop()
	var expired <-chan time.Time
	if !i.expires.IsZero() {
		t := time.NewTimer(time.Until(i.expires))
		defer t.Stop()
		expired = t.C
	}
	for {
		changed := st.server.tokens.next()
		if !st.server.tokens.still(i, time.Now()) {
			return errOver
		}
		select {
		case <-tick.C:
			if err := st.live(); err != nil {
				return err
			}
		case <-changed:
		case <-expired:
			return errOver
		case <-w.ending:
			return errOver
		case <-ctx.Done():
			return nil
		}
	}
}

// look tells what happened up to a revision since the one before.
func (st *stream) look(revision int64, p etcdstate.Project) error {
	first := st.before.Components == nil
	before := st.before
	st.before = p
	if first {
		return st.begin(api.EventID{Revision: revision})
	}
	st.reached(0)
	if err := st.tell(revision, before, p); err != nil {
		return err
	}
	st.reached(revision)
	return nil
}

// reached notes the last revision that was told whole; 0: one is being told.
func (st *stream) reached(revision int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.whole = revision
}

// live tells the client that the stream lives, and where it is: events of others move the revision on, and who
// comes back with an old one would find that etcd forgot it.
func (st *stream) live() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.whole == 0 {
		return st.put(":\n\n")
	}
	return st.put("id: " + api.EventID{Revision: st.whole}.String() + "\n\n")
}

// tell tells the events between two looks.
func (st *stream) tell(revision int64, before, p etcdstate.Project) error {
	for i, e := range operator.NewEvents(before, p, nil, time.Now().UTC()) {
		id := api.EventID{Revision: revision, Number: i + 1}
		if revision == st.after.Revision && id.Number <= st.after.Number {
			continue
		}
		if operator.Again(e, before, p) {
			continue
		}
		if e.Component != "" && len(st.which) > 0 && !slices.Contains(st.which, e.Component) {
			continue
		}
		data, err := json.Marshal(api.Event{At: e.At, Component: e.Component, Host: e.Host, Kind: e.Kind, Generation: e.Generation, Text: e.Text})
		if err != nil {
			return err
		}
		if err := st.write(fmt.Sprintf("id: %s\ndata: %s\n\n", id, data)); err != nil {
			return err
		}
	}
	return nil
}

// begin begins the answer. Its ID lets a client resume that is cut off before the first event.
func (st *stream) begin(id api.EventID) error {
	if st.after.Number > 0 {
		id = st.after
	}
	st.mu.Lock()
	st.begun = true
	if id.Number == 0 {
		st.whole = id.Revision
	}
	st.w.Header().Set("Content-Type", "text/event-stream")
	st.w.WriteHeader(http.StatusOK)
	st.mu.Unlock()
	return st.write("id: " + id.String() + "\n\n")
}

func (st *stream) write(text string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.put(text)
}

// put writes to the client, which has some time to take it. Before the answer begins it writes nothing. The caller
// has the lock.
func (st *stream) put(text string) error {
	if !st.begun {
		return nil
	}
	if err := st.rc.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	if _, err := st.w.Write([]byte(text)); err != nil {
		return err
	}
	return st.rc.Flush()
}
