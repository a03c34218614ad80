package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/pkg/component"
)

// execLines is how many lines of output Exec returns.
const execLines = 50

// Exec runs a command in a running container and returns its exit code and its last lines of
// output, both streams in order. ctx bounds it, ten minutes at most; when that is over the command
// itself goes on, since Docker Engine cannot end it.
func (e *Engine) Exec(ctx context.Context, containerID string, argv []string) (exitCode int, output string, err error) {
	last := lines{max: execLines}
	late := fmt.Errorf("the command did not end within %s", e.limits.exec)
	err = e.callWithin(ctx, e.limits.exec, late, func(ctx context.Context, cli *client.Client) error {
		created, err := cli.ContainerExecCreate(ctx, containerID, container.ExecOptions{
			Cmd: argv, AttachStdout: true, AttachStderr: true,
		})
		if err != nil {
			return err
		}
		if err := readExec(ctx, cli, created.ID, &last); err != nil {
			return err
		}
		exitCode, err = e.execResult(ctx, cli, created.ID)
		return err
	})
	if err != nil {
		return 0, strings.Join(last.kept, "\n"), fmt.Errorf("run command in container %q: %w", component.Short(containerID), err)
	}
	return exitCode, strings.Join(last.kept, "\n"), nil
}

// readExec starts the command and reads until it ends. The end of ctx closes the connection.
func readExec(ctx context.Context, cli *client.Client, id string, out *lines) error {
	ctx, cancel := context.WithCancel(context.WithValue(ctx, cutKey{}, true))
	defer cancel()
	conn, err := cli.ContainerExecAttach(ctx, id, container.ExecAttachOptions{})
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	defer conn.Close()
	if err := split(conn.Reader, false, out); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

// execResult waits until the Engine knows the exit code; the output ends a little earlier.
func (e *Engine) execResult(ctx context.Context, cli *client.Client, id string) (int, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := cli.ContainerExecInspect(ctx, id)
		switch {
		case err != nil:
			return 0, err
		case !got.Running:
			return got.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))
		case <-tick.C:
		}
	}
}
