package apiserver

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// prefix begins every token, so that scanners find those that got where they do not belong.
const prefix = "gantryd_"

// NewToken makes a token with a new ID and secret. The text is what its owner sends; it is kept nowhere.
func NewToken(t etcdstate.Token) (etcdstate.Token, string) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // it does not fail
	t.ID = strings.ToLower(rand.Text()[:10])
	text := hex.EncodeToString(secret[:])
	t.Hash = hash(text)
	return t, prefix + t.ID + "_" + text
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// tokens are those that count now.
type tokens struct {
	mu      sync.Mutex
	known   bool // they were read
	byID    map[string]etcdstate.Token
	changed chan struct{} // closed when they change
}

func newTokens() *tokens { return &tokens{changed: make(chan struct{})} }

// set replaces all tokens.
func (t *tokens) set(all []etcdstate.Token) {
	byID := make(map[string]etcdstate.Token, len(all))
	for _, one := range all {
		byID[one.ID] = one
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known, t.byID = true, byID
	close(t.changed)
	t.changed = make(chan struct{})
}

// forget is for a server that does not watch any more.
func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known, t.byID = false, nil
}

// any reports whether there is a token that lets somebody in.
func (t *tokens) any(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.byID {
		if valid(one, now) {
			return true
		}
	}
	return false
}

// next is closed when the tokens change.
func (t *tokens) next() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// ready reports whether the tokens were read.
func (t *tokens) ready() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known
}

// get is the token of an ID.
func (t *tokens) get(id string) (etcdstate.Token, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one, ok := t.byID[id]
	return one, ok
}

// holder is whose token the text is. An unknown ID takes as long as a wrong secret.
func (t *tokens) holder(text string, now time.Time) (identity, bool) {
	rest, _ := strings.CutPrefix(text, prefix)
	id, secret, _ := strings.Cut(rest, "_")
	one, known := t.get(id)
	right := subtle.ConstantTimeCompare([]byte(hash(secret)), []byte(one.Hash)) == 1
	if !known || !right || !strings.HasPrefix(text, prefix) || !valid(one, now) {
		return identity{}, false
	}
	return identity{who: "token:" + one.Name, role: Role(one.Role), projects: slices.Clone(one.Projects), token: one.ID, expires: one.Expires}, true
}

// valid reports whether a token counts: it has a role that is known, and has not expired.
func valid(t etcdstate.Token, now time.Time) bool {
	_, err := ParseRole(t.Role)
	return err == nil && (t.Expires.IsZero() || now.Before(t.Expires))
}

// still reports whether the credential of an identity counts still.
func (t *tokens) still(i identity, now time.Time) bool {
	if i.token == "" {
		return true
	}
	one, ok := t.get(i.token)
	return ok && valid(one, now)
}
