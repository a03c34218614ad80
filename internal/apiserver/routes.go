package apiserver

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
)

const description = `Rolls releases of containers out over the hosts of projects, and tells how they stand. Any host answers for all.

Every route needs a credential: a token (Authorization: Bearer gantryd_…), or the user name and password of the server (HTTP Basic).
Its role, for all projects or some, is viewer, deployer or admin; each may do what the one before may.
Errors are problems of RFC 9457, with a code that is stable.`

// routes are all that is served to those who were let in.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	a := humago.New(mux, s.config())
	s.document = a.OpenAPI()
	a.UseMiddleware(s.authorize)
	s.projectRoutes(a)
	s.configRoutes(a)
	s.componentRoutes(a)
	s.rolloutRoutes(a)
	s.eventRoutes(a)
	schemas := s.document.Components.Schemas.Map()
	delete(schemas, "ErrorModel") // the library's: transform makes ours of them
	delete(schemas, "ErrorDetail")
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { lost(mux, w, r) })
	return mux
}

func (s *Server) config() huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "gantryd", Version: "2", Description: description},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token":    {Type: "http", Scheme: "bearer"},
					"password": {Type: "http", Scheme: "basic"},
				},
			},
			Security: []map[string][]string{{"token": {}}, {"password": {}}},
		},
		OpenAPIPath: "/v2/openapi", Formats: map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json", Transformers: []huma.Transformer{transform}, RejectUnknownQueryParameters: true,
	}
}

// schemaName is the name of a type in the document. Two of the vocabulary's are as the API's own are.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[component.Rollout]():
		return "RolloutRecord"
	case reflect.TypeFor[component.Word]():
		return "RecordedWord"
	case reflect.TypeFor[component.Machine]():
		return "Daemon"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// lost answers where no route is: what the path takes, if it takes anything.
func lost(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := mux.Handler(other); pattern != "/" && pattern != "" {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		answer(w, r, problem(http.StatusNotFound, "there is nothing at this path; /v2/openapi.json lists what there is"))
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	answer(w, r, problem(http.StatusMethodNotAllowed, "the path takes %s", strings.Join(allow, ", ")))
}

func unwrap(ctx huma.Context) (*http.Request, http.ResponseWriter) { return humago.Unwrap(ctx) }

// A route is an operation of the API, and what it needs.
type route struct {
	id, method, path, summary string
	need                      Role
	status                    int // 0: as the library finds it
}

func (r route) operation(a huma.API) huma.Operation {
	failure := &huma.Response{
		Description: "A problem",
		Content: map[string]*huma.MediaType{"application/problem+json": {
			Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Problem](), true, "Problem"),
		}},
	}
	return huma.Operation{
		OperationID: r.id, Method: r.method, Path: r.path, Summary: r.summary, DefaultStatus: r.status,
		Description: "Needs the role " + string(r.need) + ".", Metadata: map[string]any{roleKey: r.need},
		MaxBodyBytes: maxBody, BodyReadTimeout: -1, // the body is read by then: a deadline would end the request in the middle of its work,
		Responses: map[string]*huma.Response{"default": failure},
	}
}

// add registers what answers a route.
func add[I, O any](s *Server, a huma.API, r route, f func(context.Context, *work, *I) (*O, error)) {
	huma.Register(a, r.operation(a), func(ctx context.Context, in *I) (*O, error) {
		ctx, cancel := context.WithTimeout(ctx, workWithin)
		defer cancel()
		out, err := f(ctx, s.work.Load(), in)
		if err != nil {
			return nil, s.problemOf(ctx, err)
		}
		return out, nil
	})
}

// A list is what an answer of several holds.
type list[T any] struct {
	Items []T `json:"items" nullable:"false"`
}

// reply is an answer with a body.
type reply[T any] struct{ Body T }

func items[T any](all []T) *reply[list[T]] {
	return &reply[list[T]]{list[T]{append([]T{}, all...)}}
}

// InProject is in the path of what is about a project.
type InProject struct {
	Project string `path:"project" maxLength:"253" pattern:"^[^/\\x00-\\x1f\\x7f]+$" patternDescription:"name"`
}

// InComponent is in the path of what is about a component.
type InComponent struct {
	InProject
	Component string `path:"component" maxLength:"253" pattern:"^[^/\\x00-\\x1f\\x7f]+$" patternDescription:"name"`
}

// hidden takes out of changes what may be a secret: values of environment variables, and of headers.
func hidden(cs []component.Change) []component.Change {
	out := slices.Clone(cs)
	for i := range out {
		c := &out[i]
		if secret := strings.Contains(c.Field, "environmentVariables") || strings.Contains(c.Field, "eaders"); secret && !strings.HasSuffix(c.Field, ".name") {
			c.From, c.To = covered(c.From), covered(c.To)
		}
	}
	return out
}

func covered(s string) string {
	if s == "" {
		return ""
	}
	return "(hidden)"
}
