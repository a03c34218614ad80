package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
)

func TestEndedBefore(t *testing.T) {
	const zero = "0001-01-01T00:00:00Z"
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return start.Add(d).Format(time.RFC3339Nano) }
	tests := []struct {
		name  string
		state container.State
		want  bool
	}{
		{"it ended with the Engine before", container.State{StartedAt: at(-time.Hour), FinishedAt: at(-time.Second)}, true},
		{"it ended by itself, under this Engine", container.State{StartedAt: at(time.Hour), FinishedAt: at(2 * time.Hour)}, false},
		{"it lived on over the restart", container.State{StartedAt: at(-time.Hour), FinishedAt: at(time.Hour)}, false},
		{"it runs", container.State{Running: true, StartedAt: at(-time.Hour), FinishedAt: zero}, false},
		{"it never ran", container.State{StartedAt: zero, FinishedAt: zero}, false},
		{"nobody knows", container.State{}, false},
	}
	for _, tt := range tests {
		if got := endedBefore(&tt.state, start); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestContainerThatEndsByItselfDoesNotEndWithItsEngine(t *testing.T) {
	e := realEngine(t)
	id := start(t, e, appRequest(t, nil))
	if err := dockertest.Engine(t).ContainerKill(t.Context(), id, "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	exited(t, e, id)
	list, err := e.Containers(t.Context())
	if err != nil || len(list) != 1 || list[0].State != component.RunExited || list[0].WithEngine {
		t.Errorf("Containers = %+v, %v", list, err)
	}
}

// An Engine that is about to end answers on connections it has, and takes no new ones: that a container has
// ended is not told then, for nobody can say why.
func TestEndsAreNotToldByAnEngineThatTakesNoNewConnections(t *testing.T) {
	l := newLine(t)
	e := newEngine(t, dockertest.Project(t), l.env())
	id := start(t, e, appRequest(t, nil))
	if _, err := e.Containers(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.refuse()
	if _, err := e.inspect(t.Context(), id); err != nil {
		t.Fatalf("the connection there is does not go on: %v", err)
	}
	if err := dockertest.Engine(t).ContainerKill(t.Context(), id, "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() string {
		list, err := e.Containers(t.Context())
		if err == nil && len(list) == 1 && list[0].State == component.RunExited {
			t.Fatal("the end is told")
		}
		if !errors.Is(err, ErrUnreachable) {
			return "the Engine still answers"
		}
		return ""
	})
	l.up()
	eventually(t, 20*time.Second, func() string {
		list, err := e.Containers(t.Context())
		if err != nil || len(list) != 1 || list[0].State != component.RunExited || list[0].WithEngine {
			return "the end is not told"
		}
		return ""
	})
}

// TestContainerThatCannotBeInspectedHidesNoOther asks a real Engine, which answers with an error when it is asked for one
// of the containers.
func TestContainerThatCannotBeInspectedHidesNoOther(t *testing.T) {
	dial := dockertest.Engine(t).Dialer()
	way := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	t.Cleanup(way.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{Transport: way, Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "docker" }}
	var broken atomic.Value
	broken.Store("none")
	e := newEngine(t, dockertest.Project(t), fakeEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/containers/"+broken.Load().(string)+"/json") {
			http.Error(w, `{"message":"RWLayer of container is unexpectedly nil"}`, http.StatusInternalServerError)
			return
		}
		proxy.ServeHTTP(w, r)
	})))
	r := appRequest(t, func(s *component.Spec) { s.PreDeploy.Command = []string{"exit", "0"} })
	r.Task = true
	task, other := start(t, e, r), start(t, e, appRequest(t, nil))
	broken.Store(task)
	eventually(t, 20*time.Second, func() string {
		list, err := e.Containers(t.Context())
		if err != nil || len(list) != 2 {
			return fmt.Sprintf("containers %v, %v", list, err)
		}
		for _, c := range list {
			if c.ID == task && (c.State != component.RunExited || c.WithEngine) || c.ID == other && c.State != component.RunRunning {
				return fmt.Sprintf("%+v", c)
			}
		}
		return ""
	})
	_, err := e.Succeeded(t.Context(), task)
	_, whyErr := e.ExitReason(t.Context(), task)
	for _, err := range []error{err, whyErr} {
		if err == nil || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "RWLayer") {
			t.Errorf("its end: %v, want what the Engine says", err)
		}
	}
}
