package app

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

// Listening sockets that an earlier process left wait for a component that asks for them: until all that this host
// is to run is known and was looked at, and then for settleSocketsAfter. Clients wait in their queues meanwhile.
const (
	settleSocketsAfter = time.Minute
	settleSocketsTick  = time.Second
)

// CommandUpgrade is the control command for an upgrade; its arguments are UpgradeArgs, its result is Successor.
const CommandUpgrade = "upgrade"

// UpgradeArgs are what the command upgrade may say.
type UpgradeArgs struct {
	Binary string `json:"binary,omitempty"` // path; empty: the daemon's own, as it is now
}

// serve answers commands and lives until ctx ends, or until another process took over and the connections
// here are done.
func (d *Daemon) serve(ctx context.Context) error {
	beside, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(d.ended) // before the wait: a command that starts a new process gives up
	defer end()
	if d.o.Keeper != nil {
		wg.Go(func() { d.o.Keeper.Run(beside) })
	}
	commands, deaf := context.WithCancel(beside)
	defer deaf()
	wg.Go(func() { d.command(commands) })
	wg.Go(func() { d.settleSockets(beside) })
	gone, err := d.live(ctx)
	if gone == nil {
		return err
	}
	deaf()
	return d.linger(ctx, gone)
}

// settleSockets closes the listening sockets that an earlier process left and nobody asked for. A daemon that does
// not know yet what it is to run, because it does not reach etcd or Docker Engine, drops nothing.
func (d *Daemon) settleSockets(ctx context.Context) {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(settleSocketsTick)
	defer tick.Stop()
	dropUnclaimed(ctx, d.router.proxy, tick.C, settleSocketsAfter, func() bool { return d.current().supervisor.Settled() })
}

// An inheritance is a proxy that has what another process left.
type inheritance interface {
	Unsettled() bool
	Settle()
}

// dropUnclaimed closes what nobody asked for once it has been known for a while who asks for what, and is over as
// soon as everything was asked for.
func dropUnclaimed(ctx context.Context, p inheritance, tick <-chan time.Time, after time.Duration, known func() bool) {
	var since time.Time // when it was known
	for p.Unsettled() {
		var now time.Time
		select {
		case now = <-tick:
		case <-ctx.Done():
			return
		}
		switch {
		case !known():
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) >= after:
			p.Settle()
			return
		}
	}
}

func (d *Daemon) upgradeCommand(ctx context.Context, raw json.RawMessage) (any, error) {
	var args UpgradeArgs
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, err
		}
	}
	return d.Upgrade(ctx, args.Binary)
}

// live runs one life after another, until ctx ends, the loop fails, or another process has taken over, which
// it returns.
func (d *Daemon) live(ctx context.Context) (*heritage, error) {
	for {
		l := d.current()
		gone, again, err := d.liveOnce(ctx, l)
		if !again {
			return gone, err
		}
	}
}

// liveOnce runs the loop of l; again says that another life has begun.
func (d *Daemon) liveOnce(ctx context.Context, l *life) (gone *heritage, again bool, err error) {
	loop, end := context.WithCancelCause(ctx)
	defer end(nil)
	result := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { result <- d.run(loop, l) })
	wg.Go(func() {
		select {
		case <-l.supervisor.Ready():
			d.setReady()
		case <-loop.Done():
		}
	})
	for {
		select {
		case err := <-result:
			return nil, false, err
		case o := <-d.orders:
			if err := l.supervisor.Pause(o.bounded(ctx)); err != nil {
				o.refuse(ctx, err)
				continue // as if nothing had been
			}
			end(errHandOver)
			if err := <-result; !errors.Is(err, errHandOver) && ctx.Err() == nil {
				d.o.Log.Warn("loop failed before the upgrade", "err", err)
			}
			gone, err := d.handOver(ctx, o, l)
			return gone, gone == nil && err == nil, err
		}
	}
}
