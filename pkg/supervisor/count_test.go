package supervisor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// leave sets who is left of a container; f may change each connection.
func (r *memRouter) leave(id string, n int, f func(i int, c *component.Connection)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == nil {
		r.left = map[string][]component.Connection{}
	}
	old := r.left[id]
	r.left[id], r.conns[id] = nil, n
	for i := range n {
		c := component.Connection{Client: fmt.Sprintf("192.0.2.1:%d", 1000+i), Since: time.Now(), Active: time.Now()}
		if i < len(old) {
			c = old[i]
		}
		if f != nil {
			f(i, &c)
		}
		r.left[id] = append(r.left[id], c)
	}
}

func TestWhoIsLeftIsToldAtABoundedRate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(3 * time.Second)
		w.router.leave("c1", 30, nil)
		w.after(10 * time.Second)
		if left := w.published().Containers[0].Left; left != nil {
			t.Errorf("told who is connected to a container that serves: %v", left)
		}
		drain := component.Duration(time.Hour)
		spec := web()
		spec.Drain.Timeout = drain
		w.update("v2", spec)
		w.after(5 * time.Second)
		st := w.published().Containers[0]
		if st.ID != "c1" || st.Connections != 30 || len(st.Left) != component.MaxLeft || st.Left[0].Client != "192.0.2.1:1000" {
			t.Fatalf("published %+v, want the %d oldest of 30 connections", st, component.MaxLeft)
		}
		if !st.DrainsUntil.Equal(st.DrainsSince.Add(time.Hour)) || time.Since(st.DrainsSince) > 10*time.Second {
			t.Errorf("drains from %v until %v, want an hour from now", st.DrainsSince, st.DrainsUntil)
		}

		before := w.store.writes()
		for range 600 { // one of them is busy, for a minute
			w.router.leave("c1", 30, func(i int, c *component.Connection) {
				if i == 3 {
					c.BytesIn, c.Active = c.BytesIn+10, time.Now()
				}
			})
			w.after(100 * time.Millisecond)
		}
		if n := w.store.writes() - before; n < 4 || n > 7 {
			t.Errorf("%d writes in a minute in which only bytes went, want one each 10 s", n)
		}
		w.after(14 * time.Second)
		if got := w.published().Containers[0].Left[3]; got.BytesIn != 6000 {
			t.Errorf("published %+v, want all 6000 bytes", got)
		}

		before = w.store.writes()
		w.after(time.Minute)
		if n := w.store.writes() - before; n > 2 {
			t.Errorf("%d writes in a minute in which nothing happened", n)
		}

		w.router.leave("c1", 2, nil)
		w.after(3 * time.Second)
		if got := w.published().Containers[0]; got.Connections != 2 || len(got.Left) != 2 {
			t.Errorf("published %d connections, %d told of, want the 2 that are left", got.Connections, len(got.Left))
		}
	})
}

// A change of counts that comes too soon after a write is not forgotten.
func TestLastCountIsPublished(t *testing.T) {
	inWorld(t, func(w *world) {
		w.update("v1", web())
		w.after(10 * time.Second)
		w.router.setConns("c1", 1)
		w.after(3 * time.Second)
		w.router.setConns("c1", 7)
		w.after(8 * time.Second)
		if got := w.published().Containers[0].Connections; got != 7 {
			t.Errorf("published %d connections, want the last count, 7", got)
		}
	})
}
