package agent

import (
	"sync"

	"github.com/gantryd/gantryd/pkg/component"
)

// hubBuffer is how many events a slow subscriber may be behind before it loses some.
const hubBuffer = 4096

// A Hub hands events to all who listen. The zero value is ready; methods may be called at once.
type Hub struct {
	mu   sync.Mutex // guards what follows
	subs map[chan component.Event]string
}

// Publish hands e to the subscribers of its component. It never blocks: who does not keep up loses
// events, which are for people only.
func (h *Hub) Publish(e component.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch, name := range h.subs {
		if name != e.Component {
			continue
		}
		select {
		case ch <- e:
		default:
		}
	}
}

// Subscribe returns the events of a component from now on, until stop is called.
func (h *Hub) Subscribe(name string) (events <-chan component.Event, stop func()) {
	ch := make(chan component.Event, hubBuffer)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = make(map[chan component.Event]string)
	}
	h.subs[ch] = name
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, ch)
	}
}
