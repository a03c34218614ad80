package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/internal/control"
	"github.com/gantryd/gantryd/internal/handover"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/engine"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/localstate"
	"github.com/gantryd/gantryd/pkg/proxy"
	"github.com/gantryd/gantryd/pkg/supervisor"
)

// Options are what both daemons are made of.
type Options struct {
	Project    string
	Host       string   // name of this host
	Bind       string   // IP address that external ports listen on
	Advertise  string   // IP address at which other hosts reach Bind; empty: found out
	Components []string // nil: all of the project
	DataDir    string
	Version    string
	Getenv     func(string) string
	Report     func(component.Event) // may be nil
	Log        *slog.Logger

	// Argv starts this daemon again, for an upgrade: the path of the binary, and the arguments. Empty: it
	// cannot be upgraded.
	Argv []string
	// Past is the process to take over from; nil when there is none.
	Past *handover.Past
	// Linger is how long this process may finish connections after an upgrade. 0: DefaultLinger.
	Linger time.Duration
	// Keeper keeps listening sockets outside this process; may be nil.
	Keeper Keeper
	// AccessLog gets a line for each HTTP request; nil: there is none. It is used until Run returns.
	AccessLog io.Writer
	// API serves the deploy API beside the loop, until its context ends, with a client of its own; nil: it is
	// not served.
	API func(ctx context.Context, c *etcdstate.Client, e *engine.Engine) error
}

// A Keeper has listening sockets outside this process, for the case that it is killed.
type Keeper interface {
	proxy.Keeper
	// Kept returns the sockets that an earlier process of this daemon left, which are the caller's now.
	Kept(ctx context.Context) []*os.File
	// Run keeps the keeper alive until ctx ends.
	Run(ctx context.Context)
	// Detach ends this process's part; the sockets are kept on for another one.
	Detach()
	// End gives the sockets up, because the daemon ends.
	End(ctx context.Context)
}

// DefaultLinger is how long a process finishes its connections after an upgrade.
const DefaultLinger = 5 * time.Minute

// stopWithin bounds the steps of taking a daemon down.
const stopWithin = 5 * time.Second

// A Daemon is one host's supervisor with all it needs.
type Daemon struct {
	o       Options
	fleet   *Fleet // nil for gantry
	lock    *localstate.DirLock
	engine  *engine.Engine
	router  *router
	closers closers // of what lives as long as the process

	upgrading sync.Mutex    // held while an upgrade is under way
	orders    chan *order   // to hand over; unbuffered, never closed
	handed    chan struct{} // closed when another process has taken over
	ended     chan struct{} // closed when Run is about to return
	ready     chan struct{}
	setReady  func() // closes ready, once

	gate      sync.RWMutex // held for writing while the state is handed over
	abandoned atomic.Bool  // the life is over and was closed

	mu      sync.Mutex // guards what follows
	life    *life
	sockets map[string]*net.UnixListener // for commands, by name
}

// Fleet says how gantryd's daemon reaches etcd.
type Fleet struct {
	Etcd     etcdstate.Config
	Embedded string        // ip:port that an embedded etcd listens on; empty: none is started
	LeaseTTL time.Duration // 0: the default
}

// New builds gantryd's daemon. On an error everything built so far is taken down. With a Past it takes the
// place of that process, and serves when it returns.
func New(ctx context.Context, o Options, f Fleet) (*Daemon, error) { return build(ctx, o, &f) }

// NewLocal builds the daemon of gantry's agent, like New.
func NewLocal(ctx context.Context, o Options) (*Daemon, error) { return build(ctx, o, nil) }

func build(ctx context.Context, o Options, f *Fleet) (_ *Daemon, err error) {
	d := &Daemon{
		o: o, fleet: f, orders: make(chan *order),
		handed: make(chan struct{}), ended: make(chan struct{}), ready: make(chan struct{}),
	}
	d.setReady = sync.OnceFunc(func() { close(d.ready) })
	if d.o.Linger == 0 {
		d.o.Linger = DefaultLinger
	}
	if d.o.Advertise == "" {
		d.o.Advertise = advertised(ctx, d.o.Bind)
	}
	defer func() {
		if err == nil {
			return
		}
		if d.o.Keeper != nil {
			d.o.Keeper.Detach() // sockets that were kept are for the next try
		}
		d.unwind(ctx, &d.closers)
	}()
	if o.Past != nil {
		return d, d.takeOver(ctx)
	}
	return d, d.start(ctx)
}

