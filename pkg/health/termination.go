package health

import (
	"context"
	"fmt"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// Signal sends the signals in order, each once and for at most its request timeout. A failure is
// reported, with its cause as the event's Detail; the next signal is sent nevertheless.
func (p *Prober) Signal(ctx context.Context, t component.ProbeTarget, signals []component.Signal, report func(component.Event)) {
	if len(signals) == 0 {
		return
	}
	s := story{t, report}
	s.tell(component.EventSignal, fmt.Sprintf("Sending %d termination signals", len(signals)), nil)
	for _, sig := range signals {
		s.tell(component.EventSignal, "Sending termination signal: "+sig.Title(), nil)
		if err := p.send(ctx, t, sig); err != nil {
			s.tell(component.EventSignal, "Termination signal failed", err)
		}
	}
}

func (p *Prober) send(ctx context.Context, t component.ProbeTarget, sig component.Signal) error {
	ctx, cancel := within(ctx, sig.Within())
	defer cancel()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch sig.Kind {
	case component.CheckHTTP, component.CheckHTTPS:
		return p.request(ctx, t, signalRequest(sig))
	case component.CheckExec:
		return p.exec(ctx, t, sig.Command, sig.ExecCommand)
	}
	return fmt.Errorf("Unknown termination signal kind: %s", sig.Kind) //nolint:staticcheck // the original's words
}

// Terminated waits for the checks in order, for each until it passed once; when checks is nil it waits
// until the proxy holds no connection to the container, as if there were one of kind connection.
// An empty list is none: there is nothing to wait for.
// That kind is noticed within 20 ms, the others are tried at their interval. A check that cannot
// pass is waited for until ctx ends; the error is then what it said last, like that of Ready.
//
// The first attempt of each check is reported, then only changes.
func (p *Prober) Terminated(ctx context.Context, t component.ProbeTarget, checks []component.Check, report func(component.Event)) error {
	if checks == nil {
		checks = []component.Check{{Kind: component.CheckConnection}}
	}
	s := story{t, report}
	s.tell(component.EventTermination, fmt.Sprintf("Waiting for %d termination checks", len(checks)), nil)
	for _, c := range checks {
		s.attempt(component.EventTermination, "termination", c)
		if err := p.await(ctx, s, c); err != nil {
			return err
		}
	}
	s.tell(component.EventTermination, "Monitor check finished", nil)
	return nil
}

// await runs one termination check until it passes.
func (p *Prober) await(ctx context.Context, s story, c component.Check) error {
	pause := every(c)
	if c.Kind == component.CheckConnection {
		pause = floor(c.Kind)
	}
	var muffle muffler
	var last error
	for {
		err := p.Probe(ctx, s.target, c)
		if err == nil {
			s.outcome(component.EventTermination, c, nil)
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if ctx.Err() != nil {
			return ended(ctx, c, last)
		}
		if muffle.worth(err, min(every(c), time.Minute)) {
			s.outcome(component.EventTermination, c, err)
			s.tell(component.EventTermination, "Termination check failed", err)
		}
		if !wait(ctx, pause) {
			return ended(ctx, c, last)
		}
	}
}
