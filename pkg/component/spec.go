package component

import (
	"fmt"
	"time"
)

// A Spec is one component of a project file: which image to run, how, and when it counts as well.
// The field names are those of the original gantryd; what it did not have is at the end.
type Spec struct {
	Name                  string           `json:"name" doc:"Name of the component, unique in the project."`
	Repo                  string           `json:"repo" doc:"Image repository, without tag."`
	Tag                   string           `json:"tag,omitempty" doc:"Image tag." default:"latest"`
	User                  string           `json:"user,omitempty" doc:"User the command runs as. Default: the image's."`
	Command               []string         `json:"command,omitempty" doc:"Arguments of the container, as argv. Default: the image's."`
	Ports                 []Port           `json:"ports,omitempty" doc:"Host ports the proxy forwards to the container."`
	ReadyChecks           []Check          `json:"readyChecks,omitempty" doc:"Checks that must all pass, in one pass, before a new container gets traffic."`
	HealthChecks          []Check          `json:"healthChecks,omitempty" doc:"Checks that must keep passing while a container serves."`
	ReadyTimeout          int              `json:"readyTimeout,omitempty" doc:"Longest time, in milliseconds, for all ready checks to pass." default:"10000"`
	TerminationSignals    []Signal         `json:"terminationSignals,omitempty" doc:"Sent to a container when its drain begins."`
	TerminationChecks     []Check          `json:"terminationChecks,omitzero" doc:"Checks that must pass before a draining container is stopped; an empty list is none. Default: one of kind connection."`
	VolumesFrom           []string         `json:"volumesFrom,omitempty" doc:"Containers whose volumes are mounted."`
	Bindings              []Binding        `json:"bindings,omitempty" doc:"Host paths mounted into the container."`
	DefineComponentLinks  []LinkDefinition `json:"defineComponentLinks,omitempty" doc:"Links this component exports."`
	RequireComponentLinks []LinkRequest    `json:"requireComponentLinks,omitempty" doc:"Links this component imports; it waits until each is there."`
	EnvironmentVariables  []EnvVar         `json:"environmentVariables,omitempty" doc:"Environment of the container. Link variables win on collision."`
	Privileged            bool             `json:"privileged,omitempty" doc:"Give the container all privileges of the host."`

	Entrypoint  []string          `json:"entrypoint,omitempty" doc:"Entry point, as argv. Default: the image's."`
	WorkingDir  string            `json:"workingDir,omitempty" doc:"Working directory. Default: the image's."`
	Hostname    string            `json:"hostname,omitempty" doc:"Host name inside the container."`
	Labels      map[string]string `json:"labels,omitempty" doc:"Labels of the container. The prefix dev.gantryd. is reserved."`
	Resources   Resources         `json:"resources,omitzero" doc:"Limits of memory, processor and processes."`
	CapAdd      []string          `json:"capAdd,omitempty" doc:"Capabilities added."`
	CapDrop     []string          `json:"capDrop,omitempty" doc:"Capabilities dropped."`
	ReadOnly    bool              `json:"readOnly,omitempty" doc:"Mount the root file system read-only."`
	Tmpfs       map[string]string `json:"tmpfs,omitempty" doc:"Paths in the container to mount a tmpfs on, with mount options."`
	Ulimits     []Ulimit          `json:"ulimits,omitempty" doc:"Resource limits of the process."`
	Logging     Logging           `json:"logging,omitzero" doc:"Log driver of the container."`
	Networks    []string          `json:"networks,omitempty" doc:"Docker networks to attach to; the first one is the one the proxy dials. Default: bridge."`
	DNS         []string          `json:"dns,omitempty" doc:"Name servers."`
	Exclusive   bool              `json:"exclusive,omitempty" doc:"Two containers of this component cannot run at once: stop the old one before starting the new one."`
	StopTimeout Duration          `json:"stopTimeout,omitempty" doc:"Time between SIGTERM and SIGKILL when a container is stopped." default:"10s"`
	Restart     Restart           `json:"restart,omitzero" doc:"How fast a broken container is replaced again and again."`
	Drain       DrainPolicy       `json:"drain,omitzero" doc:"How long connections of a replaced container may go on."`
	Hold        Hold              `json:"hold,omitzero" doc:"How new connections wait while no container serves."`
	Rollout     RolloutPolicy     `json:"rollout,omitzero" doc:"How a new release goes over the hosts."`
	PreDeploy   PreDeploy         `json:"preDeploy,omitzero" doc:"Command that runs once for a release, on one host, before the first host starts it."`
	Maintenance bool              `json:"maintenance,omitempty" doc:"Answer HTTP requests with the maintenance page; nothing reaches the container."`
}

