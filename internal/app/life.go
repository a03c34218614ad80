package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/health"
	"github.com/gantryd/gantryd/pkg/localstate"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// A life is what only one process of a host may have at a time: the state and the loop that acts on it.
// It ends when another process is to have it, and a new one begins when that one fails.
type life struct {
	memory     *remembered
	local      *localstate.Store // gantry's; nil for a fleet
	fleet      *etcdstate.Store  // nil for gantry
	etcd       *etcdstate.Client // the API's; nil without one
	embedded   *etcdstate.Server // nil when etcd is elsewhere
	supervisor *supervisor.Supervisor
	closers    closers
	strict     bool
}

// prepare opens the state. The data directory is locked. t is what another process of this daemon left, or nil.
// Who is strict does not begin without all of it.
func (d *Daemon) prepare(ctx context.Context, t *etcdstate.Tenancy, strict bool) (_ *life, err error) {
	l := &life{strict: strict}
	defer func() {
		if err != nil {
			d.unwind(ctx, &l.closers)
		}
	}()
	if l.memory, err = d.remember(); err != nil {
		return nil, err
	}
	if d.fleet == nil {
		return l, d.openLocal(l)
	}
	return l, d.openFleet(ctx, l, t)
}

// remembered is what this host remembers, read once: a new process must not need the disk after it was told to go.
type remembered struct {
	*localstate.Memory
	records component.Records
	loaded  bool
}

// Load implements supervisor.Memory.
func (r *remembered) Load() (component.Records, bool, error) { return r.records, r.loaded, nil }

func (d *Daemon) remember() (*remembered, error) {
	m, err := localstate.OpenMemory(d.o.DataDir, d.o.Log)
	if err != nil {
		return nil, err
	}
	r := &remembered{Memory: m}
	r.records, r.loaded, err = m.Load()
	return r, err
}

func (d *Daemon) openFleet(ctx context.Context, l *life, t *etcdstate.Tenancy) error {
	f := *d.fleet
	if f.Embedded != "" {
		if err := d.embed(ctx, l); err != nil {
			return err
		}
		f.Etcd.Endpoints = []string{f.Embedded}
	}
	client, err := etcdstate.Dial(ctx, f.Etcd)
	if err != nil {
		return err
	}
	l.closers.add("close etcd client", func(context.Context) error { return client.Close() })
	if d.o.API != nil {
		// One of its own: watches of one client share a stream, on which etcd tells the store's that nothing
		// happened only when all of them have come as far.
		if l.etcd, err = etcdstate.Dial(ctx, f.Etcd); err != nil {
			return err
		}
		l.closers.add("close etcd client of the api", func(context.Context) error { return l.etcd.Close() })
	}
	l.fleet, err = etcdstate.NewStore(client, etcdstate.StoreOptions{
		Project: d.o.Project, Host: d.o.Host, TTL: f.LeaseTTL, Inherit: t, Log: d.o.Log,
		LeaseFile: filepath.Join(d.o.DataDir, "lease"),
	})
	return err
}

// embed starts an etcd in this process. A host that served before goes on without it: what it
// remembers is enough to serve.
func (d *Daemon) embed(ctx context.Context, l *life) error {
	srv, err := etcdstate.StartServer(ctx, etcdstate.ServerOptions{
		Name: d.o.Host, DataDir: filepath.Join(d.o.DataDir, "etcd"), ListenClient: d.fleet.Embedded, Log: d.o.Log,
	})
	if err == nil {
		l.embedded = srv
		l.closers.add("stop embedded etcd", func(context.Context) error { return srv.Close() })
		return nil
	}
	recs, _, loadErr := l.memory.Load()
	if loadErr != nil || len(recs.Components) == 0 || l.strict {
		return fmt.Errorf("start embedded etcd: %w", err)
	}
	d.o.Log.Error("embedded etcd does not start; what served before serves on, nothing new is started", "err", err)
	return nil
}

func (d *Daemon) openLocal(l *life) error {
	recs, _, err := l.memory.Load()
	if err != nil {
		return err
	}
	var above int64
	for _, r := range recs.Components {
		above = max(above, r.Generation)
	}
	l.local, err = localstate.OpenStore(d.o.DataDir, localstate.Options{Host: d.o.Host, Log: d.o.Log, Above: above})
	return err
}

// store is the one that the supervisor uses.
func (l *life) store() supervisor.Store {
	if l.fleet != nil {
		return l.fleet
	}
	return l.local
}

// begin makes the loop, which goes on from what e says when that is not nil.
func (d *Daemon) begin(l *life, e *estate) error {
	o := supervisor.Options{
		Host: d.o.Host, Bind: d.o.Bind, Advertise: d.o.Advertise, Components: d.o.Components,
		Machine: component.Machine{
			Status: "running", IP: d.o.Advertise, Version: d.o.Version, Nonce: rand.Text(), StartedAt: time.Now().UTC(),
		},
		Store: l.store(), Engine: d.engine, Router: d.router, Memory: l.memory,
		Prober: health.New(health.Options{Runner: d.engine, Log: d.o.Log}),
		Report: d.o.Report, Log: d.o.Log,
	}
	if e != nil {
		o.Inherited, o.Links = true, e.Links
	}
	var err error
	l.supervisor, err = supervisor.New(o)
	return err
}

// run runs the loop, and what goes on beside it, until ctx ends.
func (d *Daemon) run(ctx context.Context, l *life) error {
	beside, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	wg.Go(func() { d.settle(beside, l) })
	wg.Go(func() { d.watchEmbedded(beside, l) })
	wg.Go(func() { d.router.follow(beside) })
	wg.Go(func() { d.serveAPI(beside, l) })
	return l.supervisor.Run(ctx)
}

// serveAPI serves the API until ctx ends. What else the daemon does goes on without it.
func (d *Daemon) serveAPI(ctx context.Context, l *life) {
	said := ""
	for d.o.API != nil && l.etcd != nil && ctx.Err() == nil {
		err := d.o.API(ctx, l.etcd, d.engine)
		if ctx.Err() != nil {
			return
		}
		if text := fmt.Sprint(err); text != said {
			said = text
			d.o.Log.Error("api ended; it begins again", "err", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// watchEmbedded tells when the embedded etcd fails; what serves goes on.
func (d *Daemon) watchEmbedded(ctx context.Context, l *life) {
	if l.embedded == nil {
		return
	}
	select {
	case <-l.embedded.Failed():
		d.o.Log.Error("embedded etcd failed; what serves goes on, nothing new is started until the daemon is restarted")
	case <-ctx.Done():
	}
}

// keepLease renews the lease that was handed over, until it is told to end: what comes before the loop, such as
// connections that move, may take longer than the lease lives.
func (l *life) keepLease(ctx context.Context) (end func()) {
	if l.fleet == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { l.fleet.Keep(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// deregister gives up this host's place among the others, for a clean end.
func (l *life) deregister(ctx context.Context) error {
	if l.fleet == nil {
		return nil
	}
	return l.fleet.Deregister(ctx)
}

// tenancy is what the next process goes on with, nil when there is no such thing.
func (l *life) tenancy() *etcdstate.Tenancy {
	if l.fleet == nil {
		return nil
	}
	t := l.fleet.Tenancy()
	return &t
}
