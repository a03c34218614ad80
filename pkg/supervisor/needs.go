package supervisor

import (
	"context"
	"net/netip"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// Store is where desired state comes from and observed state goes. View, Names and Cluster answer
// from memory and never block; the rest are writes, each one transaction, safe to repeat after an
// error. All methods may be called at once.
type Store interface {
	// Run keeps the view current until ctx ends; it owns the lease. It calls changed with the name
	// of a component whose view changed, or "" for all of them.
	Run(ctx context.Context, changed func(name string)) error
	// Names are the components of the project's config and those with a state.
	Names() []string
	// View is what is known of a component.
	View(name string) component.View
	// Cluster is what is known of the store itself.
	Cluster() component.Cluster
	// TakeTurn takes a free slot below slots for at.Desired.Generation, provided that neither the
	// state nor the rollout record changed since at. Hosts that were lost in a turn take slots, as
	// View.Busy says. at.Turn.Repair says what the turn is for. It writes the record that View.Taken says: a turn to repair undoes neither a halt
	// nor an end.
	TakeTurn(ctx context.Context, name string, slots int, at component.View) error
	// EndTurn publishes st, reports r when it is not nil, and gives the turn up, in one transaction
	// that needs the turn. component.ErrTurnLost when it is gone. The record becomes what
	// Rollout.After says.
	EndTurn(ctx context.Context, name string, st component.HostStatus, r *component.Rollout) error
	// PutRollout writes r, provided that neither the state nor the record changed since at.
	PutRollout(ctx context.Context, name string, r component.Rollout, at component.View) error
	// Returned takes away what says that this host took a turn and has not ended it, when that is of the
	// revision still: it is back, and changes nothing.
	Returned(ctx context.Context, name string, revision int64) error
	// Rollback makes the newest past release that ended done the desired state, in by's name, provided
	// that neither the state nor the rollout record changed since at. component.ErrNoRelease when there
	// is none. Components that are one release with it, and are still asked for that, go back in the same
	// transaction; none of them has to have a past for the others to go back.
	Rollback(ctx context.Context, name string, by component.Desired, at component.View) error
	// Publish stores what this host sees of the component; while it has the turn, only if it still has.
	Publish(ctx context.Context, name string, st component.HostStatus) error
	// PublishMachine stores what this host is.
	PublishMachine(ctx context.Context, m component.Machine) error
}

// Engine runs containers. "No answer" is an error, never an empty answer. Every call ends within a
// bounded time of its own, whatever ctx says. All methods may be called at once.
type Engine interface {
	// Run watches events until ctx ends and calls changed with the name of the component whose
	// container changed, or "" for all of them; also after it lost the engine and found it again.
	Run(ctx context.Context, changed func(name string)) error
	// Containers lists this host's containers of the project, running or not, oldest first.
	Containers(ctx context.Context) ([]component.EngineContainer, error)
	// ImagePresent reports whether the image with this content is on the host.
	ImagePresent(ctx context.Context, imageID string) (bool, error)
	// Pull fetches the image by digest when it has one, else by reference, and compares what came
	// with imageID (unless that is empty). progress may be nil.
	Pull(ctx context.Context, img component.Image, imageID string, progress func(string)) error
	// Start creates a container with our labels and starts it; it runs the component, or its pre-deploy task. On an error nothing is left behind,
	// except a created container that carries our labels when the engine stopped answering.
	Start(ctx context.Context, r component.StartRequest) (id string, err error)
	// Stop sends SIGTERM, waits for grace, sends SIGKILL. Nil when the container is gone already.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Kill sends SIGKILL. Nil when the container is gone already.
	Kill(ctx context.Context, id string) error
	// Remove removes a container that does not run. Nil when it is gone already.
	Remove(ctx context.Context, id string) error
	// Logs are the last n lines the container wrote, both streams in order.
	Logs(ctx context.Context, id string, n int) ([]string, error)
	// ExitReason is how an exited container ended, for people: "exit code 3", "out of memory".
	ExitReason(ctx context.Context, id string) (string, error)
	// Succeeded reports whether an exited container ended with exit code 0.
	Succeeded(ctx context.Context, id string) (bool, error)
	// RemoveImage removes an image nobody named and nobody uses; anything else is left alone.
	RemoveImage(ctx context.Context, imageID string) error
	// Gateway is the address of this host as seen from a container on the network ("" is the default one).
	Gateway(ctx context.Context, network string) (string, error)
}

// A Listener is an address of this host that the router forwards from.
type Listener struct {
	Name        string         // unique on this host, such as "web:80" or "link:db"
	Addrs       []string       // ip:port, each is listened on
	Kind        string         // component.KindTCP or component.KindHTTP
	Port        component.Port // what the project file says of it beside that; zero for a link
	Hold        component.Hold
	Maintenance bool   // answer requests with the maintenance page
	TargetID    string // container ID; empty holds new connections
	Target      string // ip:port that new connections go to
}

// Conns are the open connections of one target ID.
type Conns struct {
	Open   int
	Oldest time.Duration // age of the oldest one
}

// Router forwards connections. It knows addresses, not components. All methods may be called at once.
type Router interface {
	// Apply makes the listeners of owner exactly ls: opens, switches and closes what differs. A
	// listener that cannot be opened is in the error, the others work.
	Apply(owner string, ls []Listener) error
	// Conns counts the connections of a target ID, over all listeners, those being dialled too.
	Conns(id string) Conns
	// Tally is what clients saw of a target ID since the router knows it; what an earlier process finishes is not in it.
	Tally(id string) component.Tally
	// Connections lists the connections of a target ID, the oldest first, at most so many.
	Connections(id string, most int) []component.Connection
	// Drain closes idle HTTP connections to the target politely and lets the rest go on.
	Drain(id string)
	// Guests counts the connections of a target ID whose clients are at none of the addresses. It looks at each of them.
	Guests(id string, home []netip.Addr) int
	// Cut closes connections to the target whose clients are at none of the addresses, at most rate a second (0: all
	// at once), until none of them is left or ctx ends.
	Cut(ctx context.Context, id string, rate int, home []netip.Addr)
	// OnIdle sets the function called when the last connection of a target ID ended that is routed to no more.
	OnIdle(f func(id string))
}

// Prober runs checks and sends signals. All methods block until done or ctx ends and report each
// attempt; they may be called at once.
type Prober interface {
	// Ready returns nil once all checks passed in one pass. It tries fast at first, then at the
	// checks' interval. When ctx ends it returns the last failure.
	Ready(ctx context.Context, t component.ProbeTarget, checks []component.Check, report func(component.Event)) error
	// Health runs the checks for ever and calls changed when the answer changes, and once at first.
	Health(ctx context.Context, t component.ProbeTarget, checks []component.Check, changed func(healthy bool, problem error)) error
	// Signal sends the signals in order; failures are reported, not returned.
	Signal(ctx context.Context, t component.ProbeTarget, signals []component.Signal, report func(component.Event))
	// Terminated returns nil once all checks passed, in order, each for itself.
	Terminated(ctx context.Context, t component.ProbeTarget, checks []component.Check, report func(component.Event)) error
}

// Memory is what labels cannot hold: it survives a restart of the daemon. Save replaces the record
// of a component durably before it returns. Losing all of it loses no container and no traffic.
type Memory interface {
	// Load returns all records and whether there was anything to load: false means that the memory
	// is new or was lost.
	Load() (component.Records, bool, error)
	// Save stores the record of a component.
	Save(name string, r component.Record) error
	// SaveHost stores what is remembered of the host as a whole.
	SaveHost(h component.HostRecord) error
}