// A Check is the configuration of a probe.
type Check struct {
	ID             string            `json:"id,omitempty" doc:"Title shown in messages. Default: the kind."`
	Kind           string            `json:"kind" doc:"What the probe does." enum:"http,https,tcp,connection,exec,docker,grpc"`
	Port           int               `json:"port,omitempty" doc:"Port in the container (http, https, tcp, grpc)."`
	Path           string            `json:"path,omitempty" doc:"Path of the request (http, https)."`
	Timeout        float64           `json:"timeout,omitempty" doc:"Seconds between two attempts. Older name of interval." default:"3"`
	Interval       Duration          `json:"interval,omitempty" doc:"Time between two attempts. Default: timeout for ready and termination checks, 30s for health checks."`
	RequestTimeout Duration          `json:"requestTimeout,omitempty" doc:"Longest time of one attempt." default:"2s"`
	Retries        int               `json:"retries,omitempty" doc:"Failures in a row that are forgiven before a serving container counts as unhealthy." default:"0"`
	Headers        map[string]string `json:"headers,omitempty" doc:"Headers of the request (http, https)."`
	ExpectStatus   []int             `json:"expectStatus,omitempty" doc:"Status codes that pass (http, https). Default: 200 to 299."`
	Command        []string          `json:"command,omitempty" doc:"Command run in the container, as argv; passes on exit code 0 (exec)."`
	ExecCommand    string            `json:"exec_command,omitempty" doc:"Command run in the container, one string split like a shell does (exec)."`
	Service        string            `json:"service,omitempty" doc:"Service name asked for (grpc)."`
}

// Kinds of checks and signals.
const (
	CheckHTTP       = "http"
	CheckHTTPS      = "https"
	CheckTCP        = "tcp"
	CheckConnection = "connection" // passes when the proxy holds no connection to the container
	CheckExec       = "exec"
	CheckDocker     = "docker" // the image's own HEALTHCHECK
	CheckGRPC       = "grpc"
)

// Title is how messages name the check.
func (c Check) Title() string {
	if c.ID != "" {
		return c.ID
	}
	return c.Kind
}

// A Signal is sent to a container when its drain begins.
type Signal struct {
	ID             string            `json:"id,omitempty" doc:"Title shown in messages. Default: the kind."`
	Kind           string            `json:"kind" doc:"How the signal is sent: a POST with an empty body, or a command." enum:"http,https,exec"`
	Port           int               `json:"port,omitempty" doc:"Port in the container (http, https)."`
	Path           string            `json:"path,omitempty" doc:"Path of the request (http, https)."`
	Timeout        float64           `json:"timeout,omitempty" doc:"Kept for files of the original; a signal is sent once."`
	RequestTimeout Duration          `json:"requestTimeout,omitempty" doc:"Longest time of the attempt." default:"2s"`
	Headers        map[string]string `json:"headers,omitempty" doc:"Headers of the request (http, https)."`
	Command        []string          `json:"command,omitempty" doc:"Command run in the container, as argv (exec)."`
	ExecCommand    string            `json:"exec_command,omitempty" doc:"Command run in the container, one string split like a shell does (exec)."`
}

// Title is how messages name the signal.
func (s Signal) Title() string {
	if s.ID != "" {
		return s.ID
	}
	return s.Kind
}

