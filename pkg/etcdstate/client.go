package etcdstate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gantryd/gantryd/pkg/component"
)

// Defaults of a Config.
const (
	DefaultEndpoint       = "127.0.0.1:2379"
	DefaultDialTimeout    = 2 * time.Second
	DefaultCommandTimeout = 5 * time.Second
)

// Config says where etcd is and who asks.
type Config struct {
	Endpoints []string // host:port, or URLs; DefaultEndpoint when empty

	CACert             string // file with the certificates that sign the servers'
	Cert, Key          string // files with the client's certificate and key; read again for each connection
	InsecureSkipVerify bool   // any certificate of a server will do

	User, Password string

	DialTimeout    time.Duration // longest wait for authentication; DefaultDialTimeout when 0
	CommandTimeout time.Duration // longest wait for the answer to one command; DefaultCommandTimeout when 0

	Log *slog.Logger // nil discards
}

// Client is a connection to etcd and an operator's side of it. Close it.
type Client struct {
	cfg     clientv3.Config
	timeout time.Duration
	log     *slog.Logger

	dialing chan struct{} // holds one token: who has it may create conn

	mu     sync.Mutex
	conn   *clientv3.Client
	closed bool
}

// Dial prepares a connection. It does not wait for etcd: the first command does, and says
// component.ErrUnreachable when etcd does not answer. An error is a mistake in cfg.
func Dial(_ context.Context, cfg Config) (*Client, error) {
	if len(cfg.Endpoints) == 0 {
		cfg.Endpoints = []string{DefaultEndpoint}
	}
	tlsConfig, err := clientTLS(cfg)
	if err != nil {
		return nil, fmt.Errorf("dial etcd: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		cfg: clientv3.Config{
			Endpoints:            cfg.Endpoints,
			TLS:                  tlsConfig,
			Username:             cfg.User,
			Password:             cfg.Password,
			DialTimeout:          orDuration(cfg.DialTimeout, DefaultDialTimeout),
			DialKeepAliveTime:    10 * time.Second,
			DialKeepAliveTimeout: 3 * time.Second,
			Logger:               zap.NewNop(), // it repeats what our errors say, once for each try
			// An endpoint is dialled at most about once a second, and within 3 s of its return.
			DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 1200 * time.Millisecond, Multiplier: 1.5, Jitter: 0.15, MaxDelay: 3 * time.Second},
				MinConnectTimeout: 3 * time.Second,
			})},
		},
		timeout: orDuration(cfg.CommandTimeout, DefaultCommandTimeout),
		log:     cfg.Log,
		dialing: make(chan struct{}, 1),
	}
	return c, nil
}

// clientTLS is nil when neither a file nor an endpoint asks for TLS.
func clientTLS(cfg Config) (*tls.Config, error) {
	info := transport.TLSInfo{
		TrustedCAFile: cfg.CACert, CertFile: cfg.Cert, KeyFile: cfg.Key,
		InsecureSkipVerify: cfg.InsecureSkipVerify,
	}
	secure := cfg.CACert != "" || cfg.Cert != "" || cfg.Key != "" || cfg.InsecureSkipVerify
	for _, e := range cfg.Endpoints {
		secure = secure || strings.HasPrefix(e, "https://")
		if strings.HasPrefix(e, "http://") && (cfg.Cert != "" || cfg.CACert != "") {
			return nil, fmt.Errorf("endpoint %q is plain text, but there are TLS files", e)
		}
	}
	if !secure {
		return nil, nil
	}
	return info.ClientConfig()
}

// Close ends the connection and everything that waits on it.
func (c *Client) Close() error {
	c.mu.Lock()
	conn := c.conn
	c.closed, c.conn = true, nil
	c.mu.Unlock()
	if conn == nil {
		return nil
	}
	if err := conn.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd client: %w", err)
	}
	return nil
}

// etcd is the connection. It is made at the first use that gets through: with a user, making it
// needs an answer of etcd.
func (c *Client) etcd(ctx context.Context) (*clientv3.Client, error) {
	if conn, err := c.current(); conn != nil || err != nil {
		return conn, err
	}
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if conn, err := c.current(); conn != nil || err != nil {
		return conn, err
	}
	conn, err := clientv3.New(c.cfg)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.conn = conn
	}
	c.mu.Unlock()
	if closed {
		_ = conn.Close() // it was never used
		return nil, errClosed
	}
	return conn, nil
}

func (c *Client) current() (*clientv3.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	return c.conn, nil
}

var errClosed = errors.New("etcd client is closed")

// txn commits If(cmps).Then(then).Else(otherwise). While the outcome is unknown it repeats the very
// same transaction: cmps must not hold after it was committed, and otherwise must read what tells
// its own write from another's.
func (c *Client) txn(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	var resp *clientv3.TxnResponse
	err := c.retry(ctx, func(ctx context.Context, etcd *clientv3.Client) (err error) {
		resp, err = etcd.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
		return err
	})
	return resp, err
}

// get reads one key, or with opts a range; linearizable, so that an answer proves a quorum.
func (c *Client) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	var resp *clientv3.GetResponse
	err := c.retry(ctx, func(ctx context.Context, etcd *clientv3.Client) (err error) {
		resp, err = etcd.Get(ctx, key, opts...)
		return err
	})
	return resp, err
}

// retry calls f until it answers, for the command timeout. f is repeatable.
func (c *Client) retry(ctx context.Context, f func(context.Context, *clientv3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := c.once(ctx, f)
		if err == nil {
			return nil
		}
		if !transient(err) {
			return err
		}
		if !pause(ctx, wait) {
			return fmt.Errorf("%w: no answer from etcd at %s: %w", component.ErrUnreachable, strings.Join(c.cfg.Endpoints, ", "), err)
		}
	}
}

// once calls f with a deadline that leaves time to ask again: the answer may be what got lost.
func (c *Client) once(ctx context.Context, f func(context.Context, *clientv3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout*2/5)
	defer cancel()
	etcd, err := c.etcd(ctx)
	if err != nil {
		return err
	}
	return f(ctx, etcd)
}

// transient says whether err leaves open what was done, or means that nothing answered.
func transient(err error) bool {
	var e rpctypes.EtcdError
	switch {
	case errors.Is(err, errClosed), errors.Is(err, rpctypes.ErrNoSpace):
		return false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, rpctypes.ErrAuthOldRevision), errors.Is(err, rpctypes.ErrInvalidAuthToken),
		errors.Is(err, rpctypes.ErrTooManyRequests):
		return true
	case errors.As(err, &e):
		return transientCode(e.Code())
	}
	s, ok := status.FromError(err)
	return ok && transientCode(s.Code())
}

func transientCode(c codes.Code) bool {
	switch c {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal:
		return true
	default:
		return false
	}
}

// pause waits for about d and says whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(jitter(d))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// jitter is d give or take a fifth, so that hosts that failed together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}

func orDuration(d, unset time.Duration) time.Duration {
	if d == 0 {
		return unset
	}
	return d
}
