package dockertest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// An Inspector looks at one Engine and puts things there, for tests that must not know Docker's
// client. Its methods may be called at once.
type Inspector struct{ cli *client.Client }

// A Container is one on the Engine, as the Engine describes it.
type Container struct {
	ID, Name, ImageID, State string // State is created, running, exited, …
	Labels                   map[string]string
	Created, Started, Ended  time.Time // Ended is zero while it runs
	Restarts                 int
}

// Running reports whether the process of c runs.
func (c Container) Running() bool { return c.State == "running" }

// Inspect returns an Inspector of the Engine at host, such as unix:///run/docker.sock; empty stands
// for the one named by the environment, without which the test is skipped as by Engine.
func Inspect(t testing.TB, host string) *Inspector {
	t.Helper()
	if host == "" {
		return &Inspector{Engine(t)}
	}
	cli, err := client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return &Inspector{cli}
}

// bounded is a context for one call, also when the test's own has ended.
func bounded(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), callTimeout)
}

// Alive reports whether the Engine answers.
func (i *Inspector) Alive(t testing.TB) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
	defer cancel()
	_, err := i.cli.Ping(ctx)
	return err == nil
}

// Image makes sure that the variant is on the Engine, and returns its repo:tag and image ID.
func (i *Inspector) Image(t testing.TB, v Variant) (ref, imageID string) {
	t.Helper()
	return ImageOn(t, i.cli, v)
}

// Tag gives the image another name, and takes that name from another image. Untag it.
func (i *Inspector) Tag(t testing.TB, imageID, ref string) {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	if err := i.cli.ImageTag(ctx, imageID, ref); err != nil {
		t.Fatalf("tag image %q: %v", ref, err)
	}
}

// Untag takes a name from the image that has it; there may be none.
func (i *Inspector) Untag(t testing.TB, ref string) {
	ctx, cancel := bounded(t)
	defer cancel()
	_, err := i.cli.ImageRemove(ctx, ref, image.RemoveOptions{})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) && i.Alive(t) {
		t.Errorf("untag image %q: %v", ref, err)
	}
}

// RemoveImage removes an image that no container uses, by whatever names it has; it may be gone already.
func (i *Inspector) RemoveImage(t testing.TB, imageID string) {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	_, err := i.cli.ImageRemove(ctx, imageID, image.RemoveOptions{Force: true, PruneChildren: true})
	if err != nil && !errdefs.IsNotFound(err) {
		t.Fatalf("remove image %s: %v", imageID, err)
	}
}

// Containers are those that have all the labels, each "name=value", oldest first. One that goes
// away meanwhile is not among them.
func (i *Inspector) Containers(t testing.TB, labels ...string) []Container {
	t.Helper()
	args := filters.NewArgs()
	for _, l := range labels {
		args.Add("label", l)
	}
	ctx, cancel := bounded(t)
	defer cancel()
	list, err := i.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
	if err != nil {
		t.Fatalf("list containers: %v", err)
	}
	var out []Container
	for _, c := range list {
		got, err := i.cli.ContainerInspect(ctx, c.ID)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			t.Fatalf("inspect container %s: %v", c.ID[:12], err)
		}
		out = append(out, describe(t, got))
	}
	slices.SortFunc(out, func(a, b Container) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return out
}

func describe(t testing.TB, c container.InspectResponse) Container {
	t.Helper()
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatalf("container %s: %v", c.ID[:12], err)
		}
		return v
	}
	out := Container{
		ID: c.ID, Name: c.Name, ImageID: c.Image, State: c.State.Status, Labels: maps.Clone(c.Config.Labels),
		Created: at(c.Created), Started: at(c.State.StartedAt), Restarts: c.RestartCount,
	}
	if !c.State.Running {
		out.Ended = at(c.State.FinishedAt)
	}
	return out
}

// Crash kills the container's first process behind the Engine's back, which finds out in its own time. It
// returns once the process and its connections are gone.
func (i *Inspector) Crash(t testing.TB, id string) {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	c, err := i.cli.ContainerInspect(ctx, id)
	if err != nil {
		t.Fatalf("inspect container %s: %v", id, err)
	}
	pid := c.State.Pid
	// An Engine elsewhere has process IDs of its own.
	if cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); err != nil || !strings.Contains(string(cgroup), c.ID) {
		t.Skipf("the processes of container %s cannot be seen from here", id)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill process %d of container %s: %v", pid, id, err)
	}
	for !ended(pid) {
		if ctx.Err() != nil {
			t.Fatalf("process %d of container %s does not end", pid, id)
		}
		<-time.After(time.Millisecond) // the process needs the processor to end
	}
}

// ended reports whether the process is over: gone, or a zombie that has no other thread, for the last one
// closes what the process had open.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return err != nil || strings.Contains(string(stat), ") Z ") && len(threads) == 1
}

// Run starts a container that is none of gantryd's, and removes it when the test ends.
func (i *Inspector) Run(t testing.TB, ref string, labels map[string]string) (id string) {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	made, err := i.cli.ContainerCreate(ctx, &container.Config{Image: ref, Labels: labels}, nil, nil, nil, "")
	if err != nil {
		t.Fatalf("create container of %q: %v", ref, err)
	}
	t.Cleanup(func() { i.Remove(t, made.ID) })
	if err := i.cli.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		t.Fatalf("start container of %q: %v", ref, err)
	}
	return made.ID
}

// Remove removes a container, running or not; it may be gone already.
func (i *Inspector) Remove(t testing.TB, id string) {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	err := i.cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		t.Errorf("remove container %s: %v", id[:12], err)
	}
}

// Storage is the name of the Engine's storage driver.
func (i *Inspector) Storage(t testing.TB) string {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	info, err := i.cli.Info(ctx)
	if err != nil {
		t.Fatalf("ask for the Engine's settings: %v", err)
	}
	return info.Driver
}

// Floor is what Docker Engine takes now to create and start a container of the image, as by the function Floor.
func (i *Inspector) Floor(t testing.TB, project, imageID string) time.Duration {
	t.Helper()
	return Floor(t, i.cli, project, imageID)
}
