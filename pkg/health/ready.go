package health

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// Ready returns nil once all checks passed in one pass, in order; after a failure it starts again
// from the first. Without checks it returns at once.
//
// In its first 2 s it tries as often as the kind of check allows (every 2 ms for those over the
// network), then ever more seldom, down to the check's interval. An attempt over the network that
// stays silent in that time gets company, so that one the container swallowed while it started does
// not hide that it is ready by now.
//
// When ctx ends it returns the last failure, as `check "title": …`, which also wraps the error and
// the cause of ctx. Attempts are reported; while they come fast, only the first one and changes.
func (p *Prober) Ready(ctx context.Context, t component.ProbeTarget, checks []component.Check, report func(component.Event)) error {
	run := readyRun{
		prober: p,
		story:  story{t, report},
		checks: checks,
		pace:   pace{began: time.Now()},
		heard:  make([]bool, len(checks)),
	}
	var last error
	var of component.Check
	for {
		at, err := run.pass(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // an attempt that ctx's end cut short says little
			last, of = err, checks[at]
		}
		if ctx.Err() != nil || !wait(ctx, run.failed(at, err)) {
			return ended(ctx, of, last)
		}
	}
}

// A readyRun is one call of Ready.
type readyRun struct {
	prober *Prober
	story  story
	checks []component.Check
	pace   pace
	heard  []bool // by check: its first attempt was reported
	aloud  bool   // attempts are few enough to report each
	muffle muffler
}

// pass runs the checks up to the first failure and returns the index of that one.
func (r *readyRun) pass(ctx context.Context) (int, error) {
	for i, c := range r.checks {
		tell := r.aloud || !r.heard[i]
		if tell {
			r.heard[i] = true
			r.story.attempt(component.EventCheck, "health", c)
		}
		if err := r.attempt(ctx, c); err != nil {
			return i, err
		}
		if tell {
			r.story.outcome(component.EventCheck, c, nil)
		}
	}
	return 0, nil
}

func (r *readyRun) attempt(ctx context.Context, c component.Check) error {
	if r.pace.eager() && overNetwork(c.Kind) && c.Within() > hedgeAfter {
		return r.prober.hedged(ctx, r.story.target, c)
	}
	return r.prober.Probe(ctx, r.story.target, c)
}

// failed reports that the check at failed, as far as that is news, and returns the pause that follows.
func (r *readyRun) failed(at int, err error) time.Duration {
	pause := r.pace.next(r.checks[:at+1])
	r.aloud = pause >= aloud
	if !r.muffle.worth(err, changeGap) && !r.aloud {
		return pause
	}
	r.story.outcome(component.EventCheck, r.checks[at], err)
	r.story.tell(component.EventCheckFailed, "Health check failed", err)
	if r.aloud {
		r.story.tell(component.EventCheck, fmt.Sprintf("Sleeping %d second(s)...", pause.Round(time.Second)/time.Second), nil)
	}
	return pause
}

func overNetwork(kind string) bool {
	switch kind {
	case component.CheckHTTP, component.CheckHTTPS, component.CheckTCP, component.CheckGRPC:
		return true
	}
	return false
}

// hedged is Probe with company: whenever all attempts have been silent for a while, twice as long
// each time, another one starts. The first answer counts and ends the others.
func (p *Prober) hedged(ctx context.Context, t component.ProbeTarget, c component.Check) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, hedges) // none blocks: the losers' answers are never read
	start := func() { wg.Go(func() { answers <- p.Probe(ctx, t, c) }) }

	start()
	silence := time.NewTimer(hedgeAfter)
	defer silence.Stop()
	for n := 1; ; {
		select {
		case err := <-answers:
			return err
		case <-silence.C:
			if n < hedges {
				start()
				silence.Reset(hedgeAfter << n)
				n++
			}
		}
	}
}
