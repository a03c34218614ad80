package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/pkg/component"
)

// believeFor is how long an answer of the Engine is given again, unless something changed since. It
// spans the handful of passes of one turn, each of which wants to see everything.
const believeFor = time.Second

// A recent is what the Engine answered a moment ago. It counts only while the event stream is open
// and until an event or a call of our own that changes something.
type recent struct {
	believe time.Duration // believeFor

	mu       sync.Mutex // guards what follows
	watching bool       // events come in
	changes  uint64     // grows with every change
	listed   time.Time
	list     []component.EngineContainer // nil: not known
	images   map[string]seenImage        // by the ID asked for
}

type seenImage struct {
	at  time.Time
	got image.InspectResponse
}

// containers returns a list that is still good. Without one, changes is what to give to keep.
func (r *recent) containers() (list []component.EngineContainer, changes uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil || time.Since(r.listed) > r.believe {
		return nil, r.changes, false
	}
	return slices.Clone(r.list), r.changes, true
}

// keep remembers a list that was asked for at a time when changes was what containers said.
func (r *recent) keep(list []component.EngineContainer, asked time.Time, changes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watching && r.changes == changes {
		r.list, r.listed = slices.Clone(list), asked
	}
}

// changed forgets the list.
func (r *recent) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	r.list = nil
}

// watch says whether events come in from now on.
func (r *recent) watch(open bool) {
	r.changed()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watching = open
	r.images = make(map[string]seenImage)
}

// image returns what is known of an image by its ID.
func (r *recent) image(id string) (image.InspectResponse, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, ok := r.images[id]
	return seen.got, ok && time.Since(seen.at) <= r.believe
}

func (r *recent) keepImage(id string, got image.InspectResponse, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.watching {
		return
	}
	for old, seen := range r.images {
		if time.Since(seen.at) > r.believe {
			delete(r.images, old)
		}
	}
	r.images[id] = seenImage{asked, got}
}

// forgetImages is for a pull or a removal of our own.
func (r *recent) forgetImages() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.images)
}

// imageByID is inspectImage for an ID, or what it answered a moment ago.
func (e *Engine) imageByID(ctx context.Context, id string) (image.InspectResponse, error) {
	if got, ok := e.recent.image(id); ok {
		return got, nil
	}
	asked := time.Now()
	got, err := e.inspectImage(ctx, id)
	if err == nil {
		e.recent.keepImage(id, got, asked)
	}
	return got, err
}

// change is call for what changes containers: no list from before or from meanwhile is given again.
func (e *Engine) change(ctx context.Context, d time.Duration, f func(context.Context, *client.Client) error) error {
	e.recent.changed()
	defer e.recent.changed()
	return e.call(ctx, d, f)
}
