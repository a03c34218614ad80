package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// codes are the codes of HTTP statuses.
//
//nolint:gochecknoglobals // a constant table
var codes = map[int]api.Code{
	http.StatusBadRequest: api.CodeInvalid, http.StatusUnprocessableEntity: api.CodeInvalid,
	http.StatusUnauthorized: api.CodeUnauthorized, http.StatusForbidden: api.CodeForbidden,
	http.StatusNotFound: api.CodeNotFound, http.StatusMethodNotAllowed: api.CodeMethod,
	http.StatusNotAcceptable: api.CodeNotAcceptable, http.StatusConflict: api.CodeConflict, http.StatusGone: api.CodeGone,
	http.StatusPreconditionFailed: api.CodePreconditionFailed, http.StatusPreconditionRequired: api.CodePreconditionRequired,
	http.StatusRequestEntityTooLarge: api.CodeTooLarge, http.StatusUnsupportedMediaType: api.CodeMediaType,
	http.StatusTooManyRequests: api.CodeTooMany, http.StatusRequestTimeout: api.CodeTimeout, http.StatusGatewayTimeout: api.CodeTimeout,
	http.StatusServiceUnavailable: api.CodeUnavailable,
}

// problem is a problem of an HTTP status.
func problem(status int, format string, args ...any) *api.Problem {
	code, known := codes[status]
	if !known {
		code = api.CodeInternal
	}
	return &api.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...), Code: code}
}

// problemOf is what a client is told of an error. Of one that nobody expected it is told nothing; the log has it.
func (s *Server) problemOf(ctx context.Context, err error) *api.Problem {
	var p *api.Problem
	var m *operator.Error
	switch {
	case errors.As(err, &p):
	case errors.As(err, &m):
		p = problem(mistakeStatus(m.Kind), "%s", m)
	case errors.Is(err, component.ErrChanged):
		p = problem(http.StatusConflict, "%s", err)
	case errors.Is(err, etcdstate.ErrForgotten):
		p = problem(http.StatusGone, "%s", err)
	case errors.Is(err, component.ErrUnreachable), errors.Is(err, component.ErrEngineUnreachable):
		s.o.Log.Warn("request failed", "request", requestID(ctx), "err", err)
		p = problem(http.StatusServiceUnavailable, "%s", outage(err))
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, errOver):
		p = problem(http.StatusServiceUnavailable, "the request was broken off: it took too long, or the server ends")
	default:
		s.o.Log.Error("request failed", "request", requestID(ctx), "err", err)
		p = problem(http.StatusInternalServerError, "something went wrong here; the server's log has it under the request ID")
	}
	p.RequestID = requestID(ctx)
	return p
}

// outage names what does not answer, and no addresses.
func outage(err error) string {
	if errors.Is(err, component.ErrUnreachable) {
		return "etcd does not answer"
	}
	return "Docker Engine does not answer"
}

func mistakeStatus(k operator.Kind) int {
	switch k {
	case operator.NotFound:
		return http.StatusNotFound
	case operator.Refused:
		return http.StatusConflict
	case operator.Invalid:
	}
	return http.StatusUnprocessableEntity
}

// answer writes a problem.
func answer(w http.ResponseWriter, r *http.Request, p *api.Problem) {
	p.RequestID = requestID(r.Context())
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that is gone needs no answer
}

// transform makes the library's errors ours.
func transform(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := problem(m.Status, "%s", m.Detail)
	p.RequestID = requestID(ctx.Context())
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, api.Mistake{Location: e.Location, Message: e.Message}) // the value may be a secret
	}
	return p, nil
}
