package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/client"
	"golang.org/x/sync/errgroup"
)

// actions are the events that change what Containers or DockerHealth answer.
func actions() []events.Action {
	return []events.Action{
		events.ActionStart, events.ActionDie, events.ActionKill, events.ActionOOM, events.ActionDestroy,
		events.ActionHealthStatus, events.ActionPause, events.ActionUnPause, events.ActionRename,
	}
}

// Run watches events until ctx ends and calls changed, from one goroutine at a time, with the name
// of the component whose container changed. It calls changed("") whenever the stream begins, since
// anything may have happened before: at first, and after it lost the Engine and found it again.
func (e *Engine) Run(ctx context.Context, changed func(name string)) error {
	wait := e.limits.retryMin
	var lostAt time.Time
	var lastProblem string
	for {
		began := time.Now()
		err := e.watch(ctx, func(name string) {
			if !lostAt.IsZero() {
				e.log.Info("engine found again", "elapsed", time.Since(lostAt))
				lostAt, lastProblem = time.Time{}, ""
			}
			changed(name)
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if lostAt.IsZero() {
			lostAt = time.Now()
		}
		if err.Error() != lastProblem {
			lastProblem = err.Error()
			e.log.Warn("engine does not answer", "err", err)
		}
		if time.Since(began) > e.limits.retryMax {
			wait = e.limits.retryMin // it worked for a while
		}
		if err := sleep(ctx, wait/2+rand.N(wait)); err != nil {
			return err
		}
		wait = min(2*wait, e.limits.retryMax)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// watch follows one event stream to its end, which is always an error.
func (e *Engine) watch(ctx context.Context, changed func(name string)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	s, err := e.subscribe(ctx, cancel)
	if err != nil {
		cancel(err)
		return err
	}
	e.recent.watch(true)
	defer e.recent.watch(false)
	changed("")
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return s.forward(gctx, func(name string) {
			e.recent.changed()
			changed(name)
		})
	})
	g.Go(func() error { return e.heartbeat(gctx) })
	g.Go(func() error { e.checkSettings(gctx); return nil })
	err = g.Wait()
	cancel(err)
	for range s.errs { // closed by the client's goroutine when it ends
	}
	e.drop(s.cli)
	return err
}

// A stream is an open stream of events.
type stream struct {
	cli  *client.Client
	msgs <-chan events.Message
	errs <-chan error
}

// subscribe opens the stream. The Engine answers before it listens to events itself, so the stream
// begins a second in the past; events that come twice do no harm.
func (e *Engine) subscribe(ctx context.Context, cancel context.CancelCauseFunc) (stream, error) {
	late := fmt.Errorf("%w: no answer within %s", ErrUnreachable, e.limits.query)
	timer := time.AfterFunc(e.limits.query+e.limits.ping, func() { cancel(late) })
	defer timer.Stop()
	cli, err := e.connect(ctx)
	if err != nil {
		return stream{}, err
	}
	args := e.ours()
	args.Add("type", string(events.ContainerEventType))
	for _, a := range actions() {
		args.Add("event", string(a))
	}
	since := time.Now().Add(-time.Second)
	msgs, errs := cli.Events(ctx, events.ListOptions{
		Since:   fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		Filters: args,
	})
	s := stream{cli, msgs, errs}
	select {
	case err := <-errs: // refused; the client's goroutine has ended
		e.drop(cli)
		return stream{}, streamError(ctx, err)
	default:
		return s, nil
	}
}

// forward hands events on until the stream ends.
func (s stream) forward(ctx context.Context, changed func(name string)) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-s.errs:
			return streamError(ctx, err)
		case m := <-s.msgs:
			if matters(m.Action) {
				changed(componentOf(m.Actor.Attributes))
			}
		}
	}
}

func streamError(ctx context.Context, err error) error {
	if err == nil {
		err = errors.New("it ended")
	}
	return fmt.Errorf("watch events: %w", explain(ctx, err))
}

// matters tells our events from those of commands run in containers, of which there are many.
// "health_status" is followed by the status.
func matters(a events.Action) bool {
	name, _, _ := strings.Cut(string(a), ":")
	for _, want := range actions() {
		if name == string(want) {
			return true
		}
	}
	return false
}

// heartbeat asks for a sign of life from time to time: an Engine that hangs keeps its stream open.
func (e *Engine) heartbeat(ctx context.Context) error {
	tick := time.NewTicker(e.limits.heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		err := e.call(ctx, e.limits.heartbeat, func(ctx context.Context, cli *client.Client) error {
			_, err := cli.Ping(ctx)
			return err
		})
		if errors.Is(err, ErrUnreachable) {
			return fmt.Errorf("ask for a sign of life: %w", err)
		}
	}
}

// checkSettings warns, once, of settings that cost availability.
func (e *Engine) checkSettings(ctx context.Context) {
	e.mu.Lock()
	done := e.checked
	e.mu.Unlock()
	if done {
		return
	}
	info, err := e.Info(ctx)
	if err != nil {
		return // asked again when the next stream begins
	}
	e.mu.Lock()
	e.checked = true
	e.mu.Unlock()
	if !info.LiveRestore {
		e.log.Warn("engine lacks live-restore: when it restarts, all containers of this host stop", "engine", info.Version)
	}
}
