package apiserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantryd/gantryd/internal/etcdtest"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// A told is an event as a client reads it.
type told struct{ ID, Kind, Component string }

// A reader reads one stream.
type reader struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Scanner
	lastID string
}

// listen opens a stream as the holder of the token and waits for its beginning.
func (r *rig) listen(token, lastID, query string) *reader {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", r.url+"/v2/projects/shop/events"+query, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := client.Do(req) //nolint:bodyclose // the reader closes it
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(resp.Body)
		r.t.Fatalf("events = %d %s", resp.StatusCode, b)
	}
	s := &reader{t: r.t, resp: resp, lines: bufio.NewScanner(resp.Body)}
	r.t.Cleanup(s.close)
	for s.lines.Scan() && s.lines.Text() != "" {
		s.lastID = strings.TrimPrefix(s.lines.Text(), "id: ")
	}
	return s
}

func (s *reader) close() { _ = s.resp.Body.Close() }

// next is the next event; false at the end of the stream.
func (s *reader) next() (told, bool) {
	s.t.Helper()
	var e told
	for s.lines.Scan() {
		line := s.lines.Text()
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			s.lastID, e.ID = id, id
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var event api.Event
			if err := json.Unmarshal([]byte(data), &event); err != nil {
				s.t.Errorf("event %s: %v", data, err)
			}
			e.Kind, e.Component = event.Kind, event.Component
		}
		if line == "" && e.Kind != "" {
			return e, true
		}
	}
	return told{}, false
}

func (s *reader) take(n int) []told {
	s.t.Helper()
	var out []told
	for range n {
		e, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended after %v", out)
		}
		out = append(out, e)
	}
	return out
}

// ask asks for a state, which is an event.
func (r *rig) ask(name string) int64 {
	r.t.Helper()
	gen, err := r.etcd.SetDesired(r.t.Context(), "shop", name, component.Desired{Status: component.StatusStopped, By: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
	return gen
}

// together asks for two states in one transaction: two events of one revision.
func (r *rig) together() int64 {
	r.t.Helper()
	d := component.Desired{Status: component.StatusStopped, Operation: fmt.Sprint(time.Now().UnixNano())}
	gen, err := r.etcd.SetTogether(r.t.Context(), "shop", []etcdstate.Write{{Component: "web", Desired: d}, {Component: "db", Desired: d}})
	if err != nil {
		r.t.Fatal(err)
	}
	return gen
}

// TestEventsResume cuts a stream after each event and resumes it, at another server of the same etcd too:
// nothing is lost and nothing comes twice.
func TestEventsResume(t *testing.T) {
	r := newRig(t, nil)
	_, token := r.token(etcdstate.Token{Name: "page", Role: "viewer"})
	whole := r.listen(token, "", "")
	start := whole.lastID
	var want []told
	for range 3 {
		gen := r.ask("web")
		want = append(want, told{fmt.Sprintf("%d-1", gen), "asked", "web"})
		gen = r.together()
		want = append(want, told{fmt.Sprintf("%d-1", gen), "asked", "web"}, told{fmt.Sprintf("%d-2", gen), "asked", "db"})
	}
	if diff := cmp.Diff(whole.take(len(want)), want); diff != "" {
		t.Fatalf("live (-got +want):\n%s", diff)
	}
	other := &rig{t: t, member: r.member, etcd: r.etcd, access: r.access}
	var err error
	if other.server, err = New(r.server.o); err != nil {
		t.Fatal(err)
	}
	other.run()
	var got []told
	for last, i := start, 0; len(got) < len(want); i++ {
		s := []*rig{r, other}[i%2].listen(token, last, "")
		got = append(got, s.take(1)...)
		last = s.lastID
		s.close()
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("resumed (-got +want):\n%s", diff)
	}
	if got := r.listen(token, start, "?component=db").take(3); got[0] != want[2] || got[1] != want[5] || got[2] != want[8] {
		t.Errorf("of db: %v", got)
	}
	etcdtest.Compact(t, r.member.Endpoint())
	if a := r.do("GET", "/v2/projects/shop/events", "", "Last-Event-ID", start); a.status != http.StatusGone || a.code != api.CodeGone {
		t.Errorf("after a compaction: %d %s", a.status, a.body)
	}
}

// TestQuietStreamsAreResumed writes elsewhere until etcd forgets when something happened in the project: a stream that
// had nothing to tell lives on, and can be resumed.
func TestQuietStreamsAreResumed(t *testing.T) {
	r := newRig(t, func(_ *Options, s *Server) {
		if s != nil {
			s.beat = 20 * time.Millisecond
		}
	})
	_, token := r.token(etcdstate.Token{Name: "page", Role: "viewer"})
	s := r.listen(token, "", "")
	put, err := r.member.Client(t).Put(t.Context(), "/elsewhere", "x")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if id, err := api.ParseEventID(s.lastID); err != nil || id.Revision >= put.Header.Revision {
			break
		}
		if !s.lines.Scan() {
			t.Fatal("the stream ended")
		}
		if id, ok := strings.CutPrefix(s.lines.Text(), "id: "); ok {
			s.lastID = id
		}
	}
	last := s.lastID
	etcdtest.Compact(t, r.member.Endpoint())
	want := told{fmt.Sprintf("%d-1", r.ask("web")), "asked", "web"}
	if got := s.take(1)[0]; got != want {
		t.Errorf("the stream tells %v, want %v", got, want)
	}
	if got := r.listen(token, last, "").take(1)[0]; got != want {
		t.Errorf("resumed with %v, want %v", got, want)
	}
}

// TestStreamsEndWithTheirToken revokes the token of one stream; that of another goes on.
func TestStreamsEndWithTheirToken(t *testing.T) {
	r := newRig(t, nil)
	id, token := r.token(etcdstate.Token{Name: "a", Role: "viewer"})
	_, other := r.token(etcdstate.Token{Name: "b", Role: "viewer"})
	a, b := r.listen(token, "", ""), r.listen(other, "", "")
	if _, err := r.etcd.DeleteToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if e, ok := a.next(); ok {
		t.Errorf("a stream of a revoked token tells %v", e)
	}
	gen := r.ask("web")
	if got := b.take(1)[0]; got.ID != fmt.Sprintf("%d-1", gen) {
		t.Errorf("the other stream tells %v", got)
	}
}

func TestStreamsEndWhenTheirTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		token := etcdstate.Token{ID: "a", Role: "viewer", Expires: start.Add(time.Hour)}
		st := &stream{server: &Server{tokens: newTokens(), beat: beat}}
		st.server.tokens.set([]etcdstate.Token{token})
		err := st.guard(t.Context(), &work{ending: make(chan struct{})}, identity{token: "a", expires: token.Expires})
		if !errors.Is(err, errOver) || time.Since(start) != time.Hour {
			t.Errorf("ended after %v with %v", time.Since(start), err)
		}
	})
}

