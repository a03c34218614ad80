package etcdstate_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

func always(etcdstate.Project) error { return nil }

// A drained host is in everybody's view until it is taken back.
func TestDrainIsSeenAndTakenBack(t *testing.T) {
	f := newFleet(t)
	a, b := f.host(t, "a", etcdstate.StoreOptions{}), f.host(t, "b", etcdstate.StoreOptions{})
	f.ready(t, "web", "sha256:aa")
	d, err := f.client.Drain(t.Context(), "p", "a", component.Word{By: "ann", Reason: "kernel"}, always)
	wantNil(t, "Drain", err)
	for _, h := range []*host{a, b} {
		eventually(t, "the word in the view of "+h.name, func() bool {
			is := h.View("web").Drained["a"]
			return is.Revision == d.Revision && is.Reason == "kernel" && !is.At.IsZero()
		})
	}
	no := errors.New("no")
	_, err = f.client.Drain(t.Context(), "p", "b", component.Word{}, func(p etcdstate.Project) error {
		if len(p.Drained) != 1 || len(p.Machines) != 2 {
			t.Errorf("decided over %v and %v", p.Drained, p.Machines)
		}
		return no
	})
	wantErr(t, "Drain that is refused", err, no)
	_, err = f.client.Undrain(t.Context(), "p", "a", func(etcdstate.Project) error { return no })
	wantErr(t, "Undrain that is refused", err, no)
	a.stop(t) // the word outlives its daemon
	f.revoke(t, "a")
	back, err := f.client.Undrain(t.Context(), "p", "a", always)
	if wantNil(t, "Undrain", err); back.Revision != d.Revision {
		t.Errorf("took %+v back, want %+v", back, d)
	}
	eventually(t, "no word in the view", func() bool { return len(b.View("web").Drained) == 0 })
}

// Of hosts that are drained at once each is decided on with those before it in sight, so one stays.
func TestDrainsAtOnceLeaveOneHost(t *testing.T) {
	f := newFleet(t)
	hosts := []string{"a", "b", "c", "d"}
	last := errors.New("the last one")
	var wg sync.WaitGroup
	errs := make([]error, len(hosts))
	for i, h := range hosts {
		wg.Go(func() {
			_, errs[i] = f.client.Drain(t.Context(), "p", h, component.Word{By: h}, func(p etcdstate.Project) error {
				if len(p.Drained) == len(hosts)-1 {
					return last
				}
				return nil
			})
		})
	}
	wg.Wait()
	refused := 0
	for i, err := range errs {
		if errors.Is(err, last) {
			refused++
		} else if err != nil {
			t.Errorf("drain of %s: %v", hosts[i], err)
		}
	}
	if refused != 1 {
		t.Errorf("%d hosts were refused, want 1: %v", refused, errs)
	}
}