// start builds a daemon that nobody was before.
func (d *Daemon) start(ctx context.Context) error {
	var err error
	if d.lock, err = localstate.Lock(d.o.DataDir); err != nil {
		return err
	}
	d.closers.add("unlock data directory", d.unlock)
	if err := d.claim(); err != nil {
		return err
	}
	l, err := d.prepare(ctx, nil, false)
	if err != nil {
		return err
	}
	d.addLife(l)
	if err := d.openEngine(); err != nil {
		return err
	}
	d.openProxy(ctx, d.kept(ctx))
	if err := d.begin(l, nil); err != nil {
		return err
	}
	d.closers.add("close sockets for commands", d.closeSockets)
	_, err = d.Listen(ctx, control.Name)
	return err
}

// kept are the listening sockets that a daemon before this one left, nil when there are none.
func (d *Daemon) kept(ctx context.Context) *proxy.State {
	if d.o.Keeper == nil {
		return nil
	}
	files := d.o.Keeper.Kept(ctx)
	if len(files) == 0 {
		return nil
	}
	state, err := proxy.NewState(files)
	if err != nil {
		d.o.Log.Warn("listening sockets of the daemon before are lost", "err", err)
	}
	n, _ := state.Counts()
	d.o.Log.Info("took listening sockets of the daemon before", "sockets", n)
	return state
}

// unlock frees the data directory, unless another process has its lock.
func (d *Daemon) unlock(context.Context) error {
	d.disclaim()
	if d.lock == nil {
		return nil
	}
	return d.lock.Unlock()
}

func (d *Daemon) openEngine() error {
	var err error
	d.engine, err = engine.New(engine.Options{Project: d.o.Project, Host: d.o.Host, Log: d.o.Log, Getenv: d.o.Getenv})
	if err != nil {
		return err
	}
	d.closers.add("close engine client", func(context.Context) error { return d.engine.Close() })
	return nil
}

func (d *Daemon) openProxy(ctx context.Context, inherit *proxy.State) {
	o := proxy.Options{Log: d.o.Log, Inherit: inherit, AccessLog: d.o.AccessLog}
	if d.o.Keeper != nil {
		o.Keeper = d.o.Keeper
		d.closers.add("give up kept sockets", func(ctx context.Context) error { d.o.Keeper.End(ctx); return nil })
	}
	p := proxy.New(ctx, o)
	d.router = newRouter(p)
	d.closers.add("close proxy", func(context.Context) error { p.Close(); return nil })
	d.closers.add("dismiss earlier processes", func(context.Context) error { d.router.dismiss(); return nil })
}

// addLife makes l the current life, which ends with the daemon.
func (d *Daemon) addLife(l *life) {
	d.setLife(l)
	d.closers.add("close state", func(ctx context.Context) error {
		l := d.current()
		if d.abandoned.Load() {
			return nil
		}
		err := l.deregister(ctx)
		if closeErr := l.closers.close(ctx); err == nil {
			err = closeErr
		}
		return err
	})
}

func (d *Daemon) setLife(l *life) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.life = l
}

// current is the life that runs, or the last one that did.
func (d *Daemon) current() *life {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.life
}

// Run reconciles until ctx ends, then takes the daemon down. Containers keep running. After an upgrade it
// finishes its connections, and then returns.
func (d *Daemon) Run(ctx context.Context) error {
	err := d.serve(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		err = nil
	}
	if closeErr := d.closers.close(ctx); err == nil {
		err = closeErr
	}
	return err
}

// Ready is closed once what served before serves again: when every component that the host remembers had a pass,
// or at once when it was taken over.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// Looked is closed once every remembered component had a pass in this process: what Status says is true.
func (d *Daemon) Looked() <-chan struct{} { return d.current().supervisor.Ready() }

// ErrHanded says that this process was replaced: another one is the daemon.
var ErrHanded = errors.New("another process has taken over")

// isHanded reports whether this process was replaced.
func (d *Daemon) isHanded() bool {
	select {
	case <-d.handed:
		return true
	default:
		return false
	}
}

// Alive returns once the loop has shown that it is not stuck.
func (d *Daemon) Alive(ctx context.Context) error {
	if d.isHanded() {
		return ErrHanded
	}
	return d.current().supervisor.Alive(ctx)
}

// Supervisor returns the loop, for those who ask how things stand. An upgrade that failed begins another one.
func (d *Daemon) Supervisor() *supervisor.Supervisor { return d.current().supervisor }

// Engine returns the engine, for those who resolve images.
func (d *Daemon) Engine() *engine.Engine { return d.engine }

// unwind takes down what a failed step has built.
func (d *Daemon) unwind(ctx context.Context, cs *closers) {
	if err := cs.close(ctx); err != nil {
		d.o.Log.Warn("take down", "err", err)
	}
}

// advertised is the address at which other hosts reach bind: itself, or for a wildcard the address
// that packets leave this host from. No packet is sent to find out.
func advertised(ctx context.Context, bind string) string {
	if ip := net.ParseIP(bind); ip != nil && !ip.IsUnspecified() {
		return bind
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", "192.0.2.1:9")
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return host
}
