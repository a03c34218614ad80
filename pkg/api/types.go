package api

import (
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// A Component is how one component of a project stands, in one word.
type Component struct {
	Name       string `json:"component"`
	Status     string `json:"status" doc:"ready, updating, updatefail, pullfail, predeployfail, guardfail, skipped, aborted, stopped, killed or unknown"`
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
	Drained *component.HostDrain `json:"drained,omitempty" doc:"it is out of service"`
}

// A Host is a host of a project: what it runs, changes, and was lost in.
type Host struct {
	Host       string    `json:"host"`
	Status     string    `json:"status" doc:"running, draining, drained, lost, or away: drained, and its daemon does not run"`
	IP         string    `json:"ip,omitempty"`
	Version    string    `json:"version,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	Components []string  `json:"components"`
	Turns      []string  `json:"turns" doc:"components it is changing"`
	LostIn     []string  `json:"lost_in" doc:"components that wait for it: it was lost in their turn, or is their canary"`

	Drained *component.HostDrain `json:"drained,omitempty" doc:"it is out of service"`
}

// A Plan is what an update would do to one component.
type Plan struct {
	Component   string             `json:"component"`
	Change      string             `json:"change" doc:"none, update, or retry: the same after a halt"`
	Revision    int64              `json:"revision" doc:"generation that the plan is about, for an update on condition; 0: there is no state yet"`
	Changes     []component.Change `json:"changes"`
	Containers  bool               `json:"containers" doc:"new containers are started"`
	Hosts       []string           `json:"hosts" doc:"hosts that get new containers"`
	Drained     []string           `json:"drained,omitempty" doc:"hosts out of service, which come to it later"`
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

// A Config is the answer to writing a configuration, or to asking what that would do.
type Config struct {
	Revision int64        `json:"revision,omitempty" doc:"of what is stored now; its ETag"`
	Changes  []Difference `json:"changes"`
}

// An Update asks for the current image and configuration of components to be rolled out.
type Update struct {
	Components   []string `json:"components,omitempty" doc:"each for itself"`
	All          bool     `json:"all,omitempty" doc:"all that change, one after another in the order of their links"`
	Together     []string `json:"together,omitempty" doc:"these as one release: when one fails, all go back"`
	Reason       string   `json:"reason,omitempty" maxLength:"1000"`
	Pull         string   `json:"pull,omitempty" enum:"missing,always,never" doc:"when the server pulls the image first; missing when it is not said"`
	Restart      bool     `json:"restart,omitempty" doc:"new containers even when image and configuration are the same"`
	Policy       []string `json:"policy,omitempty" pattern:"^rollout\\." doc:"for this update, such as rollout.maxParallel=2"`
	IfGeneration *int64   `json:"if_generation,omitempty" doc:"of the one component: only when this generation is asked for still; 0: nothing is yet"`
}

// A Rollback asks for a past release of a component.
type Rollback struct {
	To     int64  `json:"to,omitempty" minimum:"0" doc:"its generation; 0: the newest good one before"`
	Reason string `json:"reason,omitempty" maxLength:"1000"`
}

// A Word is what an operator says about a rollout.
type Word struct {
	Reason     string `json:"reason,omitempty" maxLength:"1000"`
	Generation int64  `json:"generation,omitempty" minimum:"0" doc:"only when this generation is asked for still"`
}

// A Started is a component whose rollout was asked for.
type Started struct {
	Component  string `json:"component"`
	Generation int64  `json:"generation"`
	ImageID    string `json:"imageid,omitempty"`
	Source     int64  `json:"source,omitempty" doc:"of a rollback: the generation it brings back"`
}

// A Rollout is how the newest rollout of a component stands.
type Rollout struct {
	Component string `json:"component"`
	component.Rollout
	Waits string `json:"waits,omitempty" doc:"what it waits for, beyond its hosts"`
}
