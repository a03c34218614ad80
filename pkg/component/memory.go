package component

import "time"

// Records is everything a Memory holds.
type Records struct {
	Host       HostRecord        `json:"host"`
	Components map[string]Record `json:"components"`
}

// HostRecord is remembered of the host as a whole.
type HostRecord struct {
	Cluster   string         `json:"cluster,omitempty"`  // the store's identity that this host trusts
	Revision  int64          `json:"revision,omitempty"` // newest revision seen there
	Adoptions []string       `json:"adoptions,omitempty"`
	LinkPorts map[string]int `json:"link_ports,omitempty"` // link → port, kept for ever
	Drained   *HostDrain     `json:"drained,omitempty"`    // the host is out of service
}

// Record is remembered of one component.
type Record struct {
	Accepted   Desired                    `json:"accepted"` // newest desired state this host acted on
	Generation int64                      `json:"generation"`
	Attempt    int                        `json:"attempt,omitempty"` // newest try of Generation this host has heard of
	Epoch      string                     `json:"epoch,omitempty"`   // which data of the store Generation counts in
	Proven     *Release                   `json:"proven,omitempty"`
	Served     bool                       `json:"served,omitempty"` // Proven was served until now: no stop or kill since
	Containers map[string]ContainerRecord `json:"containers,omitempty"`
	Primary    string                     `json:"primary,omitempty"`
	Restarts   Restarts                   `json:"restarts,omitzero"`
	Failure    *Failure                   `json:"failure,omitempty"`
	Images     []string                   `json:"images,omitempty"` // of the last releases, newest first
	Tasks      map[string]string          `json:"tasks,omitempty"`  // containers of pre-deploy tasks that this host ended, and why
}

// ContainerRecord is remembered of one container.
type ContainerRecord struct {
	Stage         Stage     `json:"stage"`
	StageSince    time.Time `json:"stage_since,omitzero"`
	DrainingSince time.Time `json:"draining_since,omitzero"`
	Failed        string    `json:"failed,omitempty"`    // why it is kept for inspection
	Signalled     bool      `json:"signalled,omitempty"` // its termination signals were sent
}
