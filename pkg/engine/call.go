package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/pkg/component"
)

// ErrUnreachable means that Docker Engine gave no answer: what it was asked for may be so or not.
var ErrUnreachable = component.ErrEngineUnreachable

var errClosed = errors.New("engine is closed")

// call runs f with a client that agreed on an API version, within d.
func (e *Engine) call(ctx context.Context, d time.Duration, f func(context.Context, *client.Client) error) error {
	return e.callWithin(ctx, d, fmt.Errorf("%w: no answer within %s", ErrUnreachable, d), f)
}

// callWithin is call with the error for the case that d was not enough.
func (e *Engine) callWithin(ctx context.Context, d time.Duration, late error, f func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, late)
	defer cancel()
	err := e.attempt(ctx, f)
	if wrongVersion(err) { // another Engine answers than the one the version was agreed on with
		err = e.attempt(ctx, f)
	}
	return explain(ctx, err)
}

// attempt runs f once and forgets the client when the Engine was lost.
func (e *Engine) attempt(ctx context.Context, f func(context.Context, *client.Client) error) error {
	cli, err := e.connect(ctx)
	if err != nil {
		return err
	}
	err = f(ctx, cli)
	canceled := ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrUnreachable)
	if wrongVersion(err) || (lost(err) || isContext(err)) && !canceled {
		e.drop(cli)
	}
	return err
}

// connect returns the client in use, or makes one and agrees on an API version. Docker's client
// keeps what it agreed on for its life, and goes on with its own version when the Engine did not
// answer that first time; so a client counts only once the Engine answered.
func (e *Engine) connect(ctx context.Context) (*client.Client, error) {
	if cli, err := e.current(); cli != nil || err != nil {
		return cli, err
	}
	select {
	case e.connecting <- struct{}{}:
		defer func() { <-e.connecting }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if cli, err := e.current(); cli != nil || err != nil {
		return cli, err // made by somebody else meanwhile
	}
	cli, err := e.endpoint.client(e.limits.dial)
	if err != nil {
		return nil, err
	}
	late := fmt.Errorf("%w: no answer within %s", ErrUnreachable, e.limits.ping)
	pingCtx, cancel := context.WithTimeoutCause(ctx, e.limits.ping, late)
	defer cancel()
	ping, err := cli.Ping(pingCtx)
	if err != nil {
		cli.Close()
		return nil, explain(pingCtx, err)
	}
	cli.NegotiateAPIVersionPing(ping)
	if !e.adopt(cli) {
		cli.Close()
		return nil, errClosed
	}
	return cli, nil
}

func (e *Engine) current() (*client.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	return e.cli, nil
}

// adopt makes cli the client in use, unless the Engine was closed.
func (e *Engine) adopt(cli *client.Client) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.cli = cli
	return true
}

// drop makes the next call connect anew. Calls that still use cli go on.
func (e *Engine) drop(cli *client.Client) {
	e.mu.Lock()
	if e.cli == cli {
		e.cli = nil
		clear(e.gateways) // an Engine that starts again may have other networks
	}
	e.mu.Unlock()
	cli.Close()
}

// lost reports whether err is about the connection, not an answer of the Engine.
func lost(err error) bool {
	var ne net.Error
	return client.IsErrConnectionFailed(err) || errors.As(err, &ne) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// wrongVersion reports whether the Engine refused the API version. It says so in words only.
func wrongVersion(err error) bool {
	if err == nil {
		return false
	}
	s := err.Error()
	return strings.Contains(s, "client version") && (strings.Contains(s, "too new") || strings.Contains(s, "too old"))
}

// explain turns an error of Docker's client into one that says whether the Engine answered.
func explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && (isContext(err) || lost(err)):
		return context.Cause(ctx)
	case errors.Is(err, ErrUnreachable):
		return err
	case lost(err):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	const preamble = "Error response from daemon: "
	if s, ok := strings.CutPrefix(err.Error(), preamble); ok {
		return &answerError{cleanLine(s), err}
	}
	return err
}

// answerError is an error that the Engine answered, without the preamble and of a bounded length.
type answerError struct {
	text string
	err  error
}

func (e *answerError) Error() string { return e.text }

func (e *answerError) Unwrap() error { return e.err }
