package proxytest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// A mix says how many clients of each kind there are at once.
type mix struct {
	short  int           // a connection for each query
	keep   int           // up to 50 queries on a connection
	stream int           // 1 MiB, read slowly
	half   int           // up to 64 KiB, then the end of their half, then an answer
	pace   time.Duration // between two uses of a client, on average; 0 is full load
}

// A load is clients at work.
type load struct {
	addr   string
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	times []time.Duration // of each query, with its connection if it has one of its own
	done  int
	fails []error
}

func startLoad(t testing.TB, addr string, m mix) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{addr: addr, cancel: cancel}
	t.Cleanup(func() { l.stop() })
	for kind, n := range []int{m.short, m.keep, m.stream, m.half} {
		for i := range n {
			rnd := rand.New(rand.NewPCG(uint64(kind), uint64(i)))
			l.wg.Go(func() {
				rest(ctx, time.Duration(rnd.Int64N(int64(m.pace)+1)))
				for ctx.Err() == nil {
					if err := l.use(ctx, kind, rnd, m.pace); err != nil {
						l.note(0, fmt.Errorf("client of kind %d: %w", kind, err))
					}
					pause(ctx, rnd, m.pace)
				}
			})
		}
	}
	return l
}

// pause waits from half of to one and a half times d.
func pause(ctx context.Context, rnd *rand.Rand, d time.Duration) {
	if d > 0 {
		rest(ctx, d/2+time.Duration(rnd.Int64N(int64(d))))
	}
}

func (l *load) use(ctx context.Context, kind int, rnd *rand.Rand, pace time.Duration) error {
	switch kind {
	case 0:
		start := time.Now()
		if _, err := queryOnce(l.addr); err != nil {
			return err
		}
		l.note(time.Since(start), nil)
		return nil
	case 1:
		return l.keep(ctx, rnd, pace)
	case 2:
		if err := streamOnce(ctx, l.addr, rnd.Uint64(), 1<<20, time.Millisecond); err != nil {
			return err
		}
	default:
		if err := sumOnce(l.addr, rnd.Uint64(), rnd.Int64N(64<<10)); err != nil {
			return err
		}
	}
	l.note(0, nil)
	return nil
}

func (l *load) keep(ctx context.Context, rnd *rand.Rand, pace time.Duration) error {
	s, err := newSession(l.addr)
	if err != nil {
		return err
	}
	defer s.close()
	for range 1 + rnd.IntN(50) {
		if ctx.Err() != nil {
			return nil
		}
		start := time.Now()
		if _, err := s.query(); err != nil {
			return err
		}
		l.note(time.Since(start), nil)
		pause(ctx, rnd, pace)
	}
	return nil
}

func (l *load) note(took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.done++; {
	case err != nil:
		l.fails = append(l.fails, err)
	case took > 0:
		l.times = append(l.times, took)
	}
}

// lap returns the times since the last lap.
func (l *load) lap() spread {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := l.times
	l.times = nil
	return spreadOf(times)
}

// lapOf lets the load work for d and returns its times.
func (l *load) lapOf(d time.Duration) spread {
	l.lap()
	<-time.After(d)
	return l.lap()
}

// stop ends the clients and returns how much they did, and what failed.
func (l *load) stop() (done int, fails []error) {
	l.cancel()
	l.wg.Wait()
	return l.done, l.fails
}

// wantNoFailure stops the load and fails the test if anything was lost.
func (l *load) wantNoFailure(t testing.TB) {
	t.Helper()
	done, fails := l.stop()
	if len(fails) > 0 || done == 0 {
		t.Errorf("%d of %d uses of a connection failed, the first: %v", len(fails), done, fails[:min(3, len(fails))])
	}
	t.Logf("%d uses of a connection, %d failed", done, len(fails))
}

// A spread is what is worth knowing of many times.
type spread struct {
	n             int
	p50, p99, max time.Duration
}

func spreadOf(times []time.Duration) spread {
	if len(times) == 0 {
		return spread{}
	}
	slices.Sort(times)
	at := func(p int) time.Duration { return times[min(len(times)-1, len(times)*p/100)] }
	return spread{len(times), at(50), at(99), times[len(times)-1]}
}

func (s spread) String() string {
	r := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	return fmt.Sprintf("p50 %v, p99 %v, max %v of %d", r(s.p50), r(s.p99), r(s.max), s.n)
}
