package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
	"github.com/gantryd/gantryd/pkg/rollout"
)

// An Action is an operator's word about a rollout.
type Action string

// The actions.
const (
	Pause   Action = "pause"
	Resume  Action = "resume"
	Promote Action = "promote"
	Abort   Action = "abort"
	Retry   Action = "retry"
)

// verdict is what the action makes of a rollout.
func (a Action) verdict() func(component.View, component.Word) (component.Rollout, error) {
	switch a {
	case Pause:
		return rollout.Pause
	case Resume:
		return rollout.Resume
	case Promote:
		return rollout.Promote
	case Abort:
		return rollout.Abort
	case Retry:
		return rollout.Retry
	}
	return nil
}

// Steer says the word about the rollout of a component and returns the generation it was about. With a
// generation it does so only when that is still what is asked for.
func Steer(ctx context.Context, c *etcdstate.Client, project, name string, a Action, w component.Word, generation int64) (int64, error) {
	decide := a.verdict()
	if decide == nil {
		return 0, mistake(Invalid, "%q is none of pause, resume, promote, abort, retry", a)
	}
	p, err := Read(ctx, c, project)
	if err != nil {
		return 0, err
	}
	if _, err := Pick(Names(p), []string{name}); err != nil {
		return 0, err
	}
	gen, err := c.Steer(ctx, project, name, func(v component.View) (component.Rollout, error) {
		if generation != 0 && v.Desired.Generation != generation {
			return component.Rollout{}, fmt.Errorf("%w: generation %d is what is asked for, not %d", rollout.ErrConflict, v.Desired.Generation, generation)
		}
		return decide(v, w)
	})
	if errors.Is(err, rollout.ErrConflict) {
		return 0, mistake(Refused, "cannot %s %s: %s", a, name, strings.TrimPrefix(err.Error(), rollout.ErrConflict.Error()+": "))
	}
	return gen, err
}
