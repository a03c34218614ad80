package component

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Status is what an operator asked for.
type Status string

// The states an operator can ask for. The zero Status means that nobody asked for anything yet.
const (
	StatusReady   Status = "ready"
	StatusStopped Status = "stopped" // drain first
	StatusKilled  Status = "killed"  // now
)

// Image names an image: by reference for people, by content for machines.
type Image struct {
	Ref    string `json:"ref,omitempty"`    // repo:tag as the operator named it
	Digest string `json:"digest,omitempty"` // registry digest, "sha256:…"; empty when the image came from no registry
}

// Desired is the state an operator asked for; the value of a component's state key. A value
// written by hand may hold just status and imageid: Spec is then that of the project's config.
type Desired struct {
	Status    Status    `json:"status"`
	ImageID   string    `json:"imageid,omitempty"` // content of the image, "sha256:…"
	Image     Image     `json:"image,omitzero"`
	Spec      *Spec     `json:"spec,omitempty"`
	Restart   string    `json:"restart,omitempty"`   // a new value asks for a new container of the same release
	Operation string    `json:"operation,omitempty"` // ID of the write, to recognise one's own after an error
	By        string    `json:"by,omitempty"`
	At        time.Time `json:"at,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	Command   string    `json:"command,omitempty"`   // what wrote it: update, rollback, stop, kill
	From      string    `json:"from,omitempty"`      // machine and directory of whoever wrote it
	Source    int64     `json:"source,omitempty"`    // generation whose release a rollback brings back; 0: it is none
	Automatic bool      `json:"automatic,omitempty"` // a host wrote it, as the policy of the release before says
	Prepared  bool      `json:"prepared,omitempty"`  // the pre-deploy task of this release succeeded in an earlier generation

	Follows  string   `json:"follows,omitempty"`  // component of the same generation whose rollout must be done before this one begins
	Together []string `json:"together,omitempty"` // components that are one release with this one, itself too: when one fails, all go back

	Generation int64 `json:"-"` // revision of the key; never stored inside it
}

// Release is the image and configuration of d as one thing.
func (d Desired) Release() Release {
	r := Release{Generation: d.Generation, ImageID: d.ImageID, Image: d.Image, Restart: d.Restart}
	if d.Spec != nil {
		r.Spec = *d.Spec
	}
	return r
}

// A Release is an image and a configuration as one thing, rolled out and rolled back together.
type Release struct {
	Generation int64  `json:"generation"`
	ImageID    string `json:"imageid"`
	Image      Image  `json:"image,omitzero"`
	Spec       Spec   `json:"spec"`
	Restart    string `json:"restart,omitempty"`
}

// Hash tells whether two releases need different containers: it covers the image's content and
// every setting a container is made of, gated by or spoken to with. What only steers gantryd
// (rollout, drain, hold, restart, stopTimeout, maintenance, and of the ports all but where the
// container listens and what it hears) and the name of the image are not in it.
func (r Release) Hash() string {
	s := r.Spec
	s.Rollout, s.Drain, s.Hold, s.Restart, s.StopTimeout = RolloutPolicy{}, DrainPolicy{}, Hold{}, Restart{}, 0
	s.Maintenance = false
	s.Ports = contracts(s.Ports)
	if r.ImageID != "" {
		s.Repo, s.Tag = "", ""
	}
	b, err := json.Marshal(struct {
		ImageID, Restart string
		Spec             Spec
	}{r.ImageID, r.Restart, s})
	if err != nil {
		panic(fmt.Sprintf("component: a Spec always marshals: %v", err))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// contracts are the ports as containers know them: one that is there twice, for two matches, is one.
func contracts(ports []Port) []Port {
	var out []Port
	for _, p := range ports {
		c := p.contract()
		if !slices.ContainsFunc(out, func(o Port) bool { return reflect.DeepEqual(o, c) }) {
			out = append(out, c)
		}
	}
	return out
}

// Steered is s as its container runs, with the settings of newer that only steer gantryd. It is s
// itself when newer needs another container: its settings come with that one. How it is rolled out
// is the release's own: flags of the update may have changed that.
func (s Spec) Steered(newer Spec) Spec {
	newer.Repo, newer.Tag, newer.Rollout = s.Repo, s.Tag, s.Rollout
	if reflect.DeepEqual(s, newer) || (Release{Spec: s}).Hash() != (Release{Spec: newer}).Hash() {
		return s
	}
	return newer
}

// Stage is how far a container has come. It only ever grows.
type Stage int

// The stages of a container, in order.
const (
	Starting Stage = iota // created, not all ready checks have passed
	Serving               // passed its ready checks; takes connections when it is the primary
	Draining              // takes no new connections; waits for open ones
	Stopped               // its process is over
)

//nolint:gochecknoglobals // a constant table
var stageNames = [...]string{"starting", "serving", "draining", "stopped"}

// String is the stage's name in JSON, logs and tables.
func (s Stage) String() string {
	if s < 0 || int(s) >= len(stageNames) {
		return fmt.Sprintf("stage(%d)", int(s))
	}
	return stageNames[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s Stage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Stage) UnmarshalText(b []byte) error {
	for i, n := range stageNames {
		if n == string(b) {
			*s = Stage(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a stage", b)
}

// RolloutStatus is how far the rollout of one generation has come.
type RolloutStatus string

// The states of a rollout.
const (
	RolloutProgressing RolloutStatus = "progressing"
	RolloutHalted      RolloutStatus = "halted" // a host failed; nobody else starts this generation
	RolloutDone        RolloutStatus = "done"
)

// FailureKind tells what a failure was about, in the original's words.
type FailureKind string

// The kinds of failure.
const (
	UpdateFail FailureKind = "updatefail"
	PullFail   FailureKind = "pullfail"
	Aborted    FailureKind = "aborted" // by an operator
	Skipped    FailureKind = "skipped" // it has not begun: what was to come first did not get done

	// PreDeployFail is a pre-deploy task that failed: no host started the release.
	PreDeployFail FailureKind = "predeployfail"
	// GuardFail is a release that users fared worse with than with the one before.
	GuardFail FailureKind = "guardfail"
)

// Rollout is the record of bringing all hosts to a generation; the value of the rollout key.
type Rollout struct {
	Generation int64         `json:"generation"`
	Status     RolloutStatus `json:"status"`
	Kind       FailureKind   `json:"kind,omitempty"` // when halted
	Host       string        `json:"host,omitempty"` // who failed, when halted
	Reason     string        `json:"reason,omitempty"`
	Log        []string      `json:"log,omitempty"` // last lines of the container that failed
	At         time.Time     `json:"at,omitzero"`
	Stays      bool          `json:"stays,omitempty"`    // it would be rolled back, but cannot be; Reason tells why
	Attempt    int           `json:"attempt,omitempty"`  // tries after the first one
	Paused     *Word         `json:"paused,omitempty"`   // nobody begins a turn
	Promoted   *Word         `json:"promoted,omitempty"` // hosts besides the canaries may begin
	Canaries   []string      `json:"canaries,omitempty"` // hosts that began before the promotion
	Failed     []string      `json:"failed,omitempty"`   // hosts that failed and were passed over
	Begun      bool          `json:"begun,omitempty"`    // the component that it follows is done
	Prepared   *Preparation  `json:"prepared,omitempty"` // the pre-deploy task has succeeded
}

// A Word is what an operator said about a rollout.
type Word struct {
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// A Failure is why a host could not do what was asked.
type Failure struct {
	Generation int64       `json:"generation"`
	Attempt    int         `json:"attempt,omitempty"` // of the rollout
	Kind       FailureKind `json:"kind"`
	Reason     string      `json:"reason"`
	Container  string      `json:"container,omitempty"`
	Log        []string    `json:"log,omitempty"` // last lines of the container
	At         time.Time   `json:"at,omitzero"`
}

// HostStatus is what one host says about one component; the value of its hosts key.
type HostStatus struct {
	Host       string            `json:"host"`
	Generation int64             `json:"generation"` // newest one this host has served and proven
	Hash       string            `json:"hash,omitempty"`
	Step       string            `json:"step"` // what it is doing, from the constants Step…
	Detail     string            `json:"detail,omitempty"`
	Target     int64             `json:"target,omitempty"` // generation Step works towards
	ImageID    string            `json:"imageid,omitempty"`
	Image      Image             `json:"image,omitzero"`
	Containers []ContainerStatus `json:"containers,omitempty"`
	Failure    *Failure          `json:"failure,omitempty"`     // the last one, kept until the next success
	RouteErr   string            `json:"route_error,omitempty"` // ports that are not as they were asked for, and why
	Restarts   int               `json:"restarts,omitempty"`
	Traffic    *Traffic          `json:"traffic,omitempty"` // what users see, while Target is rolled out under a guard
	At         time.Time         `json:"at,omitzero"`
}

// Still is st without what moves by itself, which nobody has to look at at once: times, who is connected and
// how many are, what users see, the engine's words. Two statuses that are equal so tell the same story.
func (st HostStatus) Still() HostStatus {
	st.At, st.Traffic = time.Time{}, nil
	st.Containers = slices.Clone(st.Containers)
	for i := range st.Containers {
		c := &st.Containers[i]
		c.Connections, c.Oldest, c.Left, c.Status = 0, 0, nil, ""
	}
	return st
}

// What a host is doing, as HostStatus.Step says it.
const (
	StepPulling   = "pulling"
	StepPreparing = "preparing" // the pre-deploy task runs here
	StepWaiting   = "waiting"   // Detail says for whom or what
	StepStarting  = "starting"  // container created, ready checks running
	StepBaking    = "baking"
	StepServing   = "serving"
	StepStopping  = "stopping"
	StepStopped   = "stopped"
	StepFailed    = "failed"
	StepIdle      = "idle" // nothing was asked for
)

// ContainerStatus is one container, as its host sees it.
type ContainerStatus struct {
	ID          string        `json:"id"`
	Stage       Stage         `json:"stage"`
	Primary     bool          `json:"primary,omitempty"` // new connections go here
	Generation  int64         `json:"generation"`
	ImageID     string        `json:"imageid,omitempty"`
	Image       string        `json:"image,omitempty"` // as Docker Engine names it
	Ready       bool          `json:"ready"`
	Health      Health        `json:"health"`
	Problem     string        `json:"problem,omitempty"` // what the last failed check said
	Connections int           `json:"connections"`
	Oldest      time.Duration `json:"oldest,omitempty"` // age of the oldest connection, in nanoseconds
	Left        []Connection  `json:"left,omitempty"`   // the oldest connections of a draining container, at most MaxLeft
	DrainsSince time.Time     `json:"drains_since,omitzero"`
	DrainsUntil time.Time     `json:"drains_until,omitzero"` // when what is left is cut; zero: never
	Created     time.Time     `json:"created,omitzero"`
	Status      string        `json:"status,omitempty"` // Docker's words, such as "Up 17 seconds"
}

// MaxLeft is how many connections of a draining container are told of.
const MaxLeft = 20

// A Connection is one connection to a container, or one request. Who its client is counts as personal
// data: it is told of draining containers only, and forgotten with them.
type Connection struct {
	Client   string    `json:"client"`            // ip:port
	Target   string    `json:"target,omitempty"`  // ip:port in the network of the container
	Since    time.Time `json:"since"`             // when it came to its container
	Active   time.Time `json:"active"`            // when bytes last went, either way
	BytesIn  int64     `json:"bytes_in"`          // from the client
	BytesOut int64     `json:"bytes_out"`         // to the client
	Earlier  bool      `json:"earlier,omitempty"` // an earlier process of the daemon finishes it, after an upgrade
}

// A Machine is one daemon of a project; the value of its machines key.
type Machine struct {
	Status     string            `json:"status"` // from the constants Machine…
	Components []string          `json:"components"`
	IP         string            `json:"ip"`
	Version    string            `json:"version,omitempty"`
	Nonce      string            `json:"nonce,omitempty"` // tells two daemons of one name apart
	Links      map[string]string `json:"links,omitempty"` // links served by a container of this host: name → ip:port of its proxy
	Engine     string            `json:"engine,omitempty"`
	StartedAt  time.Time         `json:"started_at,omitzero"`
	Drain      int64             `json:"drain,omitempty"` // revision of the operator's word by which the host is out of service
}

// The states of a Machine.
const (
	MachineRunning  = "running"
	MachineDraining = "draining" // out of service; connections are left
	MachineDrained  = "drained"  // out of service; nobody is left but the host's own containers
)

// TurnState says what a host may change now.
type TurnState int

// The states of a turn.
const (
	TurnWaiting     TurnState = iota // another host has it, or nobody asked yet
	TurnMine                         // this host has it
	TurnUnreachable                  // the store does not answer: nobody can be asked
)

// Turn is one host's share of a rollout.
type Turn struct {
	State      TurnState
	Generation int64    // what it was taken for, when Mine
	Task       bool     // it is to run the pre-deploy task
	Repair     bool     // it is to replace a broken container of the release before, not to update
	Holders    []string // who has turns now
	Tasker     string   // who of them has one to run the pre-deploy task; empty when nobody
}

// View is all the store knows about one component, as of its last answer. It does not change any more; what
// is in it may be shared, so nobody else may change it either.
type View struct {
	Desired         Desired               // zero when there is no state key
	DesiredErr      error                 // the state key does not parse; Desired is then zero
	Config          *Spec                 // from the project's config; nil when it has none
	Rollout         Rollout               // zero when there is no record
	RolloutRevision int64                 // revision of the record, 0 when there is none
	Hosts           map[string]HostStatus // by host
	Machines        map[string]Machine    // by host; all of the project
	Turn            Turn
	Partial         bool                 // Hosts is without the other hosts, Machines may be behind: this host is not to judge
	Changing        map[string]int64     // hosts that took a turn for an update and have not ended it, with the revision of that
	Drained         map[string]HostDrain // by host: those that operators took out of service; all of the project
}

// Cluster is what the store knows about itself.
type Cluster struct {
	ID        string // changes when the data is replaced
	Revision  int64  // of the last answer; goes back only when the data is older than before
	Reachable bool
	Since     time.Time // when Reachable last changed
	Adoption  Adoption  // what an operator confirmed last; zero when nothing
}

// An Adoption is an operator's word that the data in the store, which looks lost or old to some
// host, is what counts from now on.
type Adoption struct {
	Nonce   string    `json:"nonce"`
	Cluster string    `json:"cluster"`
	By      string    `json:"by,omitempty"`
	At      time.Time `json:"at,omitzero"`
}
