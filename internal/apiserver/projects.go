package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
)

func (s *Server) projectRoutes(a huma.API) {
	add(s, a, route{"list-projects", http.MethodGet, "/v2/projects", "List the projects that the credential is for", Viewer, 0},
		func(ctx context.Context, w *work, _ *struct{}) (*reply[list[string]], error) {
			names, err := w.etcd.Projects(ctx)
			return items(slices.DeleteFunc(names, func(n string) bool { return !who(ctx).sees(n) })), err
		})
	add(s, a, route{"get-project", http.MethodGet, "/v2/projects/{project}", "Tell what every host is doing: stage, image, health, connections, failures", Viewer, 0},
		func(ctx context.Context, w *work, in *InProject) (*reply[api.Status], error) {
			p, err := operator.Read(ctx, w.etcd, in.Project)
			if err != nil {
				return nil, err
			}
			return &reply[api.Status]{operator.Status(in.Project, p, operator.Names(p))}, nil
		})
	add(s, a, route{"list-hosts", http.MethodGet, "/v2/projects/{project}/hosts", "List the hosts: what each runs, changes, and was lost in", Viewer, 0},
		func(ctx context.Context, w *work, in *InProject) (*reply[list[api.Host]], error) {
			p, err := operator.Read(ctx, w.etcd, in.Project)
			if err != nil {
				return nil, err
			}
			return items(operator.Hosts(p)), nil
		})
}

// A File is a request with a project file as its body, in JSON.
type File struct {
	InProject
	Body json.RawMessage `doc:"a project file; 'gantryd schema' describes it"`
}

// A conditional is a file that takes the place of what the client has seen.
type conditional struct {
	File
	IfMatch     string `header:"If-Match" doc:"the ETag of the configuration that is replaced"`
	IfNoneMatch string `header:"If-None-Match" doc:"* when there is none yet"`
}

// A stored is a configuration as it is stored.
type stored struct {
	ETag string `header:"ETag"`
	Body json.RawMessage
}

type replaced struct {
	ETag string `header:"ETag"`
	Body api.Config
}

func (s *Server) configRoutes(a huma.API) {
	const path = "/v2/projects/{project}/config"
	add(s, a, route{"get-config", http.MethodGet, path, "Get the stored configuration", Admin, 0},
		func(ctx context.Context, w *work, in *InProject) (*stored, error) {
			raw, revision, err := w.etcd.ConfigAt(ctx, in.Project)
			if err == nil && revision == 0 {
				err = problem(http.StatusNotFound, "project %s has no configuration", in.Project)
			}
			if err == nil && !json.Valid(raw) {
				err = problem(http.StatusConflict, "what is stored is not JSON")
			}
			return &stored{etag(revision), raw}, err
		})
	add(s, a, route{"put-config", http.MethodPut, path, "Replace the stored configuration, when nobody else has", Admin, 0}, s.putConfig)
	add(s, a, route{"validate-config", http.MethodPost, path + "/validate", "Check a configuration and list every mistake", Viewer, http.StatusNoContent},
		func(_ context.Context, _ *work, in *File) (*struct{}, error) {
			_, err := parse(in.Body)
			return nil, err
		})
	add(s, a, route{"plan-config", http.MethodPost, path + "/plan", "Tell what replacing the configuration would change, and change nothing", Admin, 0},
		func(ctx context.Context, w *work, in *File) (*replaced, error) {
			next, err := parse(in.Body)
			if err != nil {
				return nil, err
			}
			now, revision, err := current(ctx, w, in.Project)
			return &replaced{etag(revision), api.Config{Revision: revision, Changes: operator.Differences(now, next)}}, err
		})
}

// putConfig replaces the stored configuration by a valid one. That it says what it replaces is required.
func (s *Server) putConfig(ctx context.Context, w *work, in *conditional) (*replaced, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	next, err := parse(in.Body)
	if err != nil {
		return nil, err
	}
	now, there, err := current(ctx, w, in.Project)
	if err != nil {
		return nil, err
	}
	if revision == anyRevision {
		if revision = there; there == 0 {
			return nil, problem(http.StatusPreconditionFailed, "project %s has no configuration", in.Project)
		}
	}
	raw, err := config.Canonical(next)
	if err != nil {
		return nil, err
	}
	revision, err = w.etcd.ReplaceConfig(ctx, in.Project, raw, revision)
	if errors.Is(err, component.ErrChanged) {
		return nil, problem(http.StatusPreconditionFailed, "the configuration is another by now: get it again")
	}
	return &replaced{etag(revision), api.Config{Revision: revision, Changes: operator.Differences(now, next)}}, err
}

// current is the configuration that is stored, as far as it can be read, and its revision.
func current(ctx context.Context, w *work, project string) (component.Project, int64, error) {
	_, revision, err := w.etcd.ConfigAt(ctx, project) // first: the ETag must not be newer than what it is about
	if err != nil {
		return component.Project{}, 0, err
	}
	p, err := w.etcd.Project(ctx, project)
	return p.Config, revision, err
}

// anyRevision stands for whichever revision there is.
const anyRevision = -1

// revision is that of the configuration that the request is to replace.
func (c *conditional) revision() (int64, error) {
	switch {
	case c.IfMatch != "" && c.IfNoneMatch != "":
		return 0, problem(http.StatusBadRequest, "If-Match and If-None-Match exclude each other")
	case c.IfNoneMatch == "*":
		return 0, nil
	case c.IfMatch == "*":
		return anyRevision, nil
	case c.IfMatch == "":
		return 0, problem(http.StatusPreconditionRequired, "say what is replaced: If-Match with the ETag of the configuration, or If-None-Match: *")
	}
	text, opened := strings.CutPrefix(c.IfMatch, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	revision, err := strconv.ParseInt(text, 10, 64)
	if err != nil || !opened || !closed || revision <= 0 {
		return 0, problem(http.StatusPreconditionFailed, "If-Match %q is no ETag of a configuration", c.IfMatch)
	}
	return revision, nil
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// parse reads and validates a project file.
func parse(raw []byte) (component.Project, error) {
	p, err := config.Parse("config.json", raw)
	if err == nil {
		return p, nil
	}
	bad := problem(http.StatusUnprocessableEntity, "the configuration is not valid; nothing was stored")
	for line := range strings.Lines(err.Error()) {
		bad.Errors = append(bad.Errors, api.Mistake{Location: "body", Message: strings.TrimSpace(line)})
	}
	return p, bad
}
