package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/localstate"
	"github.com/gantryd/gantryd/pkg/proxy"
)

// checkWithin bounds each question of a new process about the world.
const checkWithin = 10 * time.Second

func sender(ctx context.Context, s *proxy.State) func(*net.UnixConn) error {
	return func(c *net.UnixConn) error { return s.Send(ctx, c) }
}

// takeOver takes the place of another process. When it returns nil this one serves.
func (d *Daemon) takeOver(ctx context.Context) error {
	past := d.o.Past
	if err := d.openEngine(); err != nil {
		return past.Fail(err)
	}
	if err := d.check(ctx); err != nil {
		return past.Fail(err)
	}
	raw, files, err := past.Estate(ctx)
	if err != nil {
		return err
	}
	e, links, err := d.inherit(raw, files)
	if err != nil {
		return past.Fail(err)
	}
	l, err := d.prepare(ctx, e.Tenancy, true)
	if err != nil {
		return past.Fail(err)
	}
	giveUp := func(err error) error {
		d.unwind(ctx, &l.closers) // not deregistered: the old process goes on
		return past.Fail(err)
	}
	var state *proxy.State
	conns, err := past.Take(ctx, func(c *net.UnixConn) error {
		state, err = proxy.Receive(ctx, c)
		return err
	})
	if err != nil {
		return giveUp(err)
	}
	return d.reign(ctx, l, e, state, append(links, past.Link(conns)))
}

// reign serves with what was taken over. There is no way back.
func (d *Daemon) reign(ctx context.Context, l *life, e *estate, state *proxy.State, links []*handover.Link) error {
	d.addLife(l)
	defer l.keepLease(ctx)()
	d.openProxy(ctx, state)
	d.router.join(links...)
	d.router.expect(e.Targets)
	for owner, ls := range e.Routes {
		if err := d.router.Apply(owner, ls); err != nil {
			d.o.Log.Warn("listeners of the process before are not all there", "component", owner, "err", err)
		}
	}
	d.setReady() // it serves what was served
	d.lock.Own()
	if err := d.begin(l, e); err != nil {
		return err
	}
	d.o.Log.Info("took over", "pid", d.o.Past.PID, "version", d.o.Past.Version)
	if err := d.o.Past.Serving(ctx, func(c *net.UnixConn) error { return d.accept(ctx, c) }); err != nil {
		d.o.Log.Error("take connections of the process before", "err", err)
	}
	return nil
}

// check does all that needs nobody's leave: what cannot work is known before the old process stops.
func (d *Daemon) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	memory, err := localstate.OpenMemory(d.o.DataDir, d.o.Log)
	if err != nil {
		return err
	}
	if _, _, err := memory.Load(); err != nil {
		return err
	}
	if _, err := d.engine.Containers(ctx); err != nil {
		return fmt.Errorf("ask Docker Engine: %w", err)
	}
	if d.fleet == nil {
		return nil
	}
	f := *d.fleet
	if f.Embedded != "" {
		f.Etcd.Endpoints = []string{f.Embedded}
	}
	client, err := etcdstate.Dial(ctx, f.Etcd)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Project(ctx, d.o.Project); err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	return nil
}

// inherit reads what the old process gave: first the lock of the data directory, then the earlier processes, then
// the sockets for commands.
func (d *Daemon) inherit(raw []byte, files []*os.File) (*estate, []*handover.Link, error) {
	if len(files) == 0 {
		return nil, nil, errors.New("take over: no lock of the data directory")
	}
	var err error
	if d.lock, err = localstate.AdoptLock(files[0]); err != nil {
		closeFiles(files[1:])
		return nil, nil, err
	}
	d.closers.add("unlock data directory", func(context.Context) error {
		if d.lock == nil {
			return nil
		}
		return d.lock.Leave()
	})
	files = files[1:]
	e := &estate{}
	if err := json.Unmarshal(raw, e); err != nil {
		closeFiles(files)
		return nil, nil, fmt.Errorf("take over: read estate: %w", err)
	}
	if n := len(files) - len(e.Sockets); n >= 0 {
		d.closers.add("close sockets for commands", d.closeSockets)
		d.inheritSockets(e.Sockets, files[n:])
		files = files[:n]
	}
	if d.socket(claimed) == nil { // the version before did not know of it
		_ = d.claim() // what was handed over counts
	}
	links, err := inheritLinks(e.Past, files)
	return e, links, err
}

// inheritLinks are the links to the earlier processes, of which files are the sockets.
func inheritLinks(past []pastEstate, files []*os.File) ([]*handover.Link, error) {
	var links []*handover.Link
	for i, f := range files {
		var conns map[string]handover.Conns
		if i < len(past) {
			conns = past[i].Conns
		}
		link, err := handover.Adopt(f, conns)
		if err != nil {
			closeFiles(files[i+1:])
			return nil, err
		}
		links = append(links, link)
	}
	return links, nil
}
