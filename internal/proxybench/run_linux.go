package proxybench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// idleWithin is how long the connections of a TestIdle may take to be opened.
const idleWithin = time.Minute

// A snapshot is what was counted at one moment.
type snapshot struct {
	at         time.Time
	ops, bytes int64
	cpu, load  time.Duration
}

// Run does a job. It belongs in a process that does nothing else: it takes the processors it needs, and
// stops the collection of garbage.
func Run(ctx context.Context, j Job) (Result, error) {
	debug.SetGCPercent(-1)
	loops := j.loops()
	runtime.GOMAXPROCS(loops + 2)
	if j.Test == TestIdle {
		return runIdle(ctx, j)
	}
	var stage atomic.Int32
	clients, wait, err := begin(j, loops, &stage)
	if err != nil {
		return Result{}, err
	}
	snap := func() (snapshot, error) { return j.snapshot(clients) }
	before, after, err := window(ctx, j, &stage, snap)
	stage.Store(over)
	if runErr := wait(); err == nil {
		err = runErr
	}
	if err != nil {
		return Result{}, err
	}
	return result(clients, before, after), nil
}

// begin starts the loops. The function it returns waits for their end.
func begin(j Job, loops int, stage *atomic.Int32) (clients []*client, wait func() error, err error) {
	for i := range loops {
		c, err := newClient(j, (j.Conns+i)/loops, stage)
		if err != nil {
			return nil, nil, err
		}
		clients = append(clients, c)
	}
	var wg sync.WaitGroup
	errs := make([]error, loops)
	for i, c := range clients {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the loop
			errs[i] = c.run()
		})
	}
	return clients, func() error {
		wg.Wait()
		i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
		if i < 0 {
			return nil
		}
		return errs[i]
	}, nil
}

// window lets the job warm up and then count, and returns what there was before and after the counting.
func window(ctx context.Context, j Job, stage *atomic.Int32, snap func() (snapshot, error)) (before, after snapshot, err error) {
	if err = pass(ctx, j.Warm); err != nil {
		return before, after, err
	}
	if before, err = snap(); err != nil {
		return before, after, err
	}
	stage.Store(counting)
	if err = pass(ctx, j.For); err != nil {
		return before, after, err
	}
	after, err = snap()
	return before, after, err
}

// pass lets d go by.
func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (j Job) snapshot(clients []*client) (s snapshot, err error) {
	if s.load, err = processor(os.Getpid()); err != nil {
		return s, err
	}
	if j.PID != 0 {
		if s.cpu, err = sum(j.PID, processor); err != nil {
			return s, err
		}
	}
	s.at = time.Now()
	for _, c := range clients {
		s.ops += c.ops.Load()
		s.bytes += c.bytes.Load()
	}
	return s, nil
}

// result is what happened between two moments. All loops have ended.
func result(clients []*client, before, after snapshot) Result {
	r := Result{
		Ops: after.ops - before.ops, Bytes: after.bytes - before.bytes, Elapsed: after.at.Sub(before.at),
		CPU: after.cpu - before.cpu, LoadCPU: after.load - before.load,
	}
	var times []int64
	for _, c := range clients {
		times = append(times, c.times...)
		r.note(c)
	}
	slices.Sort(times)
	r.P50, r.P99 = percentile(times, 0.5), percentile(times, 0.99)
	return r
}

// note adds the errors of a client.
func (r *Result) note(c *client) {
	r.Errors += c.errors.Load()
	if c.first != nil && r.Error == "" {
		r.Error = c.first.Error()
	}
}

// runIdle opens the connections, a few at a time, and looks what they cost PID once they are silent.
func runIdle(ctx context.Context, j Job) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, idleWithin)
	defer cancel()
	memory, open, err := j.held()
	if err != nil {
		return r, err
	}
	var stage atomic.Int32
	c, err := newClient(j, j.Conns, &stage)
	if err != nil {
		return r, err
	}
	defer c.end()
	began := time.Now()
	if err := c.fill(ctx); err != nil {
		return r, err
	}
	if err := pass(ctx, j.Warm); err != nil {
		return r, err
	}
	memoryNow, openNow, err := j.held()
	r = Result{Ops: c.ops.Load(), Elapsed: time.Since(began), Memory: memoryNow - memory, Open: openNow - open}
	r.note(c)
	return r, err
}

// held is the memory and the descriptors of PID.
func (j Job) held() (memory, open int64, err error) {
	memory, err = sum(j.PID, resident)
	if err != nil {
		return 0, 0, err
	}
	open, err = sum(j.PID, descriptors)
	return memory, open, err
}

// atOnce is how many connections of a TestIdle are opened at the same time.
const atOnce = 64

// fill opens all connections; each has its answer at the end.
func (c *client) fill(ctx context.Context) error {
	for i := range c.conns {
		c.conns[i].fd = -1
	}
	for opened := 0; opened < len(c.conns) || int(c.ops.Load()) < len(c.conns); {
		for ; opened < len(c.conns) && opened-int(c.ops.Load()) < atOnce; opened++ {
			if err := c.open(int32(opened)); err != nil {
				return err
			}
		}
		events, err := c.wait()
		if err != nil {
			return err
		}
		for i := range events {
			if err := c.handle(events[i].Fd, events[i].Events); err != nil {
				return err
			}
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("open connections: %d of %d answered: %w", c.ops.Load(), len(c.conns), context.Cause(ctx))
		case c.errors.Load() >= maxErrors:
			return fmt.Errorf("open connections: %d of %d answered: %w", c.ops.Load(), len(c.conns), c.first)
		}
	}
	return nil
}
