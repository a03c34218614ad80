package engine

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/docker/docker/client"
)

// Options are the parts of an Engine.
type Options struct {
	Project string                   // whose containers; required
	Host    string                   // name of this host; required
	Log     *slog.Logger             // nil: nothing is logged
	Getenv  func(name string) string // environment: DOCKER_HOST and so on; nil: os.Getenv
}

// An Engine is this host's Docker Engine, for the containers of one project. Its methods may be
// called at once.
type Engine struct {
	project  string
	host     string
	log      *slog.Logger
	getenv   func(string) string
	endpoint endpoint
	limits   limits

	recent     recent
	ends       ends
	connecting chan struct{} // holds one token while a client is made; size 1, never closed

	mu       sync.Mutex
	cli      *client.Client // nil unless an API version is agreed on
	closed   bool
	gateways map[string]gateway
	ignored  map[string]bool // IDs of containers whose labels do not parse
	checked  bool            // the Engine's settings were looked at
}

// limits are the longest times of calls. Together with the caller's context they bound every wait.
type limits struct {
	dial       time.Duration // a connection, TLS included
	ping       time.Duration // agreeing on an API version
	query      time.Duration // list, inspect
	info       time.Duration // the Engine counts its containers and asks its drivers
	change     time.Duration // create, start, remove, connect to a network
	stopExtra  time.Duration // on top of the grace time
	logs       time.Duration
	exec       time.Duration // a command that the caller's context does not end
	helper     time.Duration // a credential helper
	pullIdle   time.Duration // a pull without progress
	pull       time.Duration // a pull
	progress   time.Duration // between two lines of progress
	heartbeat  time.Duration // between two signs of life of a silent event stream
	gatewayAge time.Duration // how long a network's gateway is believed
	retryMin   time.Duration // before the event stream is opened again, at first
	retryMax   time.Duration // and at most
}

func defaultLimits() limits {
	return limits{
		dial:       5 * time.Second,
		ping:       5 * time.Second,
		query:      5 * time.Second,
		info:       15 * time.Second,
		change:     time.Minute,
		stopExtra:  15 * time.Second,
		logs:       10 * time.Second,
		exec:       10 * time.Minute,
		helper:     15 * time.Second,
		pullIdle:   time.Minute,
		pull:       30 * time.Minute,
		progress:   time.Second,
		heartbeat:  10 * time.Second,
		gatewayAge: time.Minute,
		retryMin:   100 * time.Millisecond,
		retryMax:   5 * time.Second,
	}
}

// New returns the Engine that DOCKER_HOST names (default: the local socket), with TLS as
// DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say. It fails on a mistake in these, not on an Engine that
// does not answer: no connection is made.
func New(o Options) (*Engine, error) {
	if o.Project == "" || o.Host == "" {
		return nil, errors.New("create engine: project and host must have names")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	ep, err := newEndpoint(o.Getenv)
	if err != nil {
		return nil, err
	}
	return &Engine{
		project:    o.Project,
		host:       o.Host,
		log:        o.Log.With("project", o.Project, "host", o.Host),
		getenv:     o.Getenv,
		endpoint:   ep,
		limits:     defaultLimits(),
		recent:     recent{believe: believeFor},
		connecting: make(chan struct{}, 1),
		gateways:   map[string]gateway{},
		ignored:    map[string]bool{},
	}, nil
}

// Close gives up the connections. Calls made afterwards fail.
func (e *Engine) Close() error {
	e.mu.Lock()
	cli := e.cli
	e.cli, e.closed = nil, true
	e.mu.Unlock()
	if cli == nil {
		return nil
	}
	return cli.Close()
}
