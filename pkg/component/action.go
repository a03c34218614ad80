package component

import (
	"fmt"
	"time"
)

// KeepFailed is how many failed containers of a component stay for inspection.
const KeepFailed = 2

// PullTries is how often a host tries to pull an image before it gives a rollout up.
const PullTries = 3

// A Container is one container of a component, as Next sees it.
type Container struct {
	ID            string
	Hash          string // of its release
	Stage         Stage
	StageSince    time.Time
	Running       bool // its process runs
	Ready         bool // all ready checks passed
	Health        Health
	Problem       string    // what the last failed check said, or how the process ended
	DrainingSince time.Time // zero unless Stage is Draining
	Conns         int       // open connections through the proxy
	Terminated    bool      // all termination checks passed since the drain began
	Busy          bool      // an operation on it is under way; leave it alone
	Failed        bool      // kept for inspection once it has stopped
	WithEngine    bool      // its process is over because the engine's was: no fault of the release
	Guests        int       // on a host that is out of service: connections of others than the host's own containers
	Cutting       bool      // they are being cut
}

// ImageState is what a host knows of one image.
type ImageState struct {
	Present  bool
	Pulling  bool
	Failures int // pulls in a row that failed
	RetryAt  time.Time
	Problem  string
}

// Observed is what a host sees of one component, all of it read again before each call of Next.
type Observed struct {
	Now        time.Time
	Host       string      // the name of this host
	Hold       string      // why no turn is to be taken for an update now, though one may be free; empty when one may
	Out        string      // who drained this host, and why; empty when it is in service
	OutSince   time.Time   // since when; zero unless Out
	Containers []Container // oldest first
	Tasks      []Task      // containers of pre-deploy tasks, oldest first
	Waits      bool        // hosts wait for one that is lost in its turn
	Awaited    bool        // they wait for this one: it took a turn, and has not ended it
	Primary    string      // container that new connections go to; empty when none
	Proven     *Release    // release this host last served through a whole turn; nil when none
	Served     bool        // Proven was served until now: no stop or kill since
	Images     map[string]ImageState
	Links      map[string]bool // links that have an address now
	Rollout    Rollout         // the store's record
	Restarts   Restarts
	Failure    *Failure // the last one of this host; nil when it succeeded since
	RouteErr   string   // why a listener of the component cannot be opened; empty when all are open
}

// A Verb names an action.
type Verb int

// Everything a host can do to a component.
const (
	Nothing   Verb = iota // all is as it should be
	Wait                  // for an event, or until Action.At; Reason says for what
	AwaitTurn             // take a turn, or wait for one; no change is asked for up to here
	Pull                  // fetch the image of Release
	Start                 // create and start a container of Release
	Route                 // new connections go to the container from now on
	Discard               // the container is broken: keep it for inspection, count a restart
	Fail                  // this host cannot bring the release up: halt the rollout, end the turn
	Finish                // the release has proven itself here: end the turn
	Yield                 // give the turn back without a result
	Drain                 // the container gets no new connections; its termination begins
	Cut                   // close the connections that are left
	Stop                  // SIGTERM, then SIGKILL
	Kill                  // SIGKILL
	Remove                // remove the stopped container
	RunTask               // create and start the container of the pre-deploy task of Release
	Prepared              // the pre-deploy task has succeeded: say so, end the turn
)

//nolint:gochecknoglobals // a constant table
var verbNames = [...]string{
	"nothing", "wait", "await turn", "pull", "start", "route", "discard", "fail", "finish", "yield",
	"drain", "cut", "stop", "kill", "remove", "run task", "prepared",
}

// String is the verb's name in logs.
func (v Verb) String() string {
	if v < 0 || int(v) >= len(verbNames) {
		return fmt.Sprintf("verb(%d)", int(v))
	}
	return verbNames[v]
}

// An Action is one step of one component on this host.
type Action struct {
	Verb      Verb
	Container string      // what it is done to
	Release   *Release    // what is pulled or started
	Reason    string      // why, or what is waited for
	Kind      FailureKind // of a Fail
	Task      bool        // it is about a pre-deploy task: its container, a turn for it alone
	Repair    bool        // a Start that replaces an unhealthy container; a turn to be taken for that alone
	Proven    bool        // a Route to a container of a release that needs no more proof here
	At        time.Time   // look again then; zero means that an event will tell
}
