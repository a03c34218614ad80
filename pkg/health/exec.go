package health

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/shlex"

	"github.com/gantryd/gantryd/pkg/component"
)

// argv is the command of an exec check or signal: command when there is one, else line split like a
// shell does. No shell runs.
func argv(command []string, line string) ([]string, error) {
	if len(command) == 0 {
		var err error
		if command, err = shlex.Split(line); err != nil {
			return nil, fmt.Errorf("split %q: %w", line, err)
		}
	}
	if len(command) == 0 || command[0] == "" {
		return nil, errors.New("no command")
	}
	return command, nil
}

// exec runs the command in the container; it passes on exit code 0.
func (p *Prober) exec(ctx context.Context, t component.ProbeTarget, command []string, line string) error {
	args, err := argv(command, line)
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	code, output, err := 0, "", errNoRunner
	if p.runner != nil {
		code, output, err = p.runner.Exec(ctx, t.ID, args)
	}
	switch {
	case err != nil:
		return fmt.Errorf("exec %q: %w", args, reason(ctx, err))
	case code == 0:
		return nil
	}
	return fmt.Errorf("exec %q: exit code %d%s", args, code, suffix(output))
}

// probeDocker passes when the image's own HEALTHCHECK does.
func (p *Prober) probeDocker(ctx context.Context, t component.ProbeTarget) error {
	state, output, err := "", "", errNoRunner
	if p.runner != nil {
		state, output, err = p.runner.DockerHealth(ctx, t.ID)
	}
	switch {
	case err != nil:
		return fmt.Errorf("docker health: %w", reason(ctx, err))
	case state == "healthy":
		return nil
	case state == "" || state == "none":
		return errors.New("docker health: the image has no HEALTHCHECK")
	}
	return fmt.Errorf("docker health: %s%s", firstLine(state), suffix(output))
}

var errNoRunner = errors.New("no engine to ask")

// suffix is what a command said, to put behind what became of it.
func suffix(output string) string {
	if line := firstLine(output); line != "" {
		return ": " + line
	}
	return ""
}
