package fleettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A Visit is one client's only request, over a connection of its own.
type Visit struct {
	Begun time.Time     // when it asked for the connection
	Took  time.Duration // until the answer, or the failure
	Err   error
}

// Visits are clients that come one after another and ask once each.
type Visits struct {
	ask  func() error
	stop chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	mu   sync.Mutex // guards what follows
	seen []Visit
}

// StartVisits lets a client come every so often until Stop, whatever becomes of the ones before.
func StartVisits(t testing.TB, every time.Duration, ask func(context.Context) error) *Visits {
	t.Helper()
	within := t.Context()
	v := &Visits{stop: make(chan struct{}), ask: func() error {
		ctx, cancel := context.WithTimeout(within, 3*patience)
		defer cancel()
		return ask(ctx)
	}}
	v.wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			v.Visit(1)
			select {
			case <-tick.C:
			case <-v.stop:
				return
			}
		}
	})
	t.Cleanup(func() { v.Stop() })
	return v
}

// Visit lets n clients come at once.
func (v *Visits) Visit(n int) {
	for range n {
		v.wg.Go(func() {
			begun := time.Now()
			err := v.ask()
			v.mu.Lock()
			defer v.mu.Unlock()
			v.seen = append(v.seen, Visit{begun, time.Since(begun), err})
		})
	}
}

// Failed is how many have failed so far.
func (v *Visits) Failed() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, seen := range v.seen {
		if seen.Err != nil {
			n++
		}
	}
	return n
}

// Stop lets nobody come any more, waits for those that are there, and returns what they saw.
func (v *Visits) Stop() []Visit {
	v.once.Do(func() { close(v.stop) })
	v.wg.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seen
}

// EchoAt asks the TCP echo at addr, host:port, for one message back.
func EchoAt(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("refused: %w", err)
		}
		defer conn.Close()
		if deadline, ok := ctx.Deadline(); ok {
			if err := conn.SetDeadline(deadline); err != nil {
				return err
			}
		}
		const message = "hello\n"
		if _, err := io.WriteString(conn, message); err != nil {
			return err
		}
		got := make([]byte, len(message))
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if string(got) != message {
			return errors.New("another echo")
		}
		return nil
	}
}

// PageAt asks for url over a connection of its own.
func PageAt(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		tr := &http.Transport{DisableKeepAlives: true}
		defer tr.CloseIdleConnections()
		_, err := Get(ctx, &http.Client{Transport: tr}, url)
		return err
	}
}
