package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryd/gantryd/pkg/proxy/certs"
	"github.com/gantryd/gantryd/pkg/proxy/internal/accesslog"
	"github.com/gantryd/gantryd/pkg/proxy/internal/carry"
	"github.com/gantryd/gantryd/pkg/proxy/internal/relay"
)

// Kinds of listeners.
const (
	TCP  = "tcp"
	HTTP = "http"
)

// LoopCount is how many threads carry TCP connections, on Linux. They wait in the kernel; GOMAXPROCS
// should be larger by two, or Go's scheduler takes their processors away while they do.
const LoopCount = 2

// DefaultConnectTimeout is how long a connection may take to reach its target, over all attempts.
const DefaultConnectTimeout = 5 * time.Second

// ErrClosed is returned by Apply after Shutdown or Close.
var ErrClosed = errors.New("proxy is closed")

// A Listener is one or more addresses that are forwarded from.
type Listener struct {
	Name        string        // unique in the proxy
	Addrs       []string      // ip:port; port 0 is chosen by the kernel, see Addr; [::] takes no IPv4
	Kind        string        // TCP or HTTP
	Match       Match         // its part of addresses that it shares
	HoldMax     int           // connections that may wait while there is no target
	HoldTimeout time.Duration // longest wait of one of them
	// ConnectTimeout bounds the attempts to reach the target. Default: that of the Options. A target that
	// just died is still the target until Apply says otherwise; as long as HoldTimeout, nobody who
	// comes meanwhile is worse off for it.
	ConnectTimeout time.Duration
	TargetID       string // groups connections; empty for no target
	Target         string // ip:port, ignored without TargetID

	// MaxConns bounds the client connections, and MaxConnsPerClient those of each client address. 0: no bound but that
	// of the proxy. The next one is reset. Where HTTP listeners share an address, a connection is one of each that it
	// sent a request to, and the request for which there is no place gets 503.
	MaxConns, MaxConnsPerClient int
	// ProxyFrom are clients that begin with a PROXY header, also in front of TLS. It must come within the ConnectTimeout
	// of the Options. The client is the one that it names.
	ProxyFrom []netip.Prefix

	// Of TCP only.
	IdleTimeout   time.Duration // a connection that is silent both ways for so long is closed; 0: never
	LingerTimeout time.Duration // the same once one side has ended; 0: as IdleTimeout
	ProxyTo       int           // version of the PROXY header that the target gets: 1 or 2; 0: none

	// Of HTTP only.
	TLS         *TLS           // nil: plain
	Upstream    string         // what the target speaks: UpstreamHTTP1 (default) or UpstreamH2C
	Trusted     []netip.Prefix // clients whose Forwarded and X-Forwarded-… are believed, and appended to
	Maintenance bool           // answer 503 with the maintenance page; nothing is held
	Pages       string         // directory with 502.html, 503.html, 504.html, maintenance.html; empty: built-in ones
}

// Options are the settings of a Proxy.
type Options struct {
	Log *slog.Logger // required
	// ConnectTimeout bounds the attempts to reach a target. Default: DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// MaxConns bounds the client connections, of all listeners; the next one is refused. Default: what
	// the process may have descriptors for, two for each.
	MaxConns int
	// AccessLog gets a line of JSON for each HTTP request; nil: there is none. It is written to by one
	// goroutine, and no request waits for it. It is closed by its owner, after the proxy.
	AccessLog io.Writer
	// Engine is what carries TCP connections: Loops, which is the default where there are any, or
	// Goroutines. There is no difference but speed and memory.
	Engine string
	// Inherit is what another process exported: New goes on with its connections, and Apply takes
	// listening sockets from it before it opens one. See Settle. The State is empty afterwards.
	Inherit *State
	// Keeper is told of listening sockets. May be nil.
	Keeper Keeper
}

// Engines.
const (
	Loops      = "loops"      // event loops; Linux
	Goroutines = "goroutines" // two for each connection; anywhere
)

