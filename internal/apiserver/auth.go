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
		header := r.Header.Get("Authorization")
		text, token := tokenOf(r, header)
		i, ok := s.tokens.holder(text, now)
		wait := s.limiter.wait(client, now)
		if !ok && wait == 0 && !token {
			i, ok = s.user(r)
		}
		switch {
		case ok: // a token even from an address that has to wait: nobody guesses one, and others may share the address
			if e := entryOf(r.Context()); e != nil {
				e.who = i.who
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, i)))
		case token && !s.tokens.ready():
			answer(w, r, problem(http.StatusServiceUnavailable, "etcd does not answer: nobody knows which tokens count"))
		case wait > 0:
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
			answer(w, r, problem(http.StatusTooManyRequests, "too many wrong credentials from %s: wait %v", client, wait.Round(time.Second)))
		case header == "":
			s.challenge(w, r, "this needs a credential: a token, or a user name and password")
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

// tokenOf is the text of the token that the request has, if that is what it has.
func tokenOf(r *http.Request, header string) (text string, ok bool) {
	if scheme, rest, _ := strings.Cut(header, " "); strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest), true
	}
	_, password, ok := r.BasicAuth()
	return password, ok && strings.HasPrefix(password, prefix) // for clients that know no other way
}

// user is who has the user name and the password, if the request has them.
func (s *Server) user(r *http.Request) (identity, bool) {
	name, password, ok := r.BasicAuth()
	if !ok || s.o.Basic == nil {
		return identity{}, false
	}
	right := same(name, s.o.Basic.Username) & same(password, s.o.Basic.Password)
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
