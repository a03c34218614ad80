package etcdstate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
)

// ServerOptions describe one member of an etcd cluster.
type ServerOptions struct {
	Name    string // unique in the cluster; "gantryd" when empty
	DataDir string

	ListenClient    string // host:port for clients; DefaultEndpoint when empty
	ListenPeer      string // host:port for other members; a free port of 127.0.0.1 when empty, for a single member
	AdvertiseClient string // how clients reach it; ListenClient when empty
	AdvertisePeer   string // how other members reach it; ListenPeer when empty

	// InitialCluster is "name=peer URL" of all members, separated by commas, of a cluster that is
	// formed now; empty for a single member. Once the data directory has data it has no effect.
	InitialCluster string
	Token          string // tells clusters apart that are formed from the same addresses
	Join           bool   // the cluster exists already and has this member added to it

	ClientTLS ServerTLS
	PeerTLS   ServerTLS

	// PasswordCost is the work of checking a user's password, as bcrypt counts it: each more doubles it.
	// etcd's own when 0, which takes much of a slow machine.
	PasswordCost uint

	ReadyTimeout time.Duration // longest wait for the cluster to elect a leader; a minute when 0
	Log          *slog.Logger  `json:"-"` // nil discards; warnings and errors of etcd go here
}

// ServerTLS are the files for one side of a member. Plain text when Cert is empty.
type ServerTLS struct {
	Cert, Key string
	CA        string // signs who may connect; without it, everyone may
}

// Settings of a member. gantryd's data is small and short: some hundred keys, some writes a second.
const (
	quota            = 2 << 30 // bytes of data, at which etcd refuses writes
	compactEvery     = "10m"   // history is kept for a watch that comes back, which takes seconds
	snapshotCount    = 2000    // entries of the log in memory before they become a snapshot
	snapshotCatchUp  = 500     // entries kept for a member that is a little behind
	defragAtStart    = 64      // MiB of free pages worth a defragmentation when it starts
	progressInterval = 10 * time.Second
	closeTimeout     = 15 * time.Second
)

// Server is an etcd member in this process.
type Server struct {
	etcd    *embed.Etcd
	failed  chan struct{}
	fail    func() // closes failed, once
	close   func() error
	closing atomic.Bool
	wg      sync.WaitGroup // everything of its own that runs

	mu   sync.Mutex
	grpc []*grpc.Server // of the client listeners; etcd adds them when it begins to serve
}

// StartServer starts a member and waits until the cluster has a leader. What goes wrong with etcd
// later, a full disk for instance, closes Failed and never ends the process: the caller may have
// connections to keep.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	s := &Server{failed: make(chan struct{})}
	s.fail = sync.OnceFunc(func() { close(s.failed) })
	s.close = sync.OnceValue(s.stop)
	cfg, err := s.config(o)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if s.etcd, err = embed.StartEtcd(cfg); err != nil {
		return nil, fmt.Errorf("start etcd in %q: %w", o.DataDir, err)
	}
	timeout := time.NewTimer(orDuration(o.ReadyTimeout, time.Minute))
	defer timeout.Stop()
	select {
	case <-s.etcd.Server.ReadyNotify():
		s.wg.Go(s.watchErrors)
		return s, nil
	case err = <-s.etcd.Err():
	case <-s.failed:
		err = errors.New("it gave up, see its log")
	case <-s.etcd.Server.StopNotify():
		err = errors.New("it stopped, see its log")
	case <-timeout.C:
		err = errors.New("no leader yet; are enough other members up?")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.etcd.Server.Stop() // Close alone waits for listeners that are not there yet
	_ = s.Close()        // what kept it from starting is said already
	return nil, fmt.Errorf("start etcd in %q: %w", o.DataDir, err)
}

// watchErrors closes Failed when a listener of etcd fails.
func (s *Server) watchErrors() {
	for err := range s.etcd.Err() {
		if err != nil {
			s.fail()
		}
	}
}

// Failed is closed when the member does not work any more. Close it then.
func (s *Server) Failed() <-chan struct{} { return s.failed }

// ClientURL is where clients reach it.
func (s *Server) ClientURL() string {
	scheme := "http"
	if !s.etcd.Config().ClientTLSInfo.Empty() {
		scheme = "https"
	}
	return scheme + "://" + s.etcd.Clients[0].Addr().String()
}

// Close stops the member; its clients lose their connections at once. It takes a second or so, and
// gives up on an etcd that hangs.
func (s *Server) Close() error { return s.close() }

