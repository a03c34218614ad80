package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/internal/sdnotify"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/proxy"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// Bounds of the steps of an upgrade. Clients are served during all of them.
const (
	startWithin   = 30 * time.Second // the new process is ready to take over
	pauseWithin   = 30 * time.Second // what is under way here has ended
	prepareWithin = 60 * time.Second // the new process has opened the state, and started etcd
	passWithin    = 5 * time.Second  // it has the sockets
	servingWithin = 30 * time.Second // it says that it serves
	moveWithin    = 60 * time.Second // it has the connections that can move; the others end here
	batchWithin   = 10 * time.Second // it has some of them: these stand still
	dyingWithin   = time.Second      // it is seen to have ended, once its sockets are closed
)

// maxLingering is how many earlier processes may still finish connections when another upgrade begins.
const maxLingering = 8

// errHandOver ends the loop of a process that hands over.
var errHandOver = errors.New("handing over to another process")

// errEnding says why no upgrade is possible any more.
var errEnding = errors.New("this daemon is ending")

// ErrUpgrading says that an upgrade is under way.
var ErrUpgrading = errors.New("another upgrade is under way")

// A Successor is the process that took over.
type Successor struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// An order is one upgrade, on its way from who asked for it to the loop.
type order struct {
	heir   *handover.Heir
	result chan error // one place
}

// refuse ends the new process and says why.
func (o *order) refuse(ctx context.Context, err error) {
	if endErr := o.heir.End(ctx); endErr != nil {
		err = fmt.Errorf("%w; end the new process: %w", err, endErr)
	}
	o.result <- err
}

// bounded is ctx with the time that what is under way has to end.
func (o *order) bounded(ctx context.Context) context.Context {
	ctx, cancel := context.WithTimeout(ctx, pauseWithin)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// heritage is what another process has taken over.
type heritage struct {
	heir  *handover.Heir
	state *proxy.State
	order *order
}

// estate is what the next process is told. Fields that it does not know are skipped.
type estate struct {
	Tenancy *etcdstate.Tenancy               `json:"tenancy,omitempty"`
	Routes  map[string][]supervisor.Listener `json:"routes"` // by owner
	Links   map[string]supervisor.LinkTarget `json:"links"`
	Targets []string                         `json:"targets"` // that may have connections
	Past    []pastEstate                     `json:"past"`    // in the order of their files
	Sockets []string                         `json:"sockets"` // names of those for commands; their files are the last
}

// pastEstate is an earlier process that still finishes connections.
type pastEstate struct {
	Conns map[string]handover.Conns `json:"conns"`
}

// Upgrade replaces this process by a new one of the binary, or of its own when that is empty, and returns
// when that one serves. After an error this process goes on as if nothing had been.
func (d *Daemon) Upgrade(ctx context.Context, binary string) (Successor, error) {
	if !d.upgrading.TryLock() {
		return Successor{}, ErrUpgrading
	}
	defer d.upgrading.Unlock()
	s, err := d.upgrade(ctx, binary)
	if err != nil {
		err = fmt.Errorf("upgrade: %w", err)
		if d.isHanded() {
			return s, err // the service manager is not told: this process is not the daemon any more
		}
		d.o.Log.Error("upgrade failed, this process goes on", "err", err)
		_ = sdnotify.Ready("running; the last upgrade failed") // it says so by itself when nobody listens
		return s, err
	}
	return s, nil
}

func (d *Daemon) upgrade(ctx context.Context, binary string) (Successor, error) {
	if len(d.o.Argv) == 0 {
		return Successor{}, errors.New("this daemon does not know how it was started")
	}
	if d.isHanded() {
		return Successor{}, ErrHanded
	}
	if n := len(d.router.links()); n >= maxLingering {
		return Successor{}, fmt.Errorf("%d earlier processes still finish their connections: wait for them, at most %v", n, d.o.Linger)
	}
	argv := slices.Clone(d.o.Argv)
	if binary != "" {
		argv[0] = binary
	}
	d.o.Log.Info("upgrade begins", "binary", argv[0])
	if err := sdnotify.Reloading("upgrading"); err != nil {
		d.o.Log.Warn("notify service manager", "err", err)
	}
	alive, release := d.untilEnd(ctx)
	defer release()
	starting, cancel := context.WithTimeout(alive, startWithin)
	defer cancel()
	var facts handover.Facts
	if d.fleet != nil {
		facts.Embedded = d.fleet.Embedded
	}
	heir, err := handover.Start(starting, argv, os.Environ(), d.o.Version, facts)
	if err != nil {
		return Successor{}, err
	}
	s := Successor{PID: heir.PID, Version: heir.Version}
	o := &order{heir: heir, result: make(chan error, 1)}
	select {
	case d.orders <- o:
	case <-d.ended:
		o.refuse(ctx, errEnding)
	}
	return s, <-o.result
}

// untilEnd is ctx that ends with the daemon as well: a new process that hangs must not keep this one from ending.
func (d *Daemon) untilEnd(ctx context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-d.ended:
			cancel(errEnding)
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}

// handOver gives everything to the new process, and returns what it got. On a failure it takes everything back
// and begins a new life here; its error is that this is not possible.
func (d *Daemon) handOver(ctx context.Context, o *order, l *life) (*heritage, error) {
	d.gate.Lock()
	defer d.gate.Unlock()
	suspendErr := l.closers.close(ctx) // not deregistered: the next process goes on
	if suspendErr != nil {
		d.o.Log.Warn("close state for the upgrade", "err", suspendErr)
	}
	state, err := d.give(ctx, o.heir, l)
	if err == nil {
		d.abandoned.Store(true)
		close(d.handed)
		return &heritage{heir: o.heir, state: state, order: o}, nil
	}
	if endErr := o.heir.End(ctx); endErr != nil {
		d.o.Log.Error("end the new process", "err", endErr)
	}
	if state != nil {
		d.router.proxy.Resume(state)
	}
	backErr := d.takeBack(ctx, l)
	o.result <- err
	return nil, backErr
}

// give does the steps of the hand-over. When it returns an error and a state, the state is still this process's.
func (d *Daemon) give(ctx context.Context, h *handover.Heir, l *life) (*proxy.State, error) {
	files, e, err := d.estate(l)
	defer closeFiles(files)
	if err != nil {
		return nil, err
	}
	preparing, cancel := context.WithTimeout(ctx, prepareWithin)
	defer cancel()
	if err := h.Give(preparing, e, append([]*os.File{d.lock.File()}, files...)...); err != nil {
		return nil, fmt.Errorf("new process: prepare: %w", explain(err))
	}
	passing, cancel := context.WithTimeout(ctx, passWithin)
	defer cancel()
	state, err := d.router.proxy.Export(passing)
	if err != nil {
		return nil, err
	}
	if err := h.Pass(passing, sender(passing, state)); err != nil {
		return state, fmt.Errorf("new process: take sockets: %w", explain(err))
	}
	if err := h.Go(d.router.own()); err != nil {
		return state, fmt.Errorf("new process: %w", explain(err))
	}
	return state, nil
}

// explain says in words what an ended or silent process is.
func explain(err error) error {
	switch {
	case errors.Is(err, handover.ErrGone):
		return errors.New("it ended before it had taken over; its output says why")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("it did not answer in time")
	}
	return err
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // a duplicate
	}
}

