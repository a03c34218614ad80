package api

import (
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// A Component is how one component of a project stands, in one word.
type Component struct {
	Name       string `json:"component"`
	Status     string `json:"status" doc:"ready, updating, updatefail, pullfail, predeployfail, skipped, aborted, stopped, killed or unknown"`
	ImageID    string `json:"imageid"`
	Image      string `json:"image,omitempty"`
	Generation int64  `json:"generation,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// A Status is what every host of a project is doing.
type Status struct {
	Project    string            `json:"project"`
	Components []ComponentStatus `json:"components"`
	Hosts      []Machine         `json:"hosts"`
}

// A ComponentStatus is a Component with what each host says about it.
type ComponentStatus struct {
	Component
	Hosts []component.HostStatus `json:"hosts"`
}

// A Machine is a host's daemon, as it published itself.
type Machine struct {
	Host string `json:"host"`
	component.Machine
}

// A Host is a host of a project: what it runs, changes, and was lost in.
type Host struct {
	Host       string    `json:"host"`
	Status     string    `json:"status" doc:"running, or lost"`
	IP         string    `json:"ip,omitempty"`
	Version    string    `json:"version,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	Components []string  `json:"components"`
	Turns      []string  `json:"turns" doc:"components it is changing"`
	LostIn     []string  `json:"lost_in" doc:"components that wait for it: it was lost in their turn, or is their canary"`
}

// A Plan is what an update would do to one component.
type Plan struct {
	Component   string             `json:"component"`
	Change      string             `json:"change" doc:"none, update, or retry: the same after a halt"`
	Revision    int64              `json:"revision" doc:"generation that the plan is about, for an update on condition; 0: there is no state yet"`
	Changes     []component.Change `json:"changes"`
	Containers  bool               `json:"containers" doc:"new containers are started"`
	Hosts       []string           `json:"hosts" doc:"hosts that get new containers"`
	MaxParallel int                `json:"max_parallel"`
	Canary      int                `json:"canary,omitempty"`
	Pull        []string           `json:"pull" doc:"hosts that run no container of the image yet"`
	Follows     string             `json:"follows,omitempty" doc:"the component that comes first"`
	Together    []string           `json:"together,omitempty" doc:"components that are one release with it"`
	PreDeploy   []string           `json:"pre_deploy,omitempty" doc:"the task that runs before the first host"`
}

// A Release is an entry of a component's history: a state that was asked for and how its rollout ended.
type Release struct {
	Generation int64              `json:"generation"`
	Outcome    component.Outcome  `json:"outcome" doc:"done, halted, rolledback, superseded, stopped, killed, or open: it goes on"`
	Command    string             `json:"command,omitempty"`
	Together   []string           `json:"together,omitempty" doc:"components that were one release with it"`
	Source     int64              `json:"source,omitempty" doc:"of a rollback: the generation it brought back"`
	By         string             `json:"by,omitempty"`
	From       string             `json:"from,omitempty"`
	At         time.Time          `json:"at,omitzero"`
	Reason     string             `json:"reason,omitempty" doc:"the operator's"`
	ImageID    string             `json:"imageid,omitempty"`
	Image      string             `json:"image,omitempty"`
	Changes    []component.Change `json:"changes" doc:"what changed against the release before"`
	Rollout    component.Rollout  `json:"rollout,omitzero"`
}

// A Difference is what a configuration would change of one component.
type Difference struct {
	Component string             `json:"component"`
	Change    string             `json:"change" doc:"added, removed, changed or same"`
	Changes   []component.Change `json:"changes"`
}
