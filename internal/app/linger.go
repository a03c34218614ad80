package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/internal/packet"
	"github.com/gantryd/gantryd/internal/sdnotify"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/proxy"
)

// linger tells whom it concerns that the new process has taken over, and finishes the connections that stay
// here: until they are done, or the new process asks to leave, or the time is over. Its error is that the new
// process is gone: then nobody serves until this one has ended as well and the daemon is started again.
func (d *Daemon) linger(ctx context.Context, h *heritage) error {
	if d.o.Keeper != nil {
		d.o.Keeper.Detach()
	}
	d.router.forget()
	s := Successor{PID: h.heir.PID, Version: h.heir.Version}
	moved, err := d.awaitServing(ctx, h.heir)
	d.router.proxy.Release(h.state)
	link := h.heir.Link()
	defer link.Close()
	h.order.result <- err
	d.disclaim()
	_ = d.lock.Leave() // the new process has it
	d.lock = nil
	if errors.Is(err, handover.ErrGone) || errors.Is(err, errEnding) {
		return cmp.Or(context.Cause(ctx), err)
	}
	d.o.Log.Info("handed over", "pid", s.PID, "version", s.Version, "moved", moved.Conns, "stalled", moved.Stalls,
		"connections", total(d.router.own()))
	d.finish(ctx, link)
	return nil
}

// awaitServing waits until the new process serves, moves the connections, and tells the service manager of it
// unless it is gone.
func (d *Daemon) awaitServing(ctx context.Context, heir *handover.Heir) (moved proxy.Moved, err error) {
	serving, cancel := context.WithTimeout(ctx, servingWithin)
	defer cancel()
	if err = heir.Serving(serving); err == nil {
		var all bool
		moved, all = d.move(ctx, heir)
		err = cmp.Or(heir.Ended(dyingIf(!all)), context.Cause(ctx)) // either may have come meanwhile
	}
	switch {
	case err != nil && ctx.Err() != nil: // whoever asked this process to end does not know of the new one yet
		if endErr := heir.Terminate(ctx); endErr != nil {
			d.o.Log.Error("end the new process", "err", endErr)
		}
		return moved, errEnding
	case errors.Is(err, handover.ErrGone):
		err = fmt.Errorf("process %d took over and ended; its output says why: %w", heir.PID, err)
		d.o.Log.Error("nobody serves, this process ends as well", "err", err)
		return moved, err
	case err != nil:
		err = fmt.Errorf("process %d took over, but does not say that it serves: %w", heir.PID, explain(err))
		d.o.Log.Error("new process is silent", "err", err)
	}
	if notifyErr := sdnotify.MainPID(heir.PID); notifyErr != nil {
		d.o.Log.Warn("notify service manager", "err", notifyErr)
	}
	heir.Confirm()
	return moved, err
}

// dyingIf is how long to wait for the end of a process that may be about to end: its sockets are closed a moment
// before it is seen to have gone.
func dyingIf(maybe bool) time.Duration {
	if maybe {
		return dyingWithin
	}
	return 0
}

// move hands the connections over that can be, and reports whether the new process took all of them. Those that
// cannot, whatever the reason, are finished here.
func (d *Daemon) move(ctx context.Context, heir *handover.Heir) (moved proxy.Moved, all bool) {
	ctx, cancel := context.WithTimeout(ctx, moveWithin)
	defer cancel()
	ended := func() bool { return heir.Ended(dyingWithin) != nil }
	err := heir.Move(func(c *net.UnixConn) error {
		var err error
		moved, err = d.router.proxy.Move(ctx, func(s *proxy.State) (bool, error) { return pass(ctx, c, s, ended) })
		if err != nil {
			return err
		}
		return (&proxy.State{}).Send(ctx, c) // there are no more
	})
	if err != nil {
		d.o.Log.Error("connections are finished here, not by the new process", "err", explain(err))
	}
	return moved, err == nil
}

