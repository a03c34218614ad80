package dockertest

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/internal/skiptest"
)

// LabelProject is the label that pkg/engine gives to all containers of a project.
const LabelProject = "dev.gantryd.project"

// callTimeout bounds every call that the helpers make.
const callTimeout = 3 * time.Minute

// Engine returns a client of the Docker Engine named by the environment. Without one that answers
// the test is skipped, or fails when GANTRYD_REQUIRE lists docker.
func Engine(t testing.TB) *client.Client {
	t.Helper()
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		skiptest.Missing(t, "docker", "no Docker Engine: %v", err)
	}
	t.Cleanup(func() { cli.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	if _, err := cli.Ping(ctx); err != nil {
		skiptest.Missing(t, "docker", "no Docker Engine: %v", err)
	}
	return cli
}

// Project returns a project name that nobody else uses. When the test ends, all containers that
// carry it in LabelProject are removed.
func Project(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:10])
	RemoveLater(t, name)
	return name
}

// RemoveLater removes all containers of a project when the test ends.
func RemoveLater(t testing.TB, project string) {
	t.Helper()
	cli := Engine(t)
	t.Cleanup(func() { removeAll(t, cli, project) })
}

func removeAll(t testing.TB, cli *client.Client, project string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTimeout)
	defer cancel()
	list, err := cli.ContainerList(ctx, container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", LabelProject+"="+project)),
	})
	if err != nil {
		t.Errorf("list containers of project %q: %v", project, err)
	}
	for _, c := range list {
		err := cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // a daemon that just ended may have asked for it
			t.Errorf("remove container %s: %v", c.ID[:12], err)
		}
	}
}
