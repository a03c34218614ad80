package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/pkg/component"
)

// Containers lists this host's containers of the project, running or not, oldest first. It is one
// call, or none: while Run follows the events and nothing changed, the answer of the last second is
// given again; for a container that is first seen ended, it is some more. A container of ours whose labels do not parse is logged once and left out.
func (e *Engine) Containers(ctx context.Context) ([]component.EngineContainer, error) {
	defer failpoint.Around(failpoint.Containers)()
	known, changes, ok := e.recent.containers()
	if ok {
		return known, nil
	}
	asked := time.Now()
	var list []container.Summary
	err := e.call(ctx, e.limits.query, func(ctx context.Context, cli *client.Client) (err error) {
		list, err = cli.ContainerList(ctx, container.ListOptions{All: true, Filters: e.ours()})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	out := make([]component.EngineContainer, 0, len(list))
	for _, s := range list {
		c, err := fromSummary(s)
		if err != nil {
			e.ignore(s.ID, err)
			continue
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b component.EngineContainer) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	if err := e.tellEnds(ctx, out); err != nil {
		return nil, err
	}
	e.recent.keep(out, asked, changes)
	return out, nil
}

// ours are the labels that make a container ours.
func (e *Engine) ours() filters.Args {
	return filters.NewArgs(
		filters.Arg("label", LabelProject+"="+e.project),
		filters.Arg("label", LabelHost+"="+e.host),
	)
}

// ignore says once that a container with our labels cannot be understood.
func (e *Engine) ignore(id string, err error) {
	e.mu.Lock()
	known := e.ignored[id]
	e.ignored[id] = true
	e.mu.Unlock()
	if !known {
		e.log.Warn("container with unknown labels ignored", "container", component.Short(id), "err", err)
	}
}

func fromSummary(s container.Summary) (component.EngineContainer, error) {
	c, err := fromLabels(s.Labels)
	if err != nil {
		return c, err
	}
	c.ID = s.ID
	c.Name = ownName(s.Names)
	c.State = runState(s.State)
	c.Status = s.Status
	c.ImageID = s.ImageID
	c.ImageName = imageName(s.Image)
	if c.State == component.RunRunning {
		c.Addr = address(c.Release.Spec.Networks, s)
	}
	if c.Created.IsZero() {
		c.Created = time.Unix(s.Created, 0)
	}
	return c, nil
}

// ownName is the container's own name. Names also has those that other containers gave it by
// legacy links, "/other/alias".
func ownName(names []string) string {
	for _, n := range names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

func runState(s container.ContainerState) component.RunState {
	switch s {
	case container.StateRunning, container.StatePaused: // a paused process is alive, only slow
		return component.RunRunning
	case container.StateCreated:
		return component.RunCreated
	case container.StateRestarting, container.StateRemoving, container.StateExited, container.StateDead:
	}
	return component.RunExited
}

// imageName is the name that docker ps shows: repo:tag, or the short ID when no tag is left.
func imageName(s string) string {
	if strings.HasPrefix(s, "sha256:") {
		return component.Short(s)
	}
	return s
}

// address is the IP address on the first of the networks, or on the one the Engine chose.
func address(networks []string, s container.Summary) string {
	first := s.HostConfig.NetworkMode
	if len(networks) > 0 {
		first = networks[0]
	}
	if first == hostNetwork {
		return "127.0.0.1"
	}
	if s.NetworkSettings == nil {
		return ""
	}
	if first == "" || first == "default" {
		first = defaultNetwork
	}
	ep := s.NetworkSettings.Networks[first]
	if ep == nil && len(s.NetworkSettings.Networks) == 1 { // named by its ID
		for _, only := range s.NetworkSettings.Networks {
			ep = only
		}
	}
	if ep == nil {
		return ""
	}
	return cmp.Or(ep.IPAddress, ep.GlobalIPv6Address)
}
