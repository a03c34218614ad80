package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/pkg/component"
)

// An ends remembers of containers that have ended whether the Engine took them along.
type ends struct {
	mu   sync.Mutex
	with map[string]bool // by container ID
}

// known tells what is known of a container, and forgets those that are not in list.
func (e *ends) known(list []component.EngineContainer) map[string]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	with := make(map[string]bool, len(e.with))
	for _, c := range list {
		if w, ok := e.with[c.ID]; ok {
			with[c.ID] = w
		}
	}
	e.with = with
	return maps.Clone(with)
}

func (e *ends) keep(id string, with bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.with[id] = with
}

// tellEnds says of each container in list that has ended whether it ended because the Engine did. It asks
// once for each: what was seen to end before the Engine did, did so by itself.
func (e *Engine) tellEnds(ctx context.Context, list []component.EngineContainer) error {
	known := e.ends.known(list)
	for i := range list {
		c := &list[i]
		if c.State != component.RunExited {
			continue
		}
		with, ok := known[c.ID]
		if !ok {
			var err error
			if with, err = e.endedWithEngine(ctx, c.ID); errdefs.IsNotFound(err) {
				continue // it is gone meanwhile
			}
			if err = e.answered(ctx, err); errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
				return fmt.Errorf("ask why container %q ended: %w", component.Short(c.ID), err)
			}
			if err != nil { // it counts as one that ended by itself, and does not keep the others from being seen
				e.log.Warn("container cannot be inspected", "container", component.Short(c.ID), "err", err)
			}
			e.ends.keep(c.ID, with)
		}
		c.WithEngine = with
	}
	return nil
}

// endedWithEngine reports whether the container ran when an Engine before this one ended, or was ended by
// this one at its start, as it is without live-restore. The default bridge is as old as this Engine: it is
// made anew at every start, unless containers live on. Where there is none, nobody knows, and the
// container counts as one that ended by itself.
func (e *Engine) endedWithEngine(ctx context.Context, id string) (bool, error) {
	if err := e.takesClients(ctx); err != nil {
		return false, err
	}
	c, err := e.inspect(ctx, id)
	if err != nil {
		return false, err
	}
	var n network.Inspect
	err = e.call(ctx, e.limits.query, func(ctx context.Context, cli *client.Client) (err error) {
		n, err = cli.NetworkInspect(ctx, defaultNetwork, network.InspectOptions{})
		return err
	})
	switch {
	case errdefs.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("inspect network %q: %w", defaultNetwork, err)
	}
	return endedBefore(c.State, n.Created), nil
}

// endedBefore reports whether a container that has ended began and ended before at.
func endedBefore(s *container.State, at time.Time) bool {
	began, err := time.Parse(time.RFC3339Nano, s.StartedAt)
	if err != nil || began.IsZero() {
		return false
	}
	ended, err := time.Parse(time.RFC3339Nano, s.FinishedAt)
	return err == nil && !s.Running && began.Before(at) && ended.Before(at)
}

// answered is err, or ErrUnreachable when that is likely to be no answer about what was asked: an Engine that is
// about to end refuses this and that.
func (e *Engine) answered(ctx context.Context, err error) error {
	if err == nil || errdefs.IsNotFound(err) || errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
		return err
	}
	if gone := e.takesClients(ctx); gone != nil {
		return fmt.Errorf("%w: %w", gone, err)
	}
	return err
}

// takesClients is nil when the Engine answers on a new connection. One that is about to end answers on old ones
// only, and ends its containers meanwhile.
func (e *Engine) takesClients(ctx context.Context) error {
	cli, err := e.endpoint.client(e.limits.dial)
	if err != nil {
		return err
	}
	defer cli.Close()
	late := fmt.Errorf("%w: no answer within %s", ErrUnreachable, e.limits.ping)
	ctx, cancel := context.WithTimeoutCause(ctx, e.limits.ping, late)
	defer cancel()
	if _, err := cli.Ping(ctx); err != nil {
		return fmt.Errorf("ask on a new connection: %w", explain(ctx, err))
	}
	return nil
}
