package workqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get takes the next key and fails when none comes within 20 s.
func get(t *testing.T, q *Queue[string]) (string, func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	k, done, err := q.Get(ctx)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return k, done
}

func TestBurstCostsOnePass(t *testing.T) {
	q := New[string]()
	for range 100 {
		q.Add("web")
	}
	if got, want := q.Len(), 1; got != want {
		t.Fatalf("Len after 100 times the same key = %d, want %d", got, want)
	}
	_, done := get(t, q)
	done()
	if got := q.Len(); got != 0 {
		t.Fatalf("Len after the pass = %d, want 0", got)
	}
}

func TestKeysComeInTheOrderTheyWereAdded(t *testing.T) {
	q := New[string]()
	for _, k := range []string{"c", "a", "b", "a", "c"} {
		q.Add(k)
	}
	var got []string
	for range 3 {
		k, done := get(t, q)
		got = append(got, k)
		q.Add(k) // a key that is always dirty goes to the end
		done()
	}
	k, done := get(t, q)
	done()
	got = append(got, k)
	if diff := cmp.Diff(got, []string{"c", "a", "b", "c"}); diff != "" {
		t.Fatalf("order (-got +want):\n%s", diff)
	}
}

func TestKeyMadeDirtyWhileBusyGetsOneMorePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[string]()
		passes := work(t, q, 4, time.Second)
		for range 100 {
			q.Add("web")
		}
		q.Add("db")
		time.Sleep(500 * time.Millisecond)
		for range 100 {
			q.Add("web")
		}
		time.Sleep(10 * time.Second)
		q.Close()
		if diff := cmp.Diff(passes(), map[string]int{"web": 2, "db": 1}); diff != "" {
			t.Fatalf("passes (-got +want):\n%s", diff)
		}
	})
}

// work starts n workers that hold each key for pass, and fails when a key is in two hands. What it
// returns waits for the workers, which end when the queue is closed, and counts their passes.
func work(t *testing.T, q *Queue[string], n int, pass time.Duration) func() map[string]int {
	t.Helper()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		held   = map[string]bool{}
		passes = map[string]int{}
	)
	hold := func(k string, held map[string]bool, now bool) {
		mu.Lock()
		defer mu.Unlock()
		if held[k] == now {
			t.Errorf("key %q is in two hands", k)
		}
		held[k] = now
	}
	worker := func() {
		for {
			k, done, err := q.Get(t.Context())
			if err != nil {
				return
			}
			hold(k, held, true)
			if pass > 0 {
				<-time.After(pass)
			}
			hold(k, held, false)
			mu.Lock()
			passes[k]++
			mu.Unlock()
			done()
		}
	}
	for range n {
		wg.Go(worker)
	}
	return func() map[string]int {
		wg.Wait()
		return passes
	}
}

func TestAddAfter(t *testing.T) {
	tests := []struct {
		name string
		do   func(q *Queue[string])
		want []time.Duration // when the passes come, those within an hour
	}{
		{
			name: "comes when the time has passed",
			do:   func(q *Queue[string]) { q.AddAfter("k", 5*time.Second) },
			want: []time.Duration{5 * time.Second},
		},
		{
			name: "zero and negative delays come at once",
			do: func(q *Queue[string]) {
				q.AddAfter("k", 0)
				q.AddAfter("k", -time.Second)
			},
			want: []time.Duration{0},
		},
		{
			name: "a later one collapses into an earlier one",
			do: func(q *Queue[string]) {
				q.AddAfter("k", 5*time.Second)
				q.AddAfter("k", 9*time.Second)
				q.AddAfter("k", 5*time.Second)
			},
			want: []time.Duration{5 * time.Second},
		},
		{
			name: "an earlier one replaces a later one",
			do: func(q *Queue[string]) {
				q.AddAfter("k", 9*time.Second)
				q.AddAfter("k", 5*time.Second)
			},
			want: []time.Duration{5 * time.Second},
		},
		{
			name: "an immediate one does not take a delayed one's place",
			do: func(q *Queue[string]) {
				q.AddAfter("k", 5*time.Second)
				q.Add("k")
			},
			want: []time.Duration{0, 5 * time.Second},
		},
		{
			name: "once it came, a new one may be asked for",
			do: func(q *Queue[string]) {
				q.AddAfter("k", time.Second)
				time.Sleep(2 * time.Second)
				q.AddAfter("k", time.Second)
			},
			want: []time.Duration{time.Second, 3 * time.Second},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := New[string]()
				start := time.Now()
				var got []time.Duration
				var wg sync.WaitGroup
				wg.Go(func() {
					for {
						_, done, err := q.Get(t.Context())
						if err != nil {
							return
						}
						got = append(got, time.Since(start))
						done()
					}
				})
				synctest.Wait()
				tt.do(q)
				time.Sleep(time.Hour)
				q.Close()
				wg.Wait()
				if diff := cmp.Diff(got, tt.want); diff != "" {
					t.Fatalf("passes (-got +want):\n%s", diff)
				}
			})
		})
	}
}

