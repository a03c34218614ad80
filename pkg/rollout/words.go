package rollout

import (
	"errors"
	"fmt"

	"github.com/gantryd/gantryd/pkg/component"
)

// ErrConflict says that an operator's word does not fit how the rollout stands.
var ErrConflict = errors.New("conflict")

// ErrUnknown says that there is no such host.
var ErrUnknown = errors.New("unknown")

// ErrLast says that what is asked for would leave a component without a host in service.
var ErrLast = errors.New("refused")

func conflict(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConflict, fmt.Sprintf(format, args...))
}

// rolling is the record of the rollout that goes on, or says that there is none.
func rolling(v component.View) (component.Rollout, error) {
	r, g := v.Record(), v.Desired.Generation
	switch {
	case v.DesiredErr != nil:
		return r, v.DesiredErr
	case v.Desired.Status == "":
		return r, conflict("nothing was asked for yet")
	case v.Desired.Status != component.StatusReady:
		return r, conflict("it is %s, nothing rolls out", v.Desired.Status)
	case r.Status == component.RolloutDone:
		return r, conflict("nothing rolls out: every host came to generation %d", g)
	case r.Status == component.RolloutHalted:
		return r, conflict("nothing rolls out: generation %d halted: %s", g, r.Reason)
	}
	return r, nil
}

// Pause is the record in which no host begins a turn; those in one end it.
func Pause(v component.View, w component.Word) (component.Rollout, error) {
	r, err := rolling(v)
	if err == nil && r.Paused != nil {
		err = conflict("generation %d is paused already, by %s", r.Generation, word(*r.Paused))
	}
	r.Paused = &w
	return r, err
}

// Resume takes a pause back.
func Resume(v component.View, _ component.Word) (component.Rollout, error) {
	r, err := rolling(v)
	if err == nil && r.Paused == nil {
		err = conflict("generation %d is not paused", r.Generation)
	}
	r.Paused = nil
	return r, err
}

// Promote lets the hosts besides the canaries begin; also before the canaries are done.
func Promote(v component.View, w component.Word) (component.Rollout, error) {
	r, err := rolling(v)
	switch {
	case err != nil:
	case r.Promoted != nil:
		err = conflict("generation %d is promoted already, by %s", r.Generation, word(*r.Promoted))
	case v.Canary(1) == 0:
		err = conflict("generation %d has no canaries to promote", r.Generation)
	}
	r.Promoted = &w
	return r, err
}

// Abort halts the rollout. Hosts in their turn go back; those that had theirs stay, unless the policy is
// to roll back.
func Abort(v component.View, w component.Word) (component.Rollout, error) {
	r, err := rolling(v)
	r.Status, r.Kind, r.Host, r.Reason, r.At, r.Paused = component.RolloutHalted, component.Aborted, "", "aborted by "+word(w), w.At, nil
	return r, err
}

// Retry gives a generation that halted, or passed hosts over, a new try.
func Retry(v component.View, w component.Word) (component.Rollout, error) {
	r := v.Record()
	_, err := rolling(v)
	again := v.Desired.Status == component.StatusReady && (r.Status == component.RolloutHalted || len(r.Failed) > 0)
	switch {
	case again:
		err = nil
	case err == nil:
		err = conflict("generation %d goes on, and no host failed", r.Generation)
	}
	r.Status, r.Kind, r.Host, r.Reason, r.Log, r.Failed, r.At, r.Stays = component.RolloutProgressing, "", "", "", nil, nil, w.At, false
	r.Attempt++
	r.Begun = v.Desired.Follows != "" // whoever says so does not wait for another component
	return r, err
}
