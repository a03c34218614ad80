package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/pkg/component"
)

// inspect looks a container up by ID or name.
func (e *Engine) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	var out container.InspectResponse
	err := e.call(ctx, e.limits.query, func(ctx context.Context, cli *client.Client) (err error) {
		out, err = cli.ContainerInspect(ctx, id)
		return err
	})
	if err == nil && (out.ContainerJSONBase == nil || out.State == nil || out.Config == nil) {
		err = fmt.Errorf("the answer is not complete")
	}
	if err != nil {
		return out, fmt.Errorf("inspect container %q: %w", component.Short(id), err)
	}
	return out, nil
}

// Stop sends the image's stop signal, which is SIGTERM unless the image says otherwise, waits for
// grace (in whole seconds, rounded up), and sends SIGKILL. Nil when the container is gone already.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	defer failpoint.Around(failpoint.Stop)()
	timeout := seconds(grace)
	within := time.Duration(timeout)*time.Second + e.limits.stopExtra
	err := e.change(ctx, within, func(ctx context.Context, cli *client.Client) error {
		return cli.ContainerStop(ctx, id, container.StopOptions{Timeout: &timeout})
	})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("stop container %q: %w", component.Short(id), err)
}

// Kill sends SIGKILL. Nil when the container is gone or over already.
func (e *Engine) Kill(ctx context.Context, id string) error {
	defer failpoint.Around(failpoint.Kill)()
	err := e.change(ctx, e.limits.change, func(ctx context.Context, cli *client.Client) error {
		return cli.ContainerKill(ctx, id, "SIGKILL")
	})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	if errdefs.IsConflict(err) { // "is not running"
		if c, inspectErr := e.inspect(ctx, id); inspectErr == nil && !c.State.Running || errdefs.IsNotFound(inspectErr) {
			return nil
		}
	}
	return fmt.Errorf("kill container %q: %w", component.Short(id), err)
}

// Remove removes a container that does not run, and its anonymous volumes. Nil when it is gone
// already. A container that is not ours is refused.
func (e *Engine) Remove(ctx context.Context, id string) error {
	defer failpoint.Around(failpoint.Remove)()
	c, err := e.inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove container: %w", err)
	}
	labels := c.Config.Labels
	if labels[LabelProject] != e.project || labels[LabelHost] != e.host {
		return fmt.Errorf("remove container %q: it is not one of project %q on host %q", component.Short(id), e.project, e.host)
	}
	err = e.change(ctx, e.limits.change, func(ctx context.Context, cli *client.Client) error {
		return cli.ContainerRemove(ctx, id, container.RemoveOptions{RemoveVolumes: true})
	})
	if errdefs.IsConflict(err) { // it runs, or somebody else removes it now
		now, inspectErr := e.inspect(ctx, id)
		if errdefs.IsNotFound(inspectErr) || inspectErr == nil && now.State.Status == container.StateRemoving {
			err = nil
		}
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove container %q: %w", component.Short(id), err)
	}
	removeLinks(links(labels))
	return nil
}

// ExitReason is how an exited container ended, for people: "exit code 3", "out of memory".
func (e *Engine) ExitReason(ctx context.Context, id string) (string, error) {
	defer failpoint.Around(failpoint.ExitReason)()
	c, err := e.inspect(ctx, id)
	if err != nil {
		return "", e.answered(ctx, err)
	}
	return exitReason(c.State), nil
}

// Succeeded reports whether an exited container ended with exit code 0. One that was never started, or
// runs, has not.
func (e *Engine) Succeeded(ctx context.Context, id string) (bool, error) {
	c, err := e.inspect(ctx, id)
	if err != nil {
		return false, e.answered(ctx, err)
	}
	return c.State.ExitCode == 0 && c.State.Error == "" && c.State.Status == container.StateExited, nil
}

func exitReason(s *container.State) string {
	const killed = 128 + 9
	code := fmt.Sprintf("exit code %d", s.ExitCode)
	if name := signalName(s.ExitCode - 128); name != "" {
		code += " (" + name + ")"
	}
	switch {
	case s.Running:
		return "still running"
	case s.Status == container.StateCreated && s.Error == "":
		return "never started"
	case s.OOMKilled && s.ExitCode == killed:
		return "out of memory"
	case s.OOMKilled:
		return code + ", after a process ran out of memory"
	case s.Error != "":
		return code + ": " + cleanLine(s.Error)
	}
	return code
}

// signalName is the name of a signal that ends processes, or "".
func signalName(n int) string {
	return map[int]string{
		1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
		9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 31: "SIGSYS",
	}[n]
}

// The answers of DockerHealth.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
	HealthNone      = "none" // the image has no HEALTHCHECK
)

// DockerHealth is what the image's own HEALTHCHECK says, and the output of its last run.
func (e *Engine) DockerHealth(ctx context.Context, id string) (status, output string, err error) {
	c, err := e.inspect(ctx, id)
	if err != nil {
		return "", "", err
	}
	h := c.State.Health
	if h == nil || h.Status == "" {
		return HealthNone, "", nil
	}
	if len(h.Log) > 0 {
		output = cleanLine(strings.TrimSpace(h.Log[len(h.Log)-1].Output))
	}
	return h.Status, output, nil
}

// Info is what Docker Engine says about itself.
type Info struct {
	ID          string // of the Engine; stays the same over restarts
	Name        string // host name of its machine
	Version     string
	APIVersion  string // agreed on
	OS          string // such as linux
	Arch        string // such as x86_64
	LiveRestore bool   // containers live on while the Engine restarts
}

// Info asks the Engine about itself.
func (e *Engine) Info(ctx context.Context) (Info, error) {
	var out Info
	err := e.call(ctx, e.limits.info, func(ctx context.Context, cli *client.Client) error {
		i, err := cli.Info(ctx)
		if err != nil {
			return err
		}
		out = Info{
			ID: i.ID, Name: i.Name, Version: i.ServerVersion, APIVersion: cli.ClientVersion(),
			OS: i.OSType, Arch: i.Architecture, LiveRestore: i.LiveRestoreEnabled,
		}
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("ask engine about itself: %w", err)
	}
	return out, nil
}