// A Binding mounts a path of the host. The text {container_id} in External stands for the first
// 12 characters of the new container's ID.
type Binding struct {
	External string `json:"external" doc:"Path on the host. {container_id} becomes the first 12 characters of the container's ID."`
	Volume   string `json:"volume" doc:"Path in the container."`
}

// A LinkDefinition exports a port of the component under a name.
type LinkDefinition struct {
	Name string `json:"name" doc:"Name of the link, unique in the project."`
	Port int    `json:"port" doc:"Port in the container."`
	Kind string `json:"kind,omitempty" doc:"tcp or http." default:"tcp" enum:"tcp,http"`
}

// A LinkRequest imports a link; its variables start with the alias.
type LinkRequest struct {
	Name  string `json:"name" doc:"Name of a link some component of the project defines."`
	Alias string `json:"alias" doc:"Prefix of the variables that tell where the link is."`
}

// An EnvVar is one environment variable.
type EnvVar struct {
	Name  string `json:"name" doc:"Name of the variable."`
	Value string `json:"value" doc:"Value of the variable."`
}

// Resources limits what a container may use. Zero means no limit.
type Resources struct {
	Memory string  `json:"memory,omitempty" doc:"Memory, such as 512m or 2g."`
	CPUs   float64 `json:"cpus,omitempty" doc:"Processors, such as 1.5."`
	Pids   int64   `json:"pids,omitempty" doc:"Processes and threads."`
}

// A Ulimit is one resource limit of the container's processes.
type Ulimit struct {
	Name string `json:"name" doc:"Name, such as nofile."`
	Soft int64  `json:"soft" doc:"Soft limit."`
	Hard int64  `json:"hard" doc:"Hard limit."`
}

// Logging chooses the log driver.
type Logging struct {
	Driver  string            `json:"driver,omitempty" doc:"Log driver. Default: the Engine's."`
	Options map[string]string `json:"options,omitempty" doc:"Options of the log driver."`
}

// Restart bounds the back-off between two replacements of a broken container.
type Restart struct {
	MinDelay Duration `json:"minDelay,omitempty" doc:"Wait before the second replacement in a row; doubles each time." default:"1s"`
	MaxDelay Duration `json:"maxDelay,omitempty" doc:"Longest wait between two replacements." default:"5m"`
}

// DrainPolicy says how long connections of a replaced container may go on.
type DrainPolicy struct {
	Timeout Duration `json:"timeout,omitempty" doc:"Connections still open after this time are cut. Default: never."`
	Rate    int      `json:"rate,omitempty" doc:"Connections cut per second at the deadline. Default: all at once."`
}

// Hold says how new connections wait while no container serves.
type Hold struct {
	Max     int      `json:"max,omitempty" doc:"Connections that may wait on one listener." default:"1024"`
	Timeout Duration `json:"timeout,omitempty" doc:"Longest wait of a connection; then it is refused." default:"30s"`
}

// RolloutPolicy says how a new release goes over the hosts.
type RolloutPolicy struct {
	MaxParallel      Share     `json:"maxParallel,omitempty" doc:"Hosts that may change at the same time: a number, or a part of them such as 25%." default:"1"`
	Bake             *Duration `json:"bake,omitempty" doc:"Time a new container must stay healthy before its host's turn ends. Default: 5s with health checks, else 0s."`
	Order            string    `json:"order,omitempty" doc:"start-first or stop-first. Default: stop-first for an exclusive component, else start-first." enum:"start-first,stop-first"`
	Canary           Share     `json:"canary,omitempty" doc:"Hosts that change first: a number, or a part of them such as 10%; the others wait for the promotion. Default: none."`
	AutoPromote      Duration  `json:"autoPromote,omitempty" doc:"Time after which canaries that serve count as promoted. Default: never; an operator promotes."`
	OnFailure        string    `json:"onFailure,omitempty" doc:"What a failure does: halt leaves hosts that changed on the new release, rollback brings the last good release back on all." default:"halt" enum:"halt,rollback"`
	MaxFailures      int       `json:"maxFailures,omitempty" doc:"Hosts that may fail before the rollout halts; they keep the release before." default:"0"`
	ProgressDeadline Duration  `json:"progressDeadline,omitempty" doc:"Longest time in which no host comes further; then the rollout halts. Default: 10m, and the time of ready checks and bake."`
	OnHostLost       string    `json:"onHostLost,omitempty" doc:"What the others do when a host is lost in its turn: wait for it, or continue." default:"wait" enum:"wait,continue"`
	Guard            Guard     `json:"guard,omitzero" doc:"Halts the rollout when users fare worse with the new release than with the one before, as the proxy sees it. Default: off."`
}