func TestGetEndsWithItsContext(t *testing.T) {
	cause := errors.New("host is going away")
	q := New[string]()
	ctx, cancel := context.WithCancelCause(t.Context())
	errs := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _, err := q.Get(ctx)
		errs <- err
	})
	cancel(cause)
	wg.Wait()
	if got := <-errs; !errors.Is(got, cause) {
		t.Fatalf("Get = %v, want %v", got, cause)
	}
	q.Add("web")
	if _, _, err := q.Get(ctx); !errors.Is(err, cause) {
		t.Fatalf("Get with a key waiting and an ended context = %v, want %v", err, cause)
	}
	if k, _ := get(t, q); k != "web" {
		t.Fatalf("the key another worker left = %q, want %q", k, "web")
	}
}

// TestEndedWorkerTakesNoWakeUpWithIt ends one of two waiting workers while a key comes in.
func TestEndedWorkerTakesNoWakeUpWithIt(t *testing.T) {
	for range 2000 {
		synctest.Test(t, func(t *testing.T) {
			q := New[string]()
			ending, end := context.WithCancel(t.Context())
			var passes atomic.Int32
			var wg sync.WaitGroup
			worker := func(ctx context.Context) {
				for {
					_, done, err := q.Get(ctx)
					if err != nil {
						return
					}
					passes.Add(1)
					done()
				}
			}
			wg.Go(func() { worker(ending) })
			wg.Go(func() { worker(t.Context()) })
			synctest.Wait()
			q.Add("web")
			end()
			synctest.Wait()
			q.Close()
			wg.Wait()
			if got := passes.Load(); got != 1 {
				t.Fatalf("passes = %d, want 1", got)
			}
		})
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[string]()
		q.Add("busy")
		_, done := get(t, q)
		q.Add("busy")
		q.Add("waiting")
		q.AddAfter("later", time.Second)
		q.Close()
		q.Close()
		q.Add("web")
		q.AddAfter("web", 0)
		q.AddAfter("web", time.Second)
		done()
		done()
		time.Sleep(time.Minute)
		if got := q.Len(); got != 0 {
			t.Errorf("Len of a closed queue = %d, want 0", got)
		}
		if _, _, err := q.Get(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Get from a closed queue = %v, want %v", err, ErrClosed)
		}
	})
}

func TestDoneTwiceDoesNotFreeSomebodyElsesKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[string]()
		q.Add("web")
		_, first := get(t, q)
		first()
		q.Add("web")
		_, second := get(t, q)
		first()
		q.Add("web")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if k, _, err := q.Get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Get while the key is busy = %q, %v, want %v", k, err, context.DeadlineExceeded)
		}
		second()
		if k, _ := get(t, q); k != "web" {
			t.Fatalf("Get = %q, want %q", k, "web")
		}
	})
}

// TestNothingIsLost adds from many sides at once: whatever is added after a pass began gets a pass
// that begins later.
func TestNothingIsLost(t *testing.T) {
	const keys, adders, adds, workers = 5, 4, 500, 4
	q := New[int]()
	var added, seen [keys]atomic.Int64
	var workersDone, addersDone sync.WaitGroup
	caughtUp := make(chan struct{}, 1)
	for range workers {
		workersDone.Go(func() {
			for {
				k, done, err := q.Get(t.Context())
				if err != nil {
					return
				}
				seen[k].Store(added[k].Load())
				done()
				select {
				case caughtUp <- struct{}{}:
				default:
				}
			}
		})
	}
	for a := range adders {
		addersDone.Go(func() {
			for i := range adds {
				k := (a + i) % keys
				added[k].Add(1)
				if i%3 == 0 {
					q.AddAfter(k, time.Duration(i%7)*time.Microsecond)
					continue
				}
				q.Add(k)
			}
		})
	}
	addersDone.Wait()
	behind := func() (string, bool) {
		for k := range keys {
			if s, a := seen[k].Load(), added[k].Load(); s != a {
				return fmt.Sprintf("key %d: last pass saw %d of %d", k, s, a), true
			}
		}
		return "", false
	}
	deadline := time.After(30 * time.Second)
	for {
		what, late := behind()
		if !late {
			break
		}
		select {
		case <-caughtUp:
		case <-deadline:
			t.Fatal(what)
		}
	}
	q.Close()
	workersDone.Wait()
}

func TestWorkersNeverShareAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[string]()
		passes := work(t, q, 8, 0)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range 2000 {
					q.Add([]string{"a", "b", "c"}[i%3])
				}
			})
		}
		wg.Wait()
		synctest.Wait() // every worker waits for a key: nothing is left to do
		if got := q.Len(); got != 0 {
			t.Errorf("keys left = %d, want 0", got)
		}
		q.Close()
		for _, k := range []string{"a", "b", "c"} {
			if passes()[k] == 0 {
				t.Errorf("no pass over %q", k)
			}
		}
	})
}

func BenchmarkAddGetDone(b *testing.B) {
	q := New[int]()
	ctx := b.Context()
	for i := 0; b.Loop(); i++ {
		q.Add(i % 64)
		_, done, err := q.Get(ctx)
		if err != nil {
			b.Fatal(err)
		}
		done()
	}
}