// What the new process says of some connections, in one byte. While nothing is said it may carry them.
const (
	refused = 0 // it does not carry them, and takes no more
	carried = 1
)

// errRefused says that the new process has given connections up before it carried any of them.
var errRefused = errors.New("the new process does not take them; its output says why")

// pass sends some connections, and waits until the new process carries them. After an error, sent says that it may:
// unless it said that it does not, or closed its side without a word and lives on, as a version does that has no word
// for that. One that has died may have read of their bytes.
func pass(ctx context.Context, c *net.UnixConn, s *proxy.State, ended func() bool) (sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, batchWithin)
	defer cancel()
	if err := s.Send(ctx, c); err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	said := make([]byte, 1)
	_, err = io.ReadFull(c, said)
	switch err = packet.Gone(err); {
	case err == nil && said[0] == refused, errors.Is(err, handover.ErrGone) && !ended():
		return false, errRefused
	case err != nil && ctx.Err() != nil:
		return true, context.Cause(ctx)
	}
	return true, err
}

// accept goes on with the connections that the old process passes.
func (d *Daemon) accept(ctx context.Context, c *net.UnixConn) error {
	for {
		s, err := receive(ctx, c)
		if err == nil {
			if listeners, conns := s.Counts(); listeners+conns == 0 {
				return nil
			}
			if err = d.router.proxy.Adopt(s); err != nil {
				s.Close()
			}
		}
		if err != nil {
			_, _ = c.Write([]byte{refused}) // nobody reads it when the old process is gone
			return err
		}
		if _, err := c.Write([]byte{carried}); err != nil {
			return err
		}
	}
}

func receive(ctx context.Context, c *net.UnixConn) (*proxy.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*batchWithin)
	defer cancel()
	return proxy.Receive(ctx, c)
}

// finish lets connections end.
func (d *Daemon) finish(ctx context.Context, link *handover.Link) {
	ctx, leave := context.WithTimeout(ctx, d.o.Linger)
	defer leave()
	var wg sync.WaitGroup
	defer wg.Wait()
	beside, end := context.WithCancel(ctx)
	defer end()
	p := d.router.proxy
	draining := make(chan string, maxDetailed) // more than these are not told in detail
	wg.Go(func() {
		drain := func(id string) {
			p.Drain(id)
			select {
			case draining <- id:
			default:
			}
		}
		cut := func(id string, rate int) { wg.Go(func() { p.Cut(beside, id, rate) }) }
		if link.Obey(beside, drain, cut) {
			leave()
		}
	})
	wg.Go(func() { d.tell(beside, link, draining) })
	_ = p.Shutdown(ctx) // it says only that the time was over
	link.Tell(d.router.own())
}

// A process that finishes its connections tells how many are left when that changes, and of draining targets which
// ones, every now and then: their bytes change all the time.
const (
	tellEvery   = 100 * time.Millisecond
	detailEvery = 2 * time.Second
	maxDetailed = 16 // targets: with component.MaxLeft connections each they fit into one packet
)

// tell says what is left, until ctx ends.
func (d *Daemon) tell(ctx context.Context, link *handover.Link, draining <-chan string) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	told, detailed := -1, time.Now()
	var drained []string
	for {
		conns := d.router.own()
		if n := total(conns); n != told || len(drained) > 0 && time.Since(detailed) >= detailEvery {
			detailed = time.Now()
			for _, id := range drained {
				if c, ok := conns[id]; ok {
					c.Left = d.router.left(id, component.MaxLeft)
					conns[id] = c
				}
			}
			link.Tell(conns)
			told = n
		}
		select {
		case <-tick.C:
		case id := <-draining:
			if !slices.Contains(drained, id) && len(drained) < maxDetailed {
				drained, detailed = append(drained, id), time.Time{}
			}
		case <-ctx.Done():
			return
		}
	}
}

func total(conns map[string]handover.Conns) int {
	n := 0
	for _, c := range conns {
		n += c.Open
	}
	return n
}
