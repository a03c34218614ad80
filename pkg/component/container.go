package component

import "time"

// RunState is what the engine says about a container's process.
type RunState string

// The run states.
const (
	RunCreated RunState = "created" // never started
	RunRunning RunState = "running"
	RunExited  RunState = "exited"
)

// EngineContainer is one of our containers, as the engine sees it.
type EngineContainer struct {
	ID        string
	Name      string
	Component string
	Release   Release // from its labels
	Hash      string  // from its labels
	State     RunState
	Status    string // the engine's words, such as "Up 17 seconds"
	ImageID   string
	ImageName string // as the engine shows it
	Addr      string // IP address on its first network; 127.0.0.1 on the host network; empty when it does not run
	Created   time.Time
	Task      bool // it runs a pre-deploy task, and serves nobody
	Attempt   int  // of the rollout, when it runs a task

	WithEngine bool // it ended because the engine did, not by itself
}

// StartRequest is a container to create and start.
type StartRequest struct {
	Component string
	Release   Release
	Hash      string
	Env       []string // NAME=value, link variables; win over the release's own
	Task      bool     // run the pre-deploy task of the release in it
	Attempt   int      // of the rollout, when it runs a task
}

// A ProbeTarget is the container a check is about.
type ProbeTarget struct {
	ID    string
	Addr  string // IP address
	Conns func() int
}
