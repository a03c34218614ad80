package etcdstate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantryd/gantryd/pkg/component"
)

// tokens is where the tokens of the API are: beside the projects, for they may be for all of them.
const tokens = "/gantryd/tokens/"

// maxTokens bounds how many tokens are kept.
const maxTokens = 1000

// A Token is a credential of the API, as it is kept: its secret is not in it.
type Token struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"` // for people: who has it
	Hash     string    `json:"hash"` // of the secret, SHA-256 in hexadecimal
	Role     string    `json:"role"`
	Projects []string  `json:"projects,omitempty"` // the role is for these only; none: for all
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Expires  time.Time `json:"expires,omitzero"` // zero: never
}

// CreateToken keeps a token under its ID, which must be new: component.ErrChanged when it is not.
func (c *Client) CreateToken(ctx context.Context, t Token) error {
	if err := checkName("token", t.ID); err != nil {
		return err
	}
	all, err := c.Tokens(ctx)
	if err == nil && len(all) >= maxTokens {
		err = fmt.Errorf("there are %d already: revoke those that nobody uses", len(all))
	}
	if err == nil {
		err = c.createToken(ctx, t)
	}
	if err != nil {
		return fmt.Errorf("create token %q: %w", t.Name, err)
	}
	return nil
}

func (c *Client) createToken(ctx context.Context, t Token) error {
	key := tokens + t.ID
	value, err := encode(key, t)
	if err != nil {
		return err
	}
	resp, err := c.txn(ctx, []clientv3.Cmp{unchanged(key, 0)}, []clientv3.Op{clientv3.OpPut(key, value)}, []clientv3.Op{clientv3.OpGet(key)})
	if err != nil || resp.Succeeded {
		return err
	}
	if raw, _ := latest(resp.Responses[0].GetResponseRange().GetKvs()); string(raw) == value {
		return nil // ours, of which the answer got lost
	}
	return component.ErrChanged
}

// DeleteToken revokes a token, and says whether there was one.
func (c *Client) DeleteToken(ctx context.Context, id string) (bool, error) {
	if err := checkName("token", id); err != nil {
		return false, err
	}
	resp, err := c.get(ctx, tokens+id)
	if err == nil && len(resp.Kvs) > 0 {
		_, err = c.txn(ctx, nil, []clientv3.Op{clientv3.OpDelete(tokens + id)}, nil)
	}
	if err != nil {
		return false, fmt.Errorf("delete token %q: %w", id, err)
	}
	return len(resp.Kvs) > 0, nil
}

// Tokens are all tokens, the oldest first. One that cannot be read is left out: nobody is let in by it.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	out, _, err := c.tokens(ctx)
	return out, err
}

func (c *Client) tokens(ctx context.Context) ([]Token, int64, error) {
	resp, err := c.get(ctx, tokens, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("read tokens: %w", err)
	}
	var out []Token
	for _, kv := range resp.Kvs {
		var t Token
		if decode(string(kv.Key), kv.Value, &t) == nil && t.ID == strings.TrimPrefix(string(kv.Key), tokens) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Token) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return out, resp.Header.Revision, nil
}

// WatchTokens calls f with all tokens as they are, and again after each change, until ctx ends. While etcd
// does not answer nothing is told.
func (c *Client) WatchTokens(ctx context.Context, f func([]Token)) error {
	for ctx.Err() == nil {
		all, rev, err := c.tokens(ctx)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, component.ErrUnreachable):
			pause(ctx, time.Second)
		case err != nil:
			return err
		default:
			f(all)
			c.awaitTokens(ctx, rev)
		}
	}
	return context.Cause(ctx)
}

// awaitTokens returns when tokens may have changed after the revision.
func (c *Client) awaitTokens(ctx context.Context, rev int64) {
	etcd, err := c.etcd(ctx)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), jitter(watchResync))
	defer cancel()
	for resp := range etcd.Watch(ctx, tokens, clientv3.WithPrefix(), clientv3.WithRev(rev+1)) {
		if resp.Err() != nil {
			pause(ctx, 100*time.Millisecond)
			return
		}
		if len(resp.Events) > 0 {
			return
		}
	}
}