func (s *Server) stop() error {
	s.closing.Store(true)
	s.mu.Lock()
	serving := s.grpc
	s.mu.Unlock()
	for _, g := range serving {
		g.Stop() // else it waits for watches, which have no end
	}
	closed := make(chan struct{})
	s.wg.Go(func() {
		defer close(closed)
		s.etcd.Close()
	})
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-closed:
		s.wg.Wait()
		return nil
	case <-timeout.C:
		return fmt.Errorf("stop etcd: it did not end within %s", closeTimeout)
	}
}

// config is etcd's configuration for o.
func (s *Server) config(o ServerOptions) (*embed.Config, error) {
	cfg := embed.NewConfig()
	if o.DataDir == "" {
		return nil, errors.New("no data directory")
	}
	cfg.Name = "gantryd"
	if o.Name != "" {
		cfg.Name = o.Name
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Dir = o.DataDir
	if err := setURLs(cfg, o); err != nil {
		return nil, err
	}
	if err := cmp.Or(o.ClientTLS.check(), o.PeerTLS.check()); err != nil {
		return nil, err
	}
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = o.ClientTLS.info(), o.PeerTLS.info()
	cfg.InitialCluster = o.InitialCluster
	if o.InitialCluster == "" {
		cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	}
	if o.Token != "" {
		cfg.InitialClusterToken = o.Token
	}
	if o.Join {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	if o.PasswordCost != 0 {
		cfg.BcryptCost = o.PasswordCost
	}
	cfg.QuotaBackendBytes = quota
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, compactEvery
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotCount, snapshotCatchUp
	cfg.BootstrapDefragThresholdMegabytes = defragAtStart
	cfg.WatchProgressNotifyInterval = progressInterval
	cfg.LogLevel = "warn"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(bridge(o.Log, s.fail, &s.closing))
	cfg.ServiceRegister = func(g *grpc.Server) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.grpc = append(s.grpc, g)
	}
	return cfg, nil
}

func setURLs(cfg *embed.Config, o ServerOptions) error {
	if o.ListenClient == "" {
		o.ListenClient = DefaultEndpoint
	}
	if o.ListenPeer == "" {
		if o.InitialCluster != "" {
			return errors.New("a member of several needs an address for the others (listen-peer)")
		}
		o.ListenPeer = "127.0.0.1:0"
	}
	for _, a := range []struct {
		what, listen, advertise string
		secure                  bool
		listenURLs, urls        *[]url.URL
	}{
		{"client", o.ListenClient, o.AdvertiseClient, o.ClientTLS.Cert != "", &cfg.ListenClientUrls, &cfg.AdvertiseClientUrls},
		{"peer", o.ListenPeer, o.AdvertisePeer, o.PeerTLS.Cert != "", &cfg.ListenPeerUrls, &cfg.AdvertisePeerUrls},
	} {
		listen, err := memberURL(a.listen, a.secure)
		if err != nil {
			return fmt.Errorf("listen address for %ss: %w", a.what, err)
		}
		advertised := listen
		if a.advertise != "" {
			if advertised, err = memberURL(a.advertise, a.secure); err != nil {
				return fmt.Errorf("advertised address for %ss: %w", a.what, err)
			}
		}
		if ip := net.ParseIP(advertised.Hostname()); ip != nil && ip.IsUnspecified() && o.InitialCluster != "" {
			return fmt.Errorf("others cannot reach %q; advertise an address for %ss", advertised.Host, a.what)
		}
		*a.listenURLs, *a.urls = []url.URL{listen}, []url.URL{advertised}
	}
	return nil
}

// memberURL reads host:port, or a URL of which only those count.
func memberURL(addr string, secure bool) (url.URL, error) {
	addr = strings.TrimPrefix(strings.TrimPrefix(addr, "http://"), "https://")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return url.URL{}, err
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	return url.URL{Scheme: scheme, Host: addr}, nil
}

// check reads the files once: etcd would find them missing at the first connection only.
func (t ServerTLS) check() error {
	if t == (ServerTLS{}) {
		return nil
	}
	info := t.info()
	_, err := info.ServerConfig()
	return err
}

func (t ServerTLS) info() transport.TLSInfo {
	return transport.TLSInfo{CertFile: t.Cert, KeyFile: t.Key, TrustedCAFile: t.CA, ClientCertAuth: t.CA != ""}
}