// A Proxy forwards connections from its listeners. Make one with New.
type Proxy struct {
	log      *slog.Logger
	connect  time.Duration
	ledger   *ledger
	conns    atomic.Int64 // client connections
	young    atomic.Int64 // of HTTP, those whose first request did not come or is not answered yet
	maxConns int64
	buffers  *relay.Buffers
	guests   sync.Pool // of *guest
	journeys sync.Pool // of *journey

	quotaMu sync.Mutex
	quotas  map[string]*quota // by listener name

	engine     carry.Engine  // of TCP connections
	goroutines *relay.Engine // accepts for HTTP; perhaps the engine of TCP too

	keeper  Keeper         // nil: nobody is told of sockets
	access  *accesslog.Log // nil: requests are not logged
	headers time.Duration  // within which an HTTP client must send them
	stall   time.Duration  // without a byte of content that a target waits for
	certs   *certs.Store
	files   time.Duration // how often they are looked at for changes

	within func() context.Context // it ends with the proxy
	end    context.CancelFunc
	wg     sync.WaitGroup // every goroutine of the proxy

	applying sync.Mutex           // one Apply at a time; guards the next three
	applied  map[string]statement // by owner
	closed   bool
	watching bool // files are looked at for changes

	inherited []heirloom            // that no listener asked for yet; guarded by applying
	homeless  map[string][]survivor // clients without a target, by their listener; guarded by applying

	fronts  map[string]*front  // by listener name; written with applying and ledger.mu locked
	sockets map[string]*socket // by socketKey; written with applying and ledger.mu locked
}

// A statement is what an owner last asked for, and what came of it.
type statement struct {
	listeners []Listener
	failed    bool
}

// New returns a proxy without listeners. Of ctx only the values are used: Shutdown and
// Close end the proxy, and one of them must be called.
func New(ctx context.Context, o Options) *Proxy {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &Proxy{
		log:      o.Log,
		connect:  cmp.Or(o.ConnectTimeout, DefaultConnectTimeout),
		ledger:   newLedger(),
		maxConns: cmp.Or(int64(o.MaxConns), defaultMaxConns()),
		buffers:  relay.NewBuffers(),
		headers:  headerTimeout,
		stall:    bodyStall,
		files:    filesEvery,
		within:   func() context.Context { return ctx },
		end:      cancel,
		applied:  map[string]statement{},
		fronts:   map[string]*front{},
		sockets:  map[string]*socket{},
		quotas:   map[string]*quota{},
		keeper:   o.Keeper,
		certs:    certs.NewStore(o.Log),
	}
	if o.AccessLog != nil {
		p.access = accesslog.New(o.AccessLog)
	}
	p.goroutines = relay.New(ctx, p.wg.Go, p.buffers, dialer())
	p.engine = newEngine(p, o.Engine)
	if o.Inherit != nil {
		p.adopt(o.Inherit)
	}
	return p
}

// Addr returns the addresses a listener is really listening on; none when it is unknown.
func (p *Proxy) Addr(name string) []string {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	var addrs []string
	for _, s := range p.sockets {
		if slices.ContainsFunc(s.table.Load().binds, func(b bind) bool { return b.front.name == name }) {
			addrs = append(addrs, s.addr.String())
		}
	}
	slices.Sort(addrs)
	return addrs
}

// Shutdown closes all listeners, refuses held connections, and waits for the open ones until ctx
// ends; then it closes them. It returns once everything ended, with the cause of ctx when
// connections had to be closed. It may be called again.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.stopListening()
	p.awaitRequests(ctx)
	err := p.awaitSessions(ctx)
	p.end()
	p.ledger.cutAll()
	p.engine.Close()
	p.goroutines.Close()
	p.wg.Wait()
	p.closeAccessLog()
	return err
}

// Close closes all listeners and all connections, and returns once everything ended.
func (p *Proxy) Close() error {
	ctx, cancel := context.WithCancel(p.within())
	cancel()
	_ = p.Shutdown(ctx) // it says only that connections were closed
	return nil
}

// stopListening takes every listener away, for good.
func (p *Proxy) stopListening() {
	p.applying.Lock()
	defer p.applying.Unlock()
	p.closed = true
	for owner := range p.applied {
		_ = p.replace(owner, nil)
	}
	clear(p.applied)
	p.settle()
}

// firstRequest is how long Shutdown waits for the request of a client that just connected: it is on its way.
const firstRequest = 250 * time.Millisecond

// awaitRequests gives clients that were accepted a little time to send their first request.
func (p *Proxy) awaitRequests(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstRequest)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for p.young.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// awaitSessions returns nil when there is no session, or the cause of ctx when it ended before.
func (p *Proxy) awaitSessions(ctx context.Context) error {
	for {
		empty := p.ledger.anyTarget()
		if empty == nil {
			return nil
		}
		select {
		case <-empty:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