// estate is what the next process gets; the files are duplicates of the links to earlier processes, and of the
// sockets for commands.
func (d *Daemon) estate(l *life) ([]*os.File, []byte, error) {
	e := estate{Tenancy: l.tenancy(), Routes: d.router.applied(), Links: l.supervisor.LinkTargets(), Targets: d.router.ids()}
	var files []*os.File
	for _, link := range d.router.links() {
		f, err := link.File()
		if err != nil {
			return files, nil, err
		}
		files = append(files, f)
		e.Past = append(e.Past, pastEstate{Conns: link.All()})
	}
	names, sockets := d.socketFiles()
	e.Sockets, files = names, append(files, sockets...)
	b, err := json.Marshal(e)
	return files, b, err
}

// takeBack begins a new life after an upgrade that failed. That ctx has ended is its error, but there is a life all
// the same then: a daemon that ends gives its host's place up by it.
func (d *Daemon) takeBack(ctx context.Context, l *life) error {
	d.lock.Own()
	opening, cancel := ctx, context.CancelFunc(func() {})
	if ctx.Err() != nil {
		opening, cancel = context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	}
	defer cancel()
	again, err := d.prepare(opening, l.tenancy(), false)
	if err == nil {
		err = d.begin(again, &estate{Links: l.supervisor.LinkTargets()})
	}
	switch {
	case err != nil && ctx.Err() != nil:
		d.abandoned.Store(true)
		d.o.Log.Warn("host is not deregistered, its lease has to expire", "err", err)
	case err != nil:
		d.abandoned.Store(true)
		return fmt.Errorf("go on after an upgrade that failed: %w", err)
	default:
		d.setLife(again)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
