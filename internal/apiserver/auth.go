package apiserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// A Basic is the one user that may come with a name and a password.
type Basic struct {
	Username, Password string
	Role               Role // for all projects
}

type identityKey struct{}

// who is the identity of a request that was let in.
func who(ctx context.Context) identity {
	i, _ := ctx.Value(identityKey{}).(identity)
	return i
}

// authenticate lets a request in when it has a credential that counts.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, now := clientOf(r), time.Now()
		if wait := s.limiter.wait(client, now); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
			answer(w, r, problem(http.StatusTooManyRequests, "too many wrong credentials from %s: wait %v", client, wait.Round(time.Second)))
			return
		}
		header := r.Header.Get("Authorization")
		if header == "" {
			s.challenge(w, r, "this needs a credential: a token, or a user name and password")
			return
		}
		i, ok := s.identify(r, header, now)
		switch {
		case ok:
			if e := entryOf(r.Context()); e != nil {
				e.who = i.who
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, i)))
		case !s.tokens.ready():
			answer(w, r, problem(http.StatusServiceUnavailable, "etcd does not answer: nobody knows which tokens count"))
		default:
			s.limiter.failed(client, now)
			s.challenge(w, r, "the credential does not count")
		}
	})
}

func (s *Server) challenge(w http.ResponseWriter, r *http.Request, detail string) {
	w.Header().Add("WWW-Authenticate", `Bearer realm="gantryd"`)
	if s.o.Basic != nil {
		w.Header().Add("WWW-Authenticate", `Basic realm="gantryd", charset="UTF-8"`)
	}
	answer(w, r, problem(http.StatusUnauthorized, "%s", detail))
}

// identify is whose credential the request has.
func (s *Server) identify(r *http.Request, header string, now time.Time) (identity, bool) {
	scheme, rest, _ := strings.Cut(header, " ")
	if strings.EqualFold(scheme, "Bearer") {
		return s.tokens.holder(strings.TrimSpace(rest), now)
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return identity{}, false
	}
	if strings.HasPrefix(password, prefix) { // a token, for clients that know no other way
		return s.tokens.holder(password, now)
	}
	if s.o.Basic == nil {
		return identity{}, false
	}
	right := same(user, s.o.Basic.Username) & same(password, s.o.Basic.Password)
	return identity{who: "user:" + s.o.Basic.Username, role: s.o.Basic.Role}, right == 1
}

// same is 1 for equal texts, and takes as long for others.
func same(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

// clientOf is the address of a request's client.
func clientOf(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// roleKey is where an operation has the role that it needs.
const roleKey = "role"

// authorize lets a request go on when its identity may do the operation.
func (s *Server) authorize(ctx huma.Context, next func(huma.Context)) {
	need, ok := ctx.Operation().Metadata[roleKey].(Role)
	i := who(ctx.Context())
	if ok && i.may(need, ctx.Param("project")) {
		next(ctx)
		return
	}
	r, w := unwrap(ctx)
	answer(w, r, problem(http.StatusForbidden, "this needs the role %s%s", need, where(ctx.Param("project"))))
}

func where(project string) string {
	if project == "" {
		return ""
	}
	return " for project " + strconv.Quote(project)
}
