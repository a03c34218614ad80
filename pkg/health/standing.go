package health

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// Health runs each check at its own interval, give or take a tenth, the first time at once, until
// ctx ends, and returns the context's cause. A slow check delays no other.
//
// It calls changed as soon as there is an answer and whenever that changes: not healthy once a check
// failed more often in a row than its retries forgive, healthy once every check passed, and again
// once every check that had failed passed. problem is what the first failing check said, as
// `check "title": …`. Without checks the answer is healthy.
func (p *Prober) Health(ctx context.Context, t component.ProbeTarget, checks []component.Check, changed func(healthy bool, problem error)) error {
	if len(checks) == 0 {
		changed(true, nil)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result) // never closed: senders give up when ctx ends
	for i, c := range checks {
		wg.Go(func() { p.repeat(ctx, t, c, i, results) })
	}
	v := newVerdict(checks)
	for {
		select {
		case r := <-results:
			p.logForgiven(t, checks[r.check], v.count(r), r.err)
			if h, problem, news := v.answer(); news {
				changed(h == component.Healthy, problem)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// repeat probes until ctx ends. Intervals are counted from the start of an attempt.
func (p *Prober) repeat(ctx context.Context, t component.ProbeTarget, c component.Check, index int, results chan<- result) {
	for {
		next := time.Now().Add(p.healthEvery(c))
		err := p.Probe(ctx, t, c)
		if ctx.Err() != nil { // cut short: says nothing about the container
			return
		}
		select {
		case results <- result{index, err}:
		case <-ctx.Done():
			return
		}
		if !wait(ctx, max(time.Until(next), floor(c.Kind))) {
			return
		}
	}
}

// logForgiven tells of the first failure in a row that changes nothing yet.
func (p *Prober) logForgiven(t component.ProbeTarget, c component.Check, failures int, err error) {
	if failures == 1 && c.Retries > 0 {
		p.log.Warn("health check failed once", "container", component.Short(t.ID), "err", fmt.Errorf("check %q: %w", c.Title(), err))
	}
}

// A result is what one attempt of a check came to.
type result struct {
	check int
	err   error
}

// A verdict makes one answer out of the results of several checks.
type verdict struct {
	checks []standing
	told   component.Health
}

// A standing is how one check stands.
type standing struct {
	check    component.Check
	failures int   // in a row
	problem  error // of the last failure that was not forgiven; nil once it passed again
	known    bool
}

func newVerdict(checks []component.Check) *verdict {
	v := &verdict{checks: make([]standing, len(checks))}
	for i, c := range checks {
		v.checks[i].check = c
	}
	return v
}

// count takes a result in and returns how often the check has failed in a row.
func (v *verdict) count(r result) int {
	s := &v.checks[r.check]
	if r.err == nil {
		s.failures, s.problem, s.known = 0, nil, true
		return 0
	}
	s.failures++
	if s.failures > s.check.Retries {
		s.problem, s.known = fmt.Errorf("check %q: %w", s.check.Title(), r.err), true
	}
	return s.failures
}

// answer is the health as of now, and whether it differs from the answer before.
func (v *verdict) answer() (h component.Health, problem error, news bool) { //nolint:revive // problem is a value, not how it went
	h = component.Healthy
	for _, s := range v.checks {
		if s.problem != nil {
			h, problem = component.Unhealthy, s.problem
			break
		}
		if !s.known {
			h = component.HealthUnknown
		}
	}
	if h == component.HealthUnknown || h == v.told {
		return h, problem, false
	}
	v.told = h
	return h, problem, true
}
