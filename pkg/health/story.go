package health

import (
	"context"
	"fmt"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// A story reports what happens to one container.
type story struct {
	target component.ProbeTarget
	report func(component.Event)
}

func (s story) tell(kind component.EventKind, text string, detail error) {
	if s.report == nil {
		return
	}
	e := component.Event{Kind: kind, Container: s.target.ID, Text: text}
	if detail != nil {
		e.Detail = detail.Error()
	}
	s.report(e)
}

// attempt tells that a check is tried; what is "health" or "termination".
func (s story) attempt(kind component.EventKind, what string, c component.Check) {
	s.tell(kind, "Running "+what+" check: "+c.Title(), nil)
	if c.Kind != component.CheckHTTP && c.Kind != component.CheckHTTPS {
		return
	}
	if address, err := checkRequest(c).address(s.target); err == nil {
		s.tell(kind, fmt.Sprintf("Checking HTTP address in container %s: %s", component.Short(s.target.ID), address), nil)
	}
}

// outcome tells what the original told about an attempt besides that it failed.
func (s story) outcome(kind component.EventKind, c component.Check, err error) {
	switch {
	case c.Kind != component.CheckConnection:
	case err != nil:
		s.tell(kind, "Container still has existing connections: "+component.Short(s.target.ID), err)
	default:
		s.tell(kind, "Container has no remaining connections: "+component.Short(s.target.ID), nil)
	}
}

// A muffler keeps an outcome that repeats itself from being told again and again.
type muffler struct {
	text string
	at   time.Time
}

// worth reports whether err says something new, and the last thing told is at least gap ago.
func (m *muffler) worth(err error, gap time.Duration) bool {
	if m.text == err.Error() || !m.at.IsZero() && time.Since(m.at) < gap {
		return false
	}
	m.text, m.at = err.Error(), time.Now()
	return true
}

// An endedError is a check that had not passed when the context ended.
type endedError struct {
	title string
	last  error // what the check said last
	ctx   error // the context's Err
	cause error // the context's Cause
}

func ended(ctx context.Context, c component.Check, last error) error {
	return &endedError{title: c.Title(), last: last, ctx: ctx.Err(), cause: context.Cause(ctx)}
}

func (e *endedError) Error() string { return fmt.Sprintf("check %q: %v", e.title, e.last) }

func (e *endedError) Unwrap() []error { return []error{e.last, e.ctx, e.cause} }