// update asks for web to be updated, and sends the status of the answer; 0 when none came.
func (r *rig) update(token string) <-chan int {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "POST", r.url+"/v2/projects/shop/rollouts", strings.NewReader(`{"components":["web"]}`))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	answered := make(chan int, 1)
	go func() {
		status := 0
		defer func() { answered <- status }()
		resp, err := client.Do(req)
		if err != nil {
			r.t.Errorf("update: %v", err)
			return
		}
		_ = resp.Body.Close()
		status = resp.StatusCode
	}()
	return answered
}

// TestLongWork takes longer to find an image than a body may take to come: the request goes on.
func TestLongWork(t *testing.T) {
	r := newRig(t, func(_ *Options, s *Server) {
		if s != nil {
			s.body = 500 * time.Millisecond
		}
	})
	for path, item := range r.server.document.Paths {
		if op := item.Post; op != nil && op.BodyReadTimeout >= 0 {
			t.Errorf("%s sets a deadline after the body has come", path)
		}
	}
	w := *r.server.work.Load()
	w.images = func(ctx context.Context, ref, when string) (component.Image, string, error) {
		select {
		case <-time.After(2 * r.server.body):
			return images(ctx, ref, when)
		case <-ctx.Done():
			return component.Image{}, "", ctx.Err()
		}
	}
	r.server.work.Store(&w)
	_, token := r.token(etcdstate.Token{Name: "ci", Role: "deployer"})
	if got := <-r.update(token); got != http.StatusAccepted {
		t.Errorf("the update = %d", got)
	}
}

// TestGracefulStop ends the server while a stream is open and a request under way: the stream ends at once,
// the request is answered.
func TestGracefulStop(t *testing.T) {
	r := newRig(t, nil)
	_, token := r.token(etcdstate.Token{Name: "page", Role: "deployer"})
	stream := r.listen(token, "", "")
	under, goOn := make(chan struct{}), make(chan struct{})
	w := *r.server.work.Load()
	w.images = func(ctx context.Context, ref, when string) (component.Image, string, error) {
		close(under)
		<-goOn
		return images(ctx, ref, when)
	}
	r.server.work.Store(&w)
	answered := r.update(token)
	select {
	case <-under:
	case got := <-answered:
		t.Fatalf("answered %d too early", got)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	if e, ok := stream.next(); ok {
		t.Errorf("the stream tells %v after the end", e)
	}
	close(goOn)
	if got := <-answered; got != http.StatusAccepted {
		t.Errorf("the request under way = %d", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop = %v", err)
	}
	last := stream.lastID
	r.run() // once more, as after an upgrade that failed
	if got := r.listen(token, last, "").take(1)[0]; got.Kind != "asked" || got.Component != "web" {
		t.Errorf("resumed with %v", got)
	}
}

func TestStreamsAreLimited(t *testing.T) {
	r := newRig(t, func(_ *Options, s *Server) {
		if s != nil {
			s.streams = make(chan struct{}, 1)
		}
	})
	_, token := r.token(etcdstate.Token{Name: "page", Role: "viewer"})
	first := r.listen(token, "", "")
	if a := r.do("GET", "/v2/projects/shop/events", ""); a.status != http.StatusServiceUnavailable || a.code != api.CodeUnavailable {
		t.Errorf("one more = %d %s", a.status, a.body)
	}
	first.close()
	r.await("the place is free", func() bool { return len(r.server.streams) == 0 })
	r.listen(token, "", "")
}
