package health

import (
	"context"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

const (
	eager      = 2 * time.Second       // how long ready checks are tried as often as their kind allows
	hedgeAfter = 25 * time.Millisecond // silence after which an eager attempt gets company; doubles
	hedges     = 6                     // attempts of one check that may be under way at once
	aloud      = time.Second           // pause from which on each attempt is reported
	changeGap  = 100 * time.Millisecond
)

// floor is the shortest time between two attempts of a kind of check: what an attempt costs the host.
func floor(kind string) time.Duration {
	switch kind {
	case component.CheckExec:
		return 100 * time.Millisecond // some 50 ms of work for the engine
	case component.CheckDocker:
		return 20 * time.Millisecond
	case component.CheckConnection:
		return 10 * time.Millisecond // reads a counter
	}
	return 2 * time.Millisecond // refused by the kernel at once
}

// every is the time between two attempts of a termination check.
func every(c component.Check) time.Duration { return max(c.Every(), floor(c.Kind)) }

// healthEvery is the time between two attempts of a health check, anew for each: up to a tenth more or
// less than configured, so that the checks of many containers do not stay in step.
func (p *Prober) healthEvery(c component.Check) time.Duration {
	const longest = 1 << 62
	d := float64(c.HealthEvery()) * (0.9 + 0.2*p.random())
	return max(time.Duration(min(d, longest)), floor(c.Kind))
}

// A pace says how long to wait between two passes over the ready checks.
type pace struct {
	began time.Time
	last  time.Duration
}

func (p *pace) eager() bool { return time.Since(p.began) < eager }

// next is the pause after a pass in which the checks of tried ran and the last of them failed.
func (p *pace) next(tried []component.Check) time.Duration {
	least := time.Duration(0)
	for _, c := range tried {
		least = max(least, floor(c.Kind))
		if c.Kind == component.CheckExec {
			least = max(least, time.Since(p.began)/8) // late by an eighth at most, for few runs
		}
	}
	if p.eager() {
		p.last = least
	} else {
		p.last = max(2*p.last, least)
	}
	failed := tried[len(tried)-1]
	p.last = min(p.last, every(failed))
	return p.last
}

// wait reports whether d passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