// Orders of a replacement.
const (
	OrderStartFirst = "start-first"
	OrderStopFirst  = "stop-first"
)

// Defaults of a Spec, applied by its methods so that a stored Spec stays as it was written.
const (
	DefaultTag            = "latest"
	DefaultReadyTimeout   = 10 * time.Second
	DefaultCheckInterval  = 3 * time.Second
	DefaultHealthInterval = 30 * time.Second
	DefaultRequestTimeout = 2 * time.Second
	DefaultStopTimeout    = 10 * time.Second
	DefaultBake           = 5 * time.Second
	DefaultHoldMax        = 1024
	DefaultHoldTimeout    = 30 * time.Second
	DefaultRestartMin     = time.Second
	DefaultRestartMax     = 5 * time.Minute
)

// Ref is the image reference, repo:tag.
func (s Spec) Ref() string { return s.Repo + ":" + or(s.Tag, DefaultTag) }

// ReadyWithin is how long the ready checks may take.
func (s Spec) ReadyWithin() time.Duration {
	if s.ReadyTimeout == 0 {
		return DefaultReadyTimeout
	}
	return time.Duration(s.ReadyTimeout) * time.Millisecond
}

// Bake is how long a new container must stay healthy before its host's turn ends.
func (s Spec) Bake() time.Duration {
	switch {
	case s.Rollout.Bake != nil:
		return time.Duration(*s.Rollout.Bake)
	case len(s.HealthChecks) > 0:
		return DefaultBake
	}
	return 0
}

// StopFirst reports whether the old container must be gone before the new one starts.
func (s Spec) StopFirst() bool {
	return s.Exclusive || s.Rollout.Order == OrderStopFirst
}

// StopWithin is the time between SIGTERM and SIGKILL.
func (s Spec) StopWithin() time.Duration { return orDur(s.StopTimeout, DefaultStopTimeout) }

// Every is the time between two attempts of a ready or termination check.
func (c Check) Every() time.Duration {
	switch {
	case c.Interval > 0:
		return time.Duration(c.Interval)
	case c.Timeout > 0:
		return time.Duration(c.Timeout * float64(time.Second))
	}
	return DefaultCheckInterval
}

// HealthEvery is the time between two attempts of a health check.
func (c Check) HealthEvery() time.Duration { return orDur(c.Interval, DefaultHealthInterval) }

// Within is the longest time of one attempt.
func (c Check) Within() time.Duration { return orDur(c.RequestTimeout, DefaultRequestTimeout) }

// Within is the longest time of the attempt.
func (s Signal) Within() time.Duration { return orDur(s.RequestTimeout, DefaultRequestTimeout) }

// A Duration is written as a string such as "30s" or "1h30m".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Negative durations are refused.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as \"30s\"", b)
	}
	if v < 0 {
		return fmt.Errorf("%q is negative", b)
	}
	*d = Duration(v)
	return nil
}

// String is the form that UnmarshalText reads.
func (d Duration) String() string { return time.Duration(d).String() }

func or(s, unset string) string {
	if s == "" {
		return unset
	}
	return s
}

func orDur(d Duration, unset time.Duration) time.Duration {
	if d == 0 {
		return unset
	}
	return time.Duration(d)
}

// A Project is a project file: the components that belong together.
type Project struct {
	Components []Spec `json:"components" doc:"The components of the project."`
}
