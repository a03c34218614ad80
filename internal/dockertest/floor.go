package dockertest

import (
	"context"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// Floor creates, starts and removes a container of the image, and returns how long create and start
// took: what Docker Engine takes for itself, now, on this machine.
func Floor(t testing.TB, cli *client.Client, project, imageID string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	began := time.Now()
	c, err := cli.ContainerCreate(ctx, &container.Config{
		Image: imageID, Labels: map[string]string{LabelProject: project},
	}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := cli.ContainerStart(ctx, c.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if err := cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
		t.Fatal(err)
	}
	return took
}
